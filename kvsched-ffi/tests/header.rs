//! `include/kvsched.h` is what cbindgen makes of the source. After a change of the interface:
//! `KVSCHED_BLESS=1 cargo test -p kvsched-ffi --test header`.
// A test reads files and its environment, and gives up; the library does not.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use cbindgen::{Builder, Config, DocumentationStyle, EnumConfig, Language, RenameRule, Style};
use std::collections::HashMap;
use std::path::Path;

/// Rust's names of the types, and C's.
const TYPES: [(&str, &str); 27] = [
    ("Candidate", "kvsched_candidate"),
    ("CustomScorer", "kvsched_scorer"),
    ("Decision", "kvsched_decision"),
    ("Error", "kvsched_error"),
    ("Extras", "kvsched_extras"),
    ("Hasher", "kvsched_hasher"),
    ("History", "kvsched_history"),
    ("Index", "kvsched_index"),
    ("IndexStats", "kvsched_index_stats_row"),
    ("Ingested", "kvsched_ingested"),
    ("Multimodal", "kvsched_multimodal"),
    ("Outstanding", "kvsched_outstanding_work"),
    ("Ranked", "kvsched_ranked"),
    ("Request", "kvsched_request"),
    ("Scheduler", "kvsched_scheduler"),
    ("Restore", "kvsched_restore"),
    ("ScoreFn", "kvsched_score_fn"),
    ("ScoredRequest", "kvsched_scored_request"),
    ("ScoredRow", "kvsched_scored_row"),
    ("Scratch", "kvsched_scratch"),
    ("Settings", "kvsched_settings"),
    ("Snapshot", "kvsched_snapshot"),
    ("Stats", "kvsched_stats"),
    ("Status", "kvsched_status"),
    ("Stream", "kvsched_stream"),
    ("Str", "kvsched_str"),
    ("TrustReport", "kvsched_trust_report"),
];

const TOP: &str = "\
/* kvsched: which endpoint should serve this prompt?
 *
 * Copyright: the kvsched authors. Licence: Apache-2.0.
 *
 * Every call that can fail returns a kvsched_status and, where `error` is not NULL, says there in
 * words what was wrong. Outputs are written only by calls that return KVSCHED_STATUS_OK, but for
 * lengths, which BUFFER_TOO_SMALL writes too. Texts are not NUL-terminated unless it is said.
 *
 * How to use it, with the rules for threads and memory: kvsched-ffi/README.md.
 * Generated from the Rust source; changes made here are lost. */";

const BOTTOM: &str = "\
#ifdef __cplusplus
extern \"C\" {
#endif

/** A NUL-terminated text as a kvsched_str; NULL stays NULL. */
static inline kvsched_str kvsched_text(const char *text) {
  kvsched_str result = {(const uint8_t *)text, text ? strlen(text) : 0};
  return result;
}

#ifdef __cplusplus
}
#endif";

fn generate(crate_dir: &Path) -> String {
    let rename: HashMap<String, String> =
        TYPES.iter().map(|&(rust, c)| (rust.to_owned(), c.to_owned())).collect();
    let mut config = Config {
        language: Language::C,
        style: Style::Both,
        cpp_compat: true,
        documentation_style: DocumentationStyle::C99,
        no_includes: true,
        usize_is_size_t: true,
        header: Some(TOP.to_owned()),
        trailer: Some(BOTTOM.to_owned()),
        include_guard: Some("KVSCHED_H".to_owned()),
        sys_includes: ["stddef.h", "stdint.h", "string.h"].map(str::to_owned).to_vec(),
        enumeration: EnumConfig {
            rename_variants: RenameRule::QualifiedScreamingSnakeCase,
            ..EnumConfig::default()
        },
        ..Config::default()
    };
    config.export.rename = rename;
    // The modules are found from there.
    let builder = Builder::new().with_config(config).with_src(crate_dir.join("src/lib.rs"));
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    String::from_utf8(header).unwrap()
}

#[test]
fn the_header_is_the_sources() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = generate(crate_dir);
    let path = crate_dir.join("include/kvsched.h");
    if std::env::var_os("KVSCHED_BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    let first = made.lines().zip(kept.lines()).position(|(made, kept)| made != kept);
    assert!(
        made == kept,
        "include/kvsched.h is out of date from line {}: KVSCHED_BLESS=1 cargo test -p kvsched-ffi \
         --test header writes it anew",
        first.map_or_else(|| made.lines().count().min(kept.lines().count()) + 1, |i| i + 1)
    );
}

/// What a C program comes across carries the prefix; the header has every call, once; and the C
/// client uses every one of them.
#[test]
fn every_name_is_ours_and_used() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = generate(crate_dir);
    for line in header.lines() {
        if let Some(name) = line.strip_prefix("#define ") {
            assert!(name.starts_with("KVSCHED_"), "{line}");
        }
        if let Some(of) = line.strip_prefix("typedef ") {
            let name = of.trim_start_matches("struct ").trim_start_matches("uint32_t ");
            let name = name.trim_start_matches("enum ").trim_start_matches("void (*");
            assert!(name.starts_with("kvsched_"), "{line}");
        }
    }
    let clients = ["client.c", "parts.c", "alone.c", "misuse.c", "check.h"];
    let client =
        clients.map(|c| std::fs::read_to_string(crate_dir.join("tests/c").join(c)).unwrap());
    let client = client.concat();
    let mut calls = 0;
    for file in std::fs::read_dir(crate_dir.join("src")).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for call in source.split("extern \"C\" fn ").skip(1) {
            let name = call.split('(').next().unwrap_or_default();
            assert!(name.starts_with("kvsched_"), "{name}");
            assert_eq!(header.matches(&format!("{name}(")).count(), 1, "{name} in the header");
            assert!(client.contains(&format!("{name}(")), "{name} in tests/c");
            calls += 1;
        }
    }
    assert_eq!(header.matches("SAFETY").count(), 0);
    assert!(calls >= 50, "only {calls} calls were found");
}

#[test]
fn the_versions_are_the_packages() {
    let numbers = [
        kvsched_ffi::KVSCHED_VERSION_MAJOR,
        kvsched_ffi::KVSCHED_VERSION_MINOR,
        kvsched_ffi::KVSCHED_VERSION_PATCH,
    ];
    assert_eq!(numbers.map(|n| n.to_string()).join("."), env!("CARGO_PKG_VERSION"));
}
