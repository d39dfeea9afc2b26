//! Rows as they come, and what they come to: ratios, and the bars that were set.

use crate::indexes::{Contender, Crtc, KvIndex, Ours, OursShared};
use crate::measure::Row;

/// Every row, printed as it comes.
pub struct Report {
    pub rows: Vec<Row>,
    format: Format,
}

/// How rows are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    Json,
    /// For the process that asked for them, without what they come to.
    Columns,
}

impl Format {
    pub fn of(json: bool, columns: bool) -> Self {
        match (json, columns) {
            (_, true) => Self::Columns,
            (true, false) => Self::Json,
            (false, false) => Self::Table,
        }
    }
}

/// What is asked of a figure of ours.
#[derive(Clone, Copy)]
enum Bar {
    /// To be at least so many times better than this peer's, or than the best.
    Peer(Option<&'static str>, f64),
    /// To be at most so much.
    Most(f64),
    /// To be at most so many times another figure of ours, in this shape.
    MostOf(&'static str, &'static str, f64),
    /// To be at least so many times the same figure in this shape.
    LeastOf(&'static str, f64),
}

const TRACE: &str = "trace, 8 endpoints";
const KV: Option<&str> = Some(KvIndex::NAME);
const CRTC: Option<&str> = Some(Crtc::NAME);

/// What is measured, in which shape, and how good it should be.
const BARS: [(&str, &str, Bar); 21] = [
    ("match", "8 x 450, 1M", Bar::Peer(KV, 2.3)),
    ("match", "8 x 2000, 1M", Bar::Peer(KV, 6.0)),
    ("match", "512 x 450, 1M", Bar::Peer(KV, 1.7)),
    ("match", "8 x 450, 10M", Bar::Peer(KV, 1.7)),
    ("match", "8 x 2000, 10M", Bar::Peer(KV, 3.0)),
    ("match trace mean", TRACE, Bar::Peer(KV, 1.7)),
    ("match trace p99", TRACE, Bar::Peer(KV, 1.7)),
    ("match by forks", "0 forks in 2000", Bar::MostOf("match by forks", "0 forks in 500", 1.5)),
    ("all events", TRACE, Bar::Peer(KV, 1.5)),
    ("decode store", TRACE, Bar::Peer(KV, 1.8)),
    ("remove one by one", "8 x 450", Bar::Peer(None, 2.5)),
    ("remove in random order", "8 x 450", Bar::Peer(CRTC, 1.0)),
    ("match p99 after it", "8 x 450", Bar::MostOf("match p99 before it", "8 x 450", 1.1)),
    ("clear", "450k blocks", Bar::Peer(CRTC, 4.0)),
    ("second holder's store", "450 blocks", Bar::Most(3.0)),
    ("memory", "1 holder", Bar::Most(26.0)),
    ("memory", "8 holders", Bar::Most(4.0)),
    ("memory", "1 holder, engine's names", Bar::Most(38.0)),
    ("queries", "2 threads", Bar::LeastOf("1 thread", 1.9)),
    ("match p99 beside", "a writer", Bar::MostOf("match p99 beside", "nobody", 1.5)),
    ("tokens to matches", "7200 tokens", Bar::Peer(None, 2.0)),
];

/// A figure of ours against the bar that was set for it.
pub struct Verdict<'a> {
    pub row: &'a Row,
    /// What it came to, and against whom or what.
    pub value: f64,
    pub unit: String,
    pub bar: f64,
    pub at_least: bool,
}

impl Verdict<'_> {
    pub fn is_met(&self) -> bool {
        if self.at_least { self.value >= self.bar } else { self.value <= self.bar }
    }

    fn json(&self) -> String {
        let Self { row, value, unit, bar, at_least } = self;
        let (better, met) = (if *at_least { "higher" } else { "lower" }, self.is_met());
        format!(
            r#"{{"bench":"bar: {}","shape":"{}","who":"{}","value":{value:.3},"unit":"{unit}","better":"{better}","bar":{bar},"met":{met}}}"#,
            row.bench, row.shape, row.who
        )
    }

    fn line(&self) -> String {
        let Self { row, value, unit, bar, .. } = self;
        let bound = if self.at_least { "at least" } else { "at most" };
        let met = if self.is_met() { "met" } else { "MISSED" };
        let (bench, shape) = (&row.bench, &row.shape);
        format!("{bench:24} {shape:24} {value:9.2} {unit:28} {bound:8} {bar:5.1}  {met}")
    }
}

