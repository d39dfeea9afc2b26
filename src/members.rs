//! Who the endpoints are, and each one's event stream.

use crate::line::Line;
use arc_swap::ArcSwap;
use kvsched_core::{EndpointId, Knowledge, Labels, Time, Trust};
use kvsched_index::events::EventStream;
use kvsched_index::{Endpoint, EndpointSpec, Registry, RegistryError};
use std::array;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Seats are made so many at a time, when the first of them is taken.
const PAGE: usize = 256;

/// The fleet. Requests ask who is there without a lock; whoever joins or leaves, and every
/// endpoint's messages, have a lock of their own.
#[derive(Debug)]
pub(crate) struct Members {
    registry: Mutex<Registry>,
    /// By endpoint id. A page that is there stays.
    pages: [OnceLock<Box<[Seat]>>; PAGE],
    /// By endpoint id, replaced as a whole.
    labels: ArcSwap<Vec<Labels>>,
}

/// What belongs to one endpoint id.
#[derive(Debug, Default)]
struct Seat {
    taken: AtomicBool,
    /// `None` while nobody has the id, and where events are of no use.
    line: Mutex<Option<Line>>,
    /// What the stream says of itself, for requests to read without its lock.
    trust: AtomicU8,
    heard_at: AtomicU64,
    /// As the line's.
    by_content: AtomicBool,
}

/// By their numbers in [`Seat::trust`].
const TRUSTS: [Trust; 4] = [Trust::Exact, Trust::Degraded, Trust::Approximate, Trust::Stale];

impl Default for Members {
    fn default() -> Self {
        Self {
            registry: Mutex::default(),
            pages: array::from_fn(|_| OnceLock::new()),
            labels: ArcSwap::default(),
        }
    }
}

impl Members {
    /// Seats an endpoint, with what `line` makes where events are of use.
    pub(crate) fn join(
        &self,
        spec: EndpointSpec,
        line: impl FnOnce(EndpointId) -> Option<Line>,
    ) -> Result<EndpointId, RegistryError> {
        let mut registry = lock(&self.registry);
        let labels = spec.labels.clone();
        let id = registry.join(spec)?.id();
        self.relabel(id, |old| *old = labels);
        let page = self.pages[id.index() / PAGE]
            .get_or_init(|| (0..PAGE).map(|_| Seat::default()).collect());
        let seat = &page[id.index() % PAGE];
        *lock(&seat.line) = line(id);
        seat.by_content.store(false, Ordering::Relaxed);
        seat.trust.store(Trust::Approximate as u8, Ordering::Relaxed);
        seat.heard_at.store(0, Ordering::Relaxed);
        seat.taken.store(true, Ordering::Release);
        Ok(id)
    }

    /// Takes an endpoint out and calls `forget` before anybody can have its id.
    pub(crate) fn leave(&self, id: EndpointId, forget: impl FnOnce()) -> bool {
        let mut registry = lock(&self.registry);
        let (Some(key), Some(seat)) = (registry.by_id(id).map(Endpoint::key), self.seat(id)) else {
            return false;
        };
        seat.taken.store(false, Ordering::Release);
        // Waits for the message that is being taken in; none comes after it.
        *lock(&seat.line) = None;
        forget();
        self.relabel(id, |old| *old = Labels::new());
        registry.leave(key).is_some()
    }

    /// Changes the labels of one endpoint, if it is there.
    pub(crate) fn set_label(&self, id: EndpointId, key: &str, value: &str) -> bool {
        // Held so that nobody leaves meanwhile.
        let registry = lock(&self.registry);
        let known = registry.by_id(id).is_some();
        if known {
            self.relabel(id, |labels| labels.set(key, value));
        }
        known
    }

