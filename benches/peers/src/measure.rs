//! Clocks, counted bytes, and the rows they end in.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Instant;

/// The system's allocator, counting.
pub struct Counting;

static BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Bytes allocated now.
pub fn bytes() -> isize {
    BYTES.load(Ordering::Relaxed)
}

/// Samples of one quantity.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The `q` quantile; 0 is the least.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1) as f64;
        sorted.get((q * last).round() as usize).copied().unwrap_or(f64::NAN)
    }

    /// The least and the median.
    pub fn values(&self) -> (f64, f64) {
        (self.quantile(0.0), self.quantile(0.5))
    }

    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }
}

/// Nanoseconds that `f` takes.
pub fn time<R>(f: impl FnOnce() -> R) -> (f64, R) {
    let start = Instant::now();
    let result = f();
    (start.elapsed().as_nanos() as f64, result)
}

/// One figure of one index.
#[derive(Clone, Debug)]
pub struct Row {
    pub bench: String,
    pub shape: String,
    pub who: String,
    /// The best of several.
    pub value: f64,
    pub median: f64,
    pub unit: String,
    pub lower_is_better: bool,
}

impl Row {
    /// What takes time, or bytes: the lower the better.
    pub fn least(
        bench: &str,
        shape: &str,
        who: &str,
        (value, median): (f64, f64),
        unit: &str,
    ) -> Self {
        let [bench, shape, who, unit] = [bench, shape, who, unit].map(String::from);
        Self { bench, shape, who, value, median, unit, lower_is_better: true }
    }

    /// A row from its columns: bench, shape, who, value, median, unit, and `lower` or `higher`.
    pub fn of_columns(line: &str) -> Option<Self> {
        let columns: Vec<&str> = line.split('\t').collect();
        let [bench, shape, who, value, median, unit, better] = columns[..] else { return None };
        let [bench, shape, who, unit] = [bench, shape, who, unit].map(String::from);
        let (value, median) = (value.parse().ok()?, median.parse().ok()?);
        Some(Self { bench, shape, who, value, median, unit, lower_is_better: better == "lower" })
    }

    /// As [`Row::of_columns`] reads it.
    pub fn columns(&self) -> String {
        let Self { bench, shape, who, value, median, unit, .. } = self;
        let better = self.better();
        format!("{bench}\t{shape}\t{who}\t{value}\t{median}\t{unit}\t{better}")
    }

    fn better(&self) -> &'static str {
        if self.lower_is_better { "lower" } else { "higher" }
    }

    pub fn json(&self) -> String {
        format!(
            r#"{{"bench":"{}","shape":"{}","who":"{}","value":{:.3},"median":{:.3},"unit":"{}","better":"{}"}}"#,
            self.bench,
            self.shape,
            self.who,
            self.value,
            self.median,
            self.unit,
            self.better()
        )
    }

    pub fn line(&self) -> String {
        let Self { bench, shape, who, value, median, unit, .. } = self;
        format!("{bench:24} {shape:24} {who:24} {value:11.1} {median:11.1}  {unit}")
    }
}
