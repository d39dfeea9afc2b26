//! The pages and plots of `docs/peers`, from one thorough run.

use crate::indexes::{Contender, Ours};
use crate::measure::Row;
use crate::plot::{Group, bars, digits};
use crate::report::Report;
use std::fmt::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

/// A plot: its file, title, unit, and the benches whose shapes are its groups.
const PLOTS: [(&str, &str, &str, &[&str]); 4] = [
    (
        "match",
        "What a query costs",
        "ns a query, best round",
        &["match", "match trace mean", "match trace p99"],
    ),
    (
        "forks",
        "A query's cost grows with forks, not with length",
        "ns a query, best round",
        &["match by forks"],
    ),
    (
        "events",
        "What changes cost",
        "ns a block, best round",
        &[
            "prefill store",
            "decode store",
            "remove",
            "all events",
            "remove one by one",
            "remove in random order",
            "second holder's store",
        ],
    ),
    ("memory", "What a block and its holders take", "bytes a (block, holder)", &["memory"]),
];

/// Writes them all.
pub fn write(report: &Report) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/peers");
    fs::create_dir_all(&folder)?;
    for (file, title, unit, benches) in PLOTS {
        let groups = groups(report, benches);
        fs::write(folder.join(format!("{file}.svg")), bars(title, unit, &groups))?;
    }
    fs::write(folder.join("README.md"), page(report))
}

/// The shapes of these benches, in the order they were measured.
fn groups(report: &Report, benches: &[&str]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for bench in benches {
        let rows: Vec<&Row> = report.rows.iter().filter(|r| r.bench == *bench).collect();
        let first = groups.len();
        let by_shape = rows.iter().any(|r| r.shape != rows[0].shape);
        for row in rows {
            let name = if by_shape { &row.shape } else { &row.bench };
            let bar = (row.who.clone(), row.value);
            match groups[first..].iter_mut().find(|g| g.name == *name) {
                Some(group) => group.bars.push(bar),
                None => groups.push(Group { name: name.clone(), bars: vec![bar] }),
            }
        }
    }
    groups
}

fn page(report: &Report) -> String {
    let mut page = format!(
        "# The index beside its peers\n\n\
         Written by `cargo run --release --manifest-path benches/peers/Cargo.toml` on {}, on {}. One run,\n\
         the same operations for all; what is measured of whom stands in\n\
         [benches/peers](../../benches/peers/README.md). Compare figures of one run only.\n\n\
         ![What a query costs](match.svg)\n\n![By forks and length](forks.svg)\n\n\
         ![What changes cost](events.svg)\n\n![Memory](memory.svg)\n\n## Bars\n\n\
         Set before there was an index to measure.\n\n\
         | figure | shape | came to | bar | |\n|---|---|---|---|---|\n",
        today(),
        machine()
    );
    for v in report.verdicts() {
        let bound = if v.at_least { "≥" } else { "≤" };
        let met = if v.is_met() { "met" } else { "**missed**" };
        let (bench, shape, value, unit) = (&v.row.bench, &v.row.shape, digits(v.value), &v.unit);
        let bar = v.bar;
        let _ = writeln!(page, "| {bench} | {shape} | {value} {unit} | {bound} {bar} | {met} |");
    }
    page.push_str("\n## Where kvsched loses\n\n");
    let mut losing = report.ratios();
    losing.retain(|(row, gain, _)| *gain < 1.0 && row.who == Ours::NAME);
    if losing.is_empty() {
        page.push_str("In no figure of this run.\n");
    } else {
        page.push_str("| figure | shape | kvsched | best peer | |\n|---|---|---|---|---|\n");
    }
    for (row, _, peer) in losing {
        let (ours, theirs) = (digits(row.value), digits(peer.value));
        let Row { bench, shape, unit, .. } = row;
        let _ = writeln!(page, "| {bench} | {shape} | {ours} {unit} | {theirs} | {} |", peer.who);
    }
    page.push_str(
        "\n## Every figure\n\n| figure | shape | who | best | median | unit |\n|---|---|---|---:|---:|---|\n",
    );
    for Row { bench, shape, who, value, median, unit, .. } in &report.rows {
        let (value, median) = (digits(*value), digits(*median));
        let _ = writeln!(page, "| {bench} | {shape} | {who} | {value} | {median} | {unit} |");
    }
    page
}

/// Which processor, and how much of it.
fn machine() -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, name)| name.trim());
    format!("{threads} threads of {model}")
}

/// The date, by the civil calendar (Howard Hinnant's formula for days since 1970).
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (d, m) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}-{m:02}-{d:02}", year + era * 400 + u64::from(m < 3))
}
