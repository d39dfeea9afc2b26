use super::work::kv_in_use;
use kvsched_core::{Load, Rates};

/// Tells ranks that step together about each other: fills in
/// [`Load::lock_step_secs`] and [`Load::lock_step_requests`].
///
/// Data-parallel ranks of a mixture-of-experts model wait for each other in every step, so that
/// all are as slow as the slowest. With this the cost model prices that: a request on a rank that
/// is not the slowest slows nobody, one on the slowest slows all.
///
/// `groups[i]` is the group of row `i`, `None` for an endpoint by itself, as are rows beyond the
/// end; `rates` are those of a rank. O(rows + groups).
///
/// ```
/// use kvsched_core::{Load, Rates};
/// let mut loads = [3, 9, 4, 7].map(|n| Load { running_requests: n, ..Load::default() });
/// let rates = Rates { step: 0.01, step_per_sequence: 0.001, ..Rates::default() };
/// kvsched_scorers::cost::lock_step(&[Some(0), Some(0), Some(0), None], &mut loads, &rates);
/// let others = loads.map(|l| (l.lock_step_requests, (l.lock_step_secs * 1e3).round()));
/// assert_eq!(others, [(13, 19.0), (7, 14.0), (12, 19.0), (0, 0.0)]);
/// ```
pub fn lock_step(groups: &[Option<u16>], loads: &mut [Load], rates: &Rates) {
    let step = |load: &Load| rates.step_secs(f64::from(load.running_requests), kv_in_use(load));
    let mut sums: Vec<Sum> = Vec::new();
    for (load, group) in loads.iter().zip(groups) {
        let Some(group) = group.map(usize::from) else { continue };
        if sums.len() <= group {
            sums.resize(group + 1, Sum::default());
        }
        let sum = &mut sums[group];
        sum.requests = sum.requests.saturating_add(load.running_requests);
        let secs = step(load);
        if secs > sum.slowest {
            (sum.slowest, sum.second) = (secs, sum.slowest);
        } else {
            sum.second = sum.second.max(secs);
        }
    }
    for (i, load) in loads.iter_mut().enumerate() {
        let sum = groups.get(i).copied().flatten().and_then(|group| sums.get(usize::from(group)));
        let Some(sum) = sum else {
            (load.lock_step_secs, load.lock_step_requests) = (0.0, 0);
            continue;
        };
        // Of two equally slow ranks each sees the other, which is the second.
        load.lock_step_secs = if step(load) >= sum.slowest { sum.second } else { sum.slowest };
        load.lock_step_requests = sum.requests.saturating_sub(load.running_requests);
    }
}

/// A group: its requests, and the steps of its slowest and its second slowest rank.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    requests: u32,
    slowest: f64,
    second: f64,
}
