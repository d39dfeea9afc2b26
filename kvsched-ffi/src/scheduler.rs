use crate::boundary::boundary;
use crate::custom::{CustomScorer, callbacks};
use crate::handle::{self, Kind};
use crate::hasher::Hasher;
use crate::memory::{Out, Str, optional, text};
use crate::profile::profile;
use crate::status::{Error, Failure, Status};
use kvsched::{EndpointId, Router, RouterBuilder};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// Which endpoint serves a prompt.
///
/// Any number of threads may use one at a time, with any calls but `kvsched_scheduler_free`.
/// Routing waits for nobody; messages of different endpoints are taken in side by side.
#[derive(Debug)]
pub struct Scheduler(());

impl Kind for Scheduler {
    const MAGIC: u64 = u64::from_le_bytes(*b"kvssche1");
    type State = Fleet;
}

/// A router, and what the border adds to it.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) router: Router,
    pub(crate) counts: Counts,
}

impl Fleet {
    pub(crate) fn new(router: Router) -> Self {
        Self { router, counts: Counts::default() }
    }
}

/// [`Stats`], counted by many threads.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) batches: AtomicU64,
    pub(crate) replays: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) unknown_events: AtomicU64,
    pub(crate) stored: AtomicU64,
    pub(crate) removed: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl Counts {
    fn read(&self, endpoints: u64) -> Stats {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            endpoints,
            batches: value(&self.batches),
            replays: value(&self.replays),
            duplicates: value(&self.duplicates),
            restarts: value(&self.restarts),
            unknown_events: value(&self.unknown_events),
            stored: value(&self.stored),
            removed: value(&self.removed),
            refused: value(&self.refused),
        }
    }
}

/// How a scheduler is made. All zero: the cost model in seconds, and caches known from events.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Settings {
    /// The name of another router's policy, such as "llm-d" or "dynamo"; NULL for none.
    pub preset: Str,
    /// An `EndpointPickerConfig`, in YAML or JSON, of at most 65,536 bytes; NULL for none. Not together
    /// with a preset.
    pub config: Str,
    /// Which of the configuration's profiles; NULL where it has only one.
    pub profile: Str,
    /// For engines that announce nothing: blocks of one endpoint's KV cache. What is cached is then
    /// learned from the scheduler's own decisions, and events are passed over. 0: from events.
    pub history_blocks: u32,
    /// How long an unused block is then believed to stay; 0: an hour.
    pub history_lease_ns: u64,
    /// How long a recorded prompt is expected where it was sent, though no event has told of it yet; 0:
    /// two seconds; `UINT64_MAX`: not at all.
    pub speculation_ns: u64,
    /// Keeps a ledger of what was recorded and has not come back, by which load rows are brought up to
    /// date: requests that nobody finishes count for so long. 0: no ledger.
    pub in_flight_lease_ns: u64,
    /// Most bytes the index may take, at least 65,536; 0: no limit.
    pub byte_budget: u64,
    /// A content hasher, by which the blocks of an endpoint are named if its engine turns out to hash
    /// otherwise than the scheduler's hasher: every endpoint then has a doctor, who says why
    /// (`kvsched_diagnose`). NULL: nobody checks. May be freed after the call.
    pub fallback: *const Hasher,
    /// Scorers of the caller's. With `config` they are plugins by their names, which it weighs; without,
    /// they are all that rates candidates. Not together with a preset.
    pub scorers: *const CustomScorer,
    /// How many.
    pub scorers_len: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            preset: Str::default(),
            config: Str::default(),
            profile: Str::default(),
            history_blocks: 0,
            history_lease_ns: 0,
            speculation_ns: 0,
            in_flight_lease_ns: 0,
            byte_budget: 0,
            fallback: std::ptr::null(),
            scorers: std::ptr::null(),
            scorers_len: 0,
        }
    }
}

/// What a scheduler has seen since it was made.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Stats {
    /// Endpoints it knows now.
    pub endpoints: u64,
    /// Messages applied.
    pub batches: u64,
    /// Replays asked for.
    pub replays: u64,
    /// Messages that were known already.
    pub duplicates: u64,
    /// Engine restarts.
    pub restarts: u64,
    /// Events of unknown types.
    pub unknown_events: u64,
    /// Blocks stored that their endpoint did not hold before.
    pub stored: u64,
    /// Blocks removed.
    pub removed: u64,
    /// Blocks that an endpoint holds and the index does not know.
    pub refused: u64,
}