impl Report {
    pub fn new(format: Format) -> Self {
        Self { rows: Vec::new(), format }
    }

    /// Nanoseconds a query or a block, the least and the median: the lower the better.
    pub fn time(&mut self, bench: &str, shape: &str, who: &str, values: (f64, f64)) {
        let a_query = bench.contains("match");
        self.add(bench, shape, who, values, if a_query { "ns/query" } else { "ns/block" }, true);
    }

    /// A figure, the best and the median.
    pub fn add(
        &mut self,
        bench: &str,
        shape: &str,
        who: &str,
        values: (f64, f64),
        unit: &str,
        lower_is_better: bool,
    ) {
        let row = Row::least(bench, shape, who, values, unit);
        self.push(Row { lower_is_better, ..row });
    }

    pub fn push(&mut self, row: Row) {
        match self.format {
            Format::Table => println!("{}", row.line()),
            Format::Json => println!("{}", row.json()),
            Format::Columns => println!("{}", row.columns()),
        }
        self.rows.push(row);
    }

    /// How many times better `row` is than this peer, or than the best, with that peer.
    fn gain(&self, row: &Row, peer: Option<&str>) -> Option<(f64, &Row)> {
        let gain =
            |p: &Row| if row.lower_is_better { p.value / row.value } else { row.value / p.value };
        self.rows
            .iter()
            .filter(|p| (&p.bench, &p.shape) == (&row.bench, &row.shape))
            .filter(|p| !p.who.starts_with("kvsched") && peer.is_none_or(|name| p.who == name))
            .map(|p| (gain(p), p))
            .min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// Every figure of ours against the best peer's: times better, below 1 where it is worse.
    pub fn ratios(&self) -> Vec<(&Row, f64, &Row)> {
        let ours = self.rows.iter().filter(|r| r.who == Ours::NAME || r.who == OursShared::NAME);
        ours.filter_map(|row| self.gain(row, None).map(|(gain, peer)| (row, gain, peer))).collect()
    }

    /// The bars whose figures were measured.
    pub fn verdicts(&self) -> Vec<Verdict<'_>> {
        BARS.iter().filter_map(|(bench, shape, bar)| self.verdict(bench, shape, *bar)).collect()
    }

    fn verdict(&self, bench: &str, shape: &str, bar: Bar) -> Option<Verdict<'_>> {
        // The first of ours: what one thread does alone, where that was measured.
        let ours = |bench: &str, shape: &str| {
            let mut rows = self.rows.iter();
            rows.find(|r| (&*r.bench, &*r.shape) == (bench, shape) && r.who.starts_with("kvsched"))
        };
        let row = ours(bench, shape)?;
        let (value, unit, bar, at_least) = match bar {
            Bar::Peer(peer, bar) => {
                let (gain, peer) = self.gain(row, peer)?;
                (gain, format!("times {}", peer.who), bar, true)
            }
            Bar::Most(bar) => (row.value, row.unit.clone(), bar, false),
            Bar::MostOf(bench, shape, bar) => {
                let other = ours(bench, shape)?;
                let name = if bench == row.bench { shape } else { bench };
                (row.value / other.value, format!("times {name}"), bar, false)
            }
            Bar::LeastOf(shape, bar) => {
                (row.value / ours(bench, shape)?.value, format!("times {shape}"), bar, true)
            }
        };
        Some(Verdict { row, value, unit, bar, at_least })
    }

    /// Prints ratios and verdicts.
    pub fn conclude(&self) {
        if self.format == Format::Columns {
            return;
        }
        let is_json = self.format == Format::Json;
        for (row, gain, peer) in self.ratios() {
            let (bench, shape, who, peer) = (&row.bench, &row.shape, &row.who, &peer.who);
            if is_json {
                println!(
                    r#"{{"bench":"{bench}","shape":"{shape}","who":"{who} / {peer}","value":{gain:.3},"unit":"times better","better":"higher"}}"#
                );
            } else {
                println!("{bench:24} {shape:24} {who:16} {gain:8.2} times better than {peer}");
            }
        }
        for verdict in self.verdicts() {
            println!("{}", if is_json { verdict.json() } else { verdict.line() });
        }
    }
}
