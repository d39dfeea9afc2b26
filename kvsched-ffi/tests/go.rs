//! The Go packages' own tests, against the static library in its release build: `go/test.sh`, but for the
//! modules that download Kubernetes.
//!
//! Skipped, and said so, where there is no `go`, no C compiler or, for modules with dependencies, no network.
// A test starts a shell, prints and gives up; the library does not.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]
// eprintln! would be hidden where the test passes.
#![allow(clippy::explicit_write)]

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

#[test]
fn the_go_packages_pass_their_tests() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("go/test.sh");
    let output =
        match Command::new("sh").arg(script).args(["core", "engine", "examples/router"]).output() {
            Ok(output) => output,
            Err(e) => return tell(&format!("SKIPPED: the Go tests: no shell runs: {e}")),
        };
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}", output.status);
    let skipped: Vec<_> = said.lines().filter(|line| line.starts_with("SKIPPED")).collect();
    for line in &skipped {
        tell(line);
    }
    tell(
        "SKIPPED: the Go tests of bench and epp, which download Kubernetes: kvsched-ffi/go/test.sh has all",
    );
    let passed = said.lines().filter(|line| line.starts_with("ok")).count();
    assert!(passed > 0 || !skipped.is_empty(), "nothing was tested, and nothing said why: {said}");
}

/// Also where the output of tests that pass is hidden.
fn tell(what: &str) {
    writeln!(std::io::stderr(), "{what}").unwrap();
}