    /// For whoever holds the registry's lock.
    fn relabel(&self, id: EndpointId, change: impl FnOnce(&mut Labels)) {
        let old = self.labels.load();
        let mut row = old.get(id.index()).cloned().unwrap_or_default();
        change(&mut row);
        if old.get(id.index()).map_or(row == Labels::new(), |old| *old == row) {
            return;
        }
        let mut rows = Vec::clone(&old);
        if rows.len() <= id.index() {
            rows.resize(id.index() + 1, Labels::new());
        }
        rows[id.index()] = row;
        self.labels.store(Arc::new(rows));
    }

    fn seat(&self, id: EndpointId) -> Option<&Seat> {
        self.pages[id.index() / PAGE].get()?.get(id.index() % PAGE)
    }

    /// Whether somebody has this id. Takes no lock.
    pub(crate) fn has(&self, id: EndpointId) -> bool {
        self.seat(id).is_some_and(|seat| seat.taken.load(Ordering::Acquire))
    }

    /// The labels by endpoint id. Takes no lock.
    pub(crate) fn labels(&self) -> arc_swap::Guard<Arc<Vec<Labels>>> {
        self.labels.load()
    }

    /// Writes down, by id, how far the pictures of these endpoints can be believed. Takes no lock.
    pub(crate) fn note_knowledge(&self, of: &[EndpointId], rows: &mut Vec<Knowledge>) {
        for &id in of {
            let Some(seat) = self.seat(id) else { continue };
            if rows.len() <= id.index() {
                rows.resize(id.index() + 1, Knowledge::default());
            }
            let trust = TRUSTS.get(usize::from(seat.trust.load(Ordering::Relaxed)));
            rows[id.index()] = Knowledge {
                trust: trust.copied().unwrap_or_default(),
                heard_at: Time(seat.heard_at.load(Ordering::Relaxed)),
            };
        }
    }

    /// Publishes what the endpoint's stream, whose lock the caller holds, says of itself.
    pub(crate) fn publish(&self, id: EndpointId, trust: Trust, heard_at: Option<Time>) {
        let Some(seat) = self.seat(id) else { return };
        seat.trust.store(trust as u8, Ordering::Relaxed);
        if let Some(now) = heard_at {
            seat.heard_at.store(now.0, Ordering::Relaxed);
        }
    }

    /// The endpoint's line, alone; `None` if nobody has the id or there are no events.
    pub(crate) fn line(&self, id: EndpointId) -> Option<MutexGuard<'_, Option<Line>>> {
        Some(lock(&self.seat(id)?.line)).filter(|line| line.is_some())
    }

    /// Calls `look` with the endpoint's line, alone.
    pub(crate) fn with_line<R>(
        &self,
        id: EndpointId,
        look: impl FnOnce(&mut Line) -> R,
    ) -> Option<R> {
        self.line(id)?.as_mut().map(look)
    }

    /// Says that the endpoint's blocks are named by their content from now on.
    pub(crate) fn name_by_content(&self, id: EndpointId) {
        if let Some(seat) = self.seat(id) {
            seat.by_content.store(true, Ordering::Release);
        }
    }

    /// Whether the endpoint's blocks are named by their content though others' are not. Takes no
    /// lock.
    pub(crate) fn is_by_content(&self, id: EndpointId) -> bool {
        self.seat(id).is_some_and(|seat| seat.by_content.load(Ordering::Acquire))
    }

    /// Calls `look` with the endpoints by id and their streams, which nothing changes meanwhile.
    pub(crate) fn hold_still<R>(
        &self,
        look: impl FnOnce(&[(&Endpoint, Option<&EventStream>)]) -> R,
    ) -> R {
        let registry = lock(&self.registry);
        let lines: Vec<_> =
            registry.iter().map(|endpoint| (endpoint, self.line(endpoint.id()))).collect();
        let held: Vec<_> = lines
            .iter()
            .map(|(endpoint, line)| {
                let line = line.as_deref().and_then(Option::as_ref);
                (*endpoint, line.map(|line| &line.stream))
            })
            .collect();
        look(&held)
    }

    /// The registry, alone.
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }
}

/// The lock, even if somebody panicked while holding it: what he had not finished is better than no
/// endpoint at all.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
