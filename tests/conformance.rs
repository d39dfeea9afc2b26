//! Every recorded run of a real engine, predicted: the repository's and those in the folder that
//! `KVSCHED_VECTORS_DIR` names. Prints a line a capture, also when it passes.
#![allow(clippy::print_stdout)]

#[path = "../examples/route/replay.rs"]
mod replay;
#[path = "../examples/route/report.rs"]
#[allow(dead_code, reason = "the example prints more than is checked here")]
mod report;

use kvsched::Scheme;
use kvsched_testdata::{Vectors, capture, vector_files};
use libtest_mimic::{Arguments, Failed, Trial};
use report::Note;
use std::process::ExitCode;

/// Every single request must be exact; only the first after a reset that no event had announced
/// may be predicted too high.
///
/// The engine's own hashes are computed, and then, from the same bytes, the content scheme's.
fn check(recorded: &capture::Capture) -> Result<(), Failed> {
    let fail = |e: Box<dyn std::error::Error>| Failed::from(e.to_string());
    check_with(recorded, "engine", replay::engine_scheme(recorded).map_err(fail)?)?;
    check_with(recorded, "content", Scheme::content(&recorded.settings.model, b"a secret")?)
}

fn check_with(recorded: &capture::Capture, naming: &str, scheme: Scheme) -> Result<(), Failed> {
    let result = replay::replay(recorded, scheme).map_err(|e| Failed::from(e.to_string()))?;
    let wrong: Vec<String> = result
        .rows
        .iter()
        .filter(|r| match r.note {
            Note::Single => r.predicted != r.engine,
            Note::AfterReset => r.predicted < r.engine,
            Note::Concurrent => false,
        })
        .map(|r| format!("{}: predicted {}, engine {}", r.label, r.predicted, r.engine))
        .collect();
    let singles = result.rows.iter().filter(|r| r.note == Note::Single).count();
    println!(
        "  capture {}, {naming} hashes: {} requests, {} of {} predictable ones exact, {} messages",
        result.name,
        result.rows.len(),
        singles - wrong.len().min(singles),
        singles,
        recorded.messages.len()
    );
    if singles == 0 {
        return Err("no request to check".into());
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let files = match vector_files(Vectors::EngineCapture) {
        Ok(files) => files,
        Err(e) => {
            println!("error: {e}");
            return ExitCode::FAILURE;
        }
    };
    let trials = files
        .into_iter()
        .map(|file| {
            let name = file.file_name().unwrap_or_default().display().to_string();
            Trial::test(name, move || {
                let captures = capture::read(&file)?;
                println!("{}: {} captures", file.display(), captures.len());
                if captures.is_empty() {
                    return Err("no capture in the file".into());
                }
                captures.iter().try_for_each(check)
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
