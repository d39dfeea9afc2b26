//! A part of the benchmark in a process of its own.

use crate::measure::Row;
use crate::report::Report;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// The part whose process asks for pages of 2 MiB: as glibc does it, where the system lets processes ask.
pub const LARGE_PAGES: &str = "pages";

/// Adds the rows of a part as they come.
pub fn run(report: &mut Report, part: &str, is_quick: bool) {
    let this = std::env::current_exe().expect("a program knows where it is");
    let mut command = Command::new(this);
    command.args(["--columns", "--only", part]).args(is_quick.then_some("--quick"));
    if part == LARGE_PAGES {
        command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
    }
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a part runs");
    let rows = child.stdout.take().expect("it was piped");
    for line in BufReader::new(rows).lines() {
        let line = line.expect("rows are text");
        report.push(Row::of_columns(&line).expect("a row"));
    }
    let status = child.wait().expect("a part ends");
    assert!(status.success(), "{part}: {status}");
}
