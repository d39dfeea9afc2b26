//! llm-d's index, which is Go: a program beside this one runs the same workloads and prints rows.

use crate::measure::Row;
use crate::report::Report;
use std::path::Path;
use std::process::Command;

/// Adds its rows, or says on standard error why there are none.
pub fn run(report: &mut Report, is_quick: bool) {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
    let mut go = Command::new("go");
    go.current_dir(&module).args(["run", "."]);
    if is_quick {
        go.arg("-quick");
    }
    let rows = match go.output() {
        Ok(output) if output.status.success() => output.stdout,
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr);
            return eprintln!("no rows of llm-d: {}", why.trim());
        }
        Err(why) => return eprintln!("no rows of llm-d: go: {why}"),
    };
    for line in String::from_utf8_lossy(&rows).lines() {
        match Row::of_columns(line) {
            Some(row) => report.push(row),
            None => eprintln!("not a row of llm-d: {line}"),
        }
    }
}
