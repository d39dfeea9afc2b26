//! The interface from C and C++: the clients in `tests/c`, compiled with all warnings as errors,
//! run under AddressSanitizer and UBSan, against the libraries that cargo has just built and a
//! recorded run of a real engine.
//!
//! Skipped, and said so, where there is no C compiler: `CC` and `CXX` name others than `cc` and
//! `c++`.
// A test starts compilers, reads files, prints and gives up; the library does not.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]
// eprintln! would be hidden where the test passes.
#![allow(clippy::explicit_write)]

use kvsched_testdata::capture::{Capture, Message, Step};
use kvsched_testdata::{Vectors, capture, vector_files};
use std::env;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const LIBRARIES: [&str; 3] = ["-pthread", "-ldl", "-lm"];

/// The compiler that the environment names, if it runs.
fn compiler(variable: &str, default: &str) -> Option<String> {
    let name = env::var(variable).unwrap_or_else(|_| default.to_owned());
    let found = Command::new(&name).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        skipped(&format!("no compiler: `{name}` does not run; set {variable} to one that does"));
    }
    found.then_some(name)
}

/// Says what was left out, also where the output of tests that pass is hidden.
fn skipped(what: &str) {
    writeln!(std::io::stderr(), "SKIPPED: {what}").unwrap();
}

/// Where cargo put the libraries that this test was built with.
fn libraries() -> PathBuf {
    let test = env::current_exe().unwrap();
    let deps = test.parent().unwrap();
    assert!(deps.join("libkvsched_ffi.a").is_file(), "no library in {}", deps.display());
    deps.to_owned()
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // What an earlier checkout left with the same target directory is in the way of CMake.
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("fixture.h"), fixture()).unwrap();
    folder
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    output
}