/// A scheduler whose endpoints' blocks go by the names that `hasher` gives. `settings` may be NULL. The
/// handle in `out` is the caller's to free with `kvsched_scheduler_free`; the hasher may be freed
/// before it.
///
/// Fails with `CONFIG` if the preset is unknown, the configuration wrong or a setting out of range; the
/// text names what was meant, perhaps.
///
/// # Safety
///
/// `hasher` is a handle, `settings` NULL or readable with its texts, `out` and `error` (unless
/// NULL) writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_scheduler_new(
    hasher: *const Hasher,
    settings: *const Settings,
    out: *mut *mut Scheduler,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (builder, out) = unsafe { (builder(hasher, settings)?, Out::new("out", out)?) };
        let router = builder.build().map_err(Failure::of(Status::Config))?;
        handle::create(Fleet::new(router), out);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Frees a scheduler and sets `*scheduler` to NULL. NULL, or a pointer to NULL, is passed over.
///
/// # Safety
///
/// `*scheduler` is NULL or a handle that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_scheduler_free(scheduler: *mut *mut Scheduler) -> Status {
    // SAFETY: the caller's promise.
    unsafe { boundary(std::ptr::null_mut(), || handle::free("scheduler", scheduler)) }
}

/// What the scheduler has seen so far.
///
/// # Safety
///
/// `scheduler` is a handle, `out` and `error` (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_scheduler_stats(
    scheduler: *const Scheduler,
    out: *mut Stats,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (fleet, out) = unsafe { (fleet(scheduler)?, Out::new("out", out)?) };
        out.write(fleet.counts.read(fleet.router.endpoint_count() as u64));
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// What is behind the handle.
///
/// # Safety
///
/// As [`handle::borrow`].
pub(crate) unsafe fn fleet<'a>(scheduler: *const Scheduler) -> Result<&'a Fleet, Failure> {
    // SAFETY: the caller's promise.
    unsafe { handle::borrow("scheduler", scheduler) }
}

/// The endpoint of a number that came from C.
pub(crate) fn endpoint_id(endpoint: u32) -> Result<EndpointId, Failure> {
    u16::try_from(endpoint).map(EndpointId).map_err(|_| unknown(endpoint))
}

/// Nobody has that number.
pub(crate) fn unknown(endpoint: u32) -> Failure {
    let text = format_args!("endpoint {endpoint} was never added, or has been removed").to_string();
    Failure::new(Status::UnknownEndpoint, text)
}

/// Nobody has that name.
pub(crate) fn nobody(name: &str, rank: u32) -> Failure {
    let text = format!("no endpoint is called `{name}` rank {rank}");
    Failure::new(Status::UnknownEndpoint, text)
}

/// What `settings` say.
///
/// # Safety
///
/// `hasher` is a handle, `settings` NULL or readable with its texts and scorers.
pub(crate) unsafe fn builder(
    hasher: *const Hasher,
    settings: *const Settings,
) -> Result<RouterBuilder, Failure> {
    // SAFETY: the caller's promise.
    let (hasher, settings) =
        unsafe { (handle::borrow("hasher", hasher)?, optional("settings", settings)?) };
    let mut builder = Router::builder(hasher.clone());
    if let Some(settings) = settings {
        // SAFETY: the caller's promise.
        let (preset, config, name, scorers) = unsafe {
            (
                text("preset", settings.preset)?,
                text("config", settings.config)?,
                text("profile", settings.profile)?,
                callbacks(settings.scorers, settings.scorers_len)?,
            )
        };
        if let Some(profile) = profile(preset, config, name, scorers)? {
            builder = builder.profile(profile);
        }
        builder = match settings.speculation_ns {
            0 => builder,
            u64::MAX => builder.speculation(Duration::ZERO),
            ns => builder.speculation(Duration::from_nanos(ns)),
        };
        if settings.in_flight_lease_ns > 0 {
            builder = builder.in_flight(Duration::from_nanos(settings.in_flight_lease_ns));
        }
        if !settings.fallback.is_null() {
            // SAFETY: the caller's promise.
            let fallback = unsafe { handle::borrow("settings.fallback", settings.fallback) }?;
            builder = builder.check(fallback.clone(), &[None, Some("0"), Some("42")]);
        }
        if settings.byte_budget > 0 {
            builder =
                builder.byte_budget(usize::try_from(settings.byte_budget).unwrap_or(usize::MAX));
        }
        if let Some(blocks) = NonZeroU32::new(settings.history_blocks) {
            let lease = match settings.history_lease_ns {
                0 => HOUR,
                ns => Duration::from_nanos(ns),
            };
            builder = builder.history(blocks, lease);
        }
    }
    Ok(builder)
}
