//! Memory behind the device: blocks the device evicts are kept here, and loaded back on a hit.
//!
//! One store may stand behind several engines: its blocks serve all of them, and their loads wait
//! for each other.

use super::log::CacheLog;
use super::pool::KvHash;
use kvsched_core::Tier;
use lru::LruCache;
use rustc_hash::FxBuildHasher;
use std::num::NonZeroUsize;

/// One slower tier of an engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TierSpec {
    /// Which one.
    pub tier: Tier,
    /// How many blocks it holds.
    pub blocks: NonZeroUsize,
    /// Seconds until the first byte arrives.
    pub latency: f64,
    /// Bytes a second, shared by all that load from it.
    pub bytes_per_sec: f64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct TierStore {
    pub(super) spec: TierSpec,
    /// Where a shared store announces its changes; an engine's own are announced by the engine.
    pub(super) log: Option<CacheLog>,
    held: LruCache<KvHash, (), FxBuildHasher>,
    /// When its link is done with what was asked of it so far.
    link_free_at_ns: u64,
}

impl TierStore {
    /// An empty store of one engine.
    pub fn new(spec: TierSpec) -> Self {
        let held = LruCache::with_hasher(spec.blocks, FxBuildHasher);
        Self { spec, log: None, held, link_free_at_ns: 0 }
    }

    /// An empty store for several engines, to be given to each ([`super::Engine::attach`]).
    pub fn shared(spec: TierSpec) -> Self {
        Self { log: Some(CacheLog::default()), ..Self::new(spec) }
    }

    /// What a shared store has to announce.
    pub fn log_mut(&mut self) -> Option<&mut CacheLog> {
        self.log.as_mut()
    }

    pub(super) fn holds(&self, hash: KvHash) -> bool {
        self.held.contains(&hash)
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Marks a block as just used.
    pub(super) fn touch(&mut self, hash: KvHash) {
        self.held.promote(&hash);
    }

    /// Takes a block in. The one that had to go for it, if any; `Err` if it was there.
    pub(super) fn insert(&mut self, hash: KvHash) -> Result<Option<KvHash>, ()> {
        match self.held.push(hash, ()) {
            Some((old, ())) if old == hash => Err(()),
            other => Ok(other.map(|(old, ())| old)),
        }
    }

    /// Starts loading `bytes` behind all loads before it; when they have arrived.
    pub(super) fn load(&mut self, bytes: u64, now_ns: u64) -> u64 {
        let moving = (bytes as f64 / self.spec.bytes_per_sec * 1e9) as u64;
        self.link_free_at_ns = self.link_free_at_ns.max(now_ns) + moving;
        self.link_free_at_ns + (self.spec.latency * 1e9) as u64
    }
}