fn succeed(command: &mut Command) {
    let output = run(command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
}

fn strict(compiler: &str, standard: &str, folder: &Path) -> Command {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(compiler);
    command.args([standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-O1"]);
    command.arg("-I").arg(crate_dir.join("include")).arg("-I").arg(folder);
    command
}

#[test]
fn a_c_client_uses_every_call_under_sanitizers() {
    let Some(cc) = compiler("CC", "cc") else { return };
    let folder = folder("c-client");
    let client = folder.join("client");
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let compile = |name: &str, flags: &[&str]| {
        let mut command = strict(&cc, "-std=c11", &folder);
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c");
        command.args(flags);
        command.args(
            ["client.c", "parts.c", "alone.c", "misuse.c"].map(|source| sources.join(source)),
        );
        command.arg(libraries().join("libkvsched_ffi.a")).args(LIBRARIES);
        command.arg("-o").arg(folder.join(name));
        command
    };
    let probe = folder.join("probe.c");
    std::fs::write(&probe, "int main(void) { return 0; }\n").unwrap();
    let mut try_out = Command::new(&cc);
    try_out.args(sanitizers).arg(&probe).arg("-o").arg(folder.join("probe"));
    if !try_out.output().unwrap().status.success() {
        skipped(&format!("the sanitizers: `{cc}` has none; the client runs without them"));
        succeed(&mut compile("client", &[]));
        succeed(&mut Command::new(&client));
        return;
    }
    succeed(&mut compile("client", &sanitizers));
    succeed(&mut Command::new(&client));
    for (mistake, message) in [
        ("address", "AddressSanitizer: heap-buffer-overflow"),
        ("undefined", "runtime error: signed integer overflow"),
        ("leak", "LeakSanitizer: detected memory leaks"),
    ] {
        let output = run(Command::new(&client).arg(mistake));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "a provoked mistake passed: {mistake}");
        assert!(said.contains(message), "the sanitizers are off: {mistake}: {said}");
    }
    println!("the sanitizers are on: each of three provoked mistakes was caught");
}

/// Every call of the header, with NULL, with pointers that are not aligned, and with memory that is no
/// handle: a status that says so.
#[test]
fn every_call_refuses_what_is_no_pointer_or_no_handle() {
    let Some(cc) = compiler("CC", "cc") else { return };
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = std::fs::read_to_string(crate_dir.join("include/kvsched.h")).unwrap();
    let calls: Vec<(&str, Vec<&str>)> = header
        .split("\nkvsched_status ")
        .skip(1)
        .map(|rest| rest.split(");").next().unwrap().split_once('(').unwrap())
        .map(|(name, parameters)| (name, parameters.split(',').map(str::trim).collect()))
        .collect();
    assert!(calls.len() > 50, "only {} calls were found", calls.len());
    let mut program = String::from(
        "#include \"kvsched.h\"\n#include <stdio.h>\n\n\
         static const kvsched_str none, odd_text = {(const uint8_t *)\"\", 1};\n\
         static union { uint64_t aligned; char bytes[8192]; } memory;\n\n\
         int main(void) {\n  char *odd = memory.bytes + 1;\n",
    );
    for (name, parameters) in &calls {
        let call = |number: &str, pointer: &str, text: &str| {
            let value = |parameter: &&str| match parameter {
                p if p.contains('*') => pointer,
                p if p.contains("struct kvsched_str") => text,
                _ => number,
            };
            let values: Vec<_> = parameters.iter().map(value).collect();
            format!("  printf(\"{name} %u\\n\", (unsigned){name}({}));\n", values.join(", "))
        };
        program += &call("0", "NULL", "none");
        program += &call("1", "(void *)odd", "odd_text");
        if parameters[0].starts_with("const struct kvsched_") {
            program += &call("0", "(void *)&memory", "odd_text");
        }
    }
    program += "  return 0;\n}\n";
    let folder = folder("wrong");
    std::fs::write(folder.join("wrong.c"), program).unwrap();
    let mut command = strict(&cc, "-std=c11", &folder);
    command.arg(folder.join("wrong.c")).arg(libraries().join("libkvsched_ffi.a")).args(LIBRARIES);
    succeed(command.arg("-o").arg(folder.join("wrong")));
    let output = Command::new(folder.join("wrong")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: the last was {:?}", output.status, said.lines().last());
    let mut seen = [0; 60];
    for line in said.lines() {
        let (name, status) = line.split_once(' ').unwrap();
        let status: usize = status.parse().unwrap();
        // To free NULL is allowed; everything else is not.
        assert!(status != 1 || name.ends_with("_free"), "{name} took what it was given");
        assert!(status != 22, "{name} panicked");
        seen[status] += 1;
    }
    let (null, misaligned, wrong) = (seen[10], seen[11], seen[13]);
    assert!(null > 40 && misaligned > 40 && wrong > 30, "{null} {misaligned} {wrong}");
}

#[test]
fn a_cpp_client_finds_the_hits_through_the_shared_library() {
    let Some(cxx) = compiler("CXX", "c++") else { return };
    let folder = folder("cpp-client");
    let client = folder.join("client");
    let libraries = libraries();
    let mut command = strict(&cxx, "-std=c++17", &folder);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/client.cpp"));
    command.arg("-L").arg(&libraries).arg("-Wl,-rpath,".to_owned() + &libraries.to_string_lossy());
    // Of both libraries of the name, the linker takes the shared one.
    succeed(command.arg("-lkvsched_ffi").arg("-o").arg(&client));
    succeed(&mut Command::new(&client));
}

#[test]
fn the_readmes_example_does_what_the_readme_says() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(crate_dir.join("README.md")).unwrap();
    let shown = readme.split("```c\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let example = std::fs::read_to_string(crate_dir.join("examples/cmake/route.c")).unwrap();
    assert_eq!(example.split_once('\n').unwrap().1, shown, "route.c is the README's example");

    let Some(cc) = compiler("CC", "cc") else { return };
    let folder = folder("readme");
    let mut command = strict(&cc, "-std=c11", &folder);
    command.arg(crate_dir.join("examples/cmake/route.c"));
    command.arg(libraries().join("libkvsched_ffi.a")).args(LIBRARIES);
    succeed(command.arg("-o").arg(folder.join("route")));
    let output = run(&mut Command::new(folder.join("route")));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "endpoint 1, 0 of 6 blocks cached\n");
    assert!(readme.contains(&format!("It prints `{}`", said.trim())));

    if Command::new("cmake").arg("--version").output().is_err() {
        return skipped("the CMake example: there is no cmake");
    }
    let build = folder.join("cmake");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(crate_dir.join("examples/cmake")).arg("-B").arg(&build);
    configure.arg(format!("-DKVSCHED_LIBRARY_DIR={}", libraries().display()));
    succeed(&mut configure);
    succeed(Command::new("cmake").arg("--build").arg(&build));
    assert_eq!(run(&mut Command::new(build.join("route"))).stdout, said.as_bytes());
}

/// Installed under a prefix, as kvsched.pc.in says, the library is found by pkg-config: the shared one,
/// and alone the static one.
#[test]
fn pkg_config_tells_how_to_compile() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let template = std::fs::read_to_string(crate_dir.join("kvsched.pc.in")).unwrap();
    let version = concat!("\nVersion: ", env!("CARGO_PKG_VERSION"), "\n");
    assert!(template.contains(version), "kvsched.pc.in has another version");
    if Command::new("pkg-config").arg("--version").output().is_err() {
        return skipped("pkg-config: there is none");
    }
    let Some(cc) = compiler("CC", "cc") else { return };
    let prefix = folder("pkg-config");
    let (lib, include) = (prefix.join("lib"), prefix.join("include"));
    std::fs::create_dir(&lib).unwrap();
    std::fs::create_dir(&include).unwrap();
    let filled = template.replace("@PREFIX@", prefix.to_str().unwrap());
    std::fs::write(prefix.join("kvsched.pc"), filled).unwrap();
    std::fs::copy(crate_dir.join("include/kvsched.h"), include.join("kvsched.h")).unwrap();
    let flags = |options: &[&str]| {
        let mut ask = Command::new("pkg-config");
        ask.args(options).arg("kvsched").env("PKG_CONFIG_PATH", &prefix);
        let said = String::from_utf8(ask.output().unwrap().stdout).unwrap();
        said.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let built = libraries();
    for (library, options) in [
        ("libkvsched_ffi.a", &["--cflags", "--libs", "--static"][..]),
        ("libkvsched_ffi.so", &["--cflags", "--libs"]),
    ] {
        std::fs::hard_link(built.join(library), lib.join(library)).unwrap();
        let mut command = Command::new(&cc);
        command.arg(crate_dir.join("examples/cmake/route.c")).args(flags(options));
        command.arg("-o").arg(prefix.join("route"));
        succeed(&mut command);
        let output = run(Command::new(prefix.join("route")).env("LD_LIBRARY_PATH", &lib));
        assert_eq!(output.stdout, b"endpoint 1, 0 of 6 blocks cached\n", "{library}");
        let (program, name) = (std::fs::read(prefix.join("route")).unwrap(), b"libkvsched_ffi.so");
        let shared = program.windows(name.len()).any(|bytes| bytes == name);
        assert_eq!(shared, library.ends_with(".so"), "{library} was linked");
    }
}

/// The first recording of the repository, as C.
fn fixture() -> String {
    let file = vector_files(Vectors::EngineCapture).unwrap().remove(0);
    let captures = capture::read(&file).unwrap();
    let capture = &captures[0];
    let settings = &capture.settings;
    let mut h = String::from("#include <stddef.h>\n#include <stdint.h>\n\n");
    let seed = settings.seed.as_deref().map_or("NULL".to_owned(), |seed| format!("{seed:?}"));
    for (name, value) in [
        ("VERSION", format!("{:?}", capture.version())),
        ("ALGORITHM", format!("{:?}", settings.algo)),
        ("SEED", seed),
        ("BLOCK", settings.block.to_string()),
    ] {
        writeln!(h, "#define FIXTURE_{name} {value}").unwrap();
    }
    h += "\nstruct step {\n  const char *label;\n  const uint8_t *payload;\n  size_t payload_len;\n  \
          uint64_t sequence;\n  const uint32_t *tokens;\n  size_t tokens_len;\n  const char *lora, \
          *lora_path;\n  int64_t lora_int_id;\n  const char *salt;\n  const uint8_t *embeds;\n  \
          size_t embeds_len, embeds_row;\n  uint32_t cached;\n  int exact;\n};\n\n";
    let mut steps = String::new();
    let mut messages = capture.messages.iter().peekable();
    let mut reset = false;
    for (i, step) in capture.requests.iter().enumerate() {
        let Step::Request(request) = step else {
            reset = true;
            continue;
        };
        array(&mut h, &format!("uint32_t tokens_{i}"), &request.prompt_token_ids);
        let mut embeds = "NULL, 0, 0".to_owned();
        if let Some(e) = &request.prompt_embeds {
            array(&mut h, &format!("uint8_t embeds_{i}"), &e.raw_le_hex.0);
            embeds = format!("embeds_{i}, {}, {}", e.raw_le_hex.0.len(), e.row_bytes());
        }
        let text = |t: &Option<String>| t.as_ref().map_or("NULL".to_owned(), |t| format!("{t:?}"));
        // Concurrent requests hit blocks that nobody had announced yet; so does the first one
        // after a reset that the engine does not announce.
        let exact = !request.is_concurrent() && !reset;
        reset &= request.is_concurrent();
        writeln!(
            steps,
            "  {{{:?}, NULL, 0, 0, tokens_{i}, {}, {}, {}, {}, {}, {embeds}, {}, {}}},",
            request.label,
            request.prompt_token_ids.len(),
            text(&request.lora_name),
            text(&request.lora_path),
            request.lora_int_id.unwrap_or_default(),
            text(&request.cache_salt),
            request.num_cached_tokens,
            u8::from(exact),
        )
        .unwrap();
        while let Some(message) = messages.next_if(|m| arrived(capture, m, i)) {
            let sequence = message.sequence().unwrap();
            array(&mut h, &format!("uint8_t message_{sequence}"), message.payload());
            let len = message.payload().len();
            writeln!(
                steps,
                "  {{\"message\", message_{sequence}, {len}, {sequence}, NULL, 0, NULL, NULL, 0, \
                 NULL, NULL, 0, 0, 0, 0}},"
            )
            .unwrap();
        }
    }
    h + "\nstatic const struct step STEPS[] = {\n" + &steps + "};\n"
}

fn array(h: &mut String, name: &str, values: &[impl ToString]) {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    writeln!(h, "static const {name}[] = {{{}}};", values.join(", ")).unwrap();
}

/// Whether a message had arrived when step `done` was over: none of a batch of concurrent requests
/// may be predicted from messages of its own.
fn arrived(capture: &Capture, message: &Message, done: usize) -> bool {
    !capture.requests[done + 1..]
        .iter()
        .any(|step| matches!(step, Step::Request(later) if later.batch() == message.during))
}
