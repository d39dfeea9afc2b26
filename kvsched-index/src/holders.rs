//! Who holds something of a chain.
//!
//! The first holders stand in the chain itself. Further ones are in a slice: a word that says how
//! it is divided, then watermarks by endpoint id, four a word (once many endpoints share the chain),
//! then a list of entries. An entry moves only to where a reader looks later.

use crate::chain::{Chain, Entry};
use crate::shared::{Fresh, Pin, WritePin};
use kvsched_core::EndpointId;
use std::sync::atomic::{AtomicU64, Ordering};

/// Watermarks a word.
pub(crate) const LANES: usize = 4;
/// From this many listed holders on, watermarks by id are worth their room if ids are dense.
const DENSE_FROM: usize = 16;

/// The slice of further holders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct More<'p> {
    /// The first endpoint that has a watermark in `dense`.
    pub(crate) first: usize,
    /// Watermarks of endpoints from `first` on, 16 bits each.
    pub(crate) dense: &'p [AtomicU64],
    pub(crate) list: &'p [AtomicU64],
}

impl<'p> More<'p> {
    #[inline]
    pub(crate) fn of(chain: &'p Chain, pin: &'p Pin) -> Self {
        let words = chain.more.get(pin);
        let Some((head, rest)) = words.split_first() else {
            return Self { first: 0, dense: &[], list: &[] };
        };
        let head = head.load(Ordering::Relaxed);
        let (dense, list) = rest.split_at((head as u32 as usize).min(rest.len()));
        Self { first: (head >> 32) as usize, dense, list }
    }

    /// The word with the watermark of `endpoint`, and how far up in it that is.
    #[inline]
    fn lane(self, endpoint: EndpointId) -> Option<(&'p AtomicU64, u32)> {
        let lane = endpoint.index().checked_sub(self.first)?;
        Some((self.dense.get(lane / LANES)?, (lane % LANES * 16) as u32))
    }
}

/// Where an endpoint's entry is written.
#[derive(Clone, Copy, Debug)]
enum Slot<'p> {
    Word(&'p AtomicU64),
    Lane(&'p AtomicU64, u32),
}

impl<'p> Slot<'p> {
    fn find(chain: &'p Chain, endpoint: EndpointId, pin: &'p Pin) -> Option<(Self, Entry)> {
        let entry = |word: &'p AtomicU64| {
            let entry = Entry::from_bits(word.load(Ordering::Relaxed))?;
            (entry.endpoint == endpoint).then_some((Slot::Word(word), entry))
        };
        if let Some(found) = chain.inline.iter().find_map(entry) {
            return Some(found);
        }
        let more = More::of(chain, pin);
        if let Some((word, shift)) = more.lane(endpoint) {
            let blocks = (word.load(Ordering::Relaxed) >> shift) as u16;
            if blocks > 0 {
                return Some((
                    Slot::Lane(word, shift),
                    Entry::plain(endpoint, usize::from(blocks)),
                ));
            }
        }
        more.list.iter().find_map(entry)
    }

    fn write(self, entry: Option<Entry>) {
        match self {
            Slot::Word(word) => word.store(entry.map_or(0, Entry::to_bits), Ordering::Release),
            Slot::Lane(word, shift) => {
                let others = word.load(Ordering::Relaxed) & !(0xffff << shift);
                let blocks = entry.map_or(0, |e| e.blocks);
                word.store(others | u64::from(blocks) << shift, Ordering::Release);
            }
        }
    }
}

/// The entry of `endpoint`, if it holds anything of the chain.
#[inline]
pub(crate) fn find(chain: &Chain, endpoint: EndpointId, pin: &Pin) -> Option<Entry> {
    Slot::find(chain, endpoint, pin).map(|(_, entry)| entry)
}

/// Calls `f` with every entry until it returns false.
pub(crate) fn all(chain: &Chain, pin: &Pin, mut f: impl FnMut(Entry) -> bool) -> bool {
    let entries = |words: &[AtomicU64], f: &mut dyn FnMut(Entry) -> bool| {
        words.iter().filter_map(|w| Entry::from_bits(w.load(Ordering::Acquire))).all(f)
    };
    if !entries(&chain.inline, &mut f) {
        return false;
    }
    let more = More::of(chain, pin);
    for (i, word) in more.dense.iter().enumerate() {
        let word = word.load(Ordering::Acquire);
        for lane in 0..LANES {
            let blocks = (word >> (16 * lane)) as u16;
            let endpoint = EndpointId((more.first + i * LANES + lane) as u16);
            if blocks > 0 && !f(Entry::plain(endpoint, usize::from(blocks))) {
                return false;
            }
        }
    }
    entries(more.list, &mut f)
}

/// Writes the entry of an endpoint over `old`, which is the one it has.
pub(crate) fn put(chain: &Chain, old: Option<Entry>, new: Entry, pin: &WritePin) {
    let slot = old.and_then(|old| Slot::find(chain, old.endpoint, pin));
    match slot {
        Some((slot @ Slot::Word(_), _)) => slot.write(Some(new)),
        Some((slot @ Slot::Lane(..), _)) if new.detail == 0 && new.blocks > 0 => {
            slot.write(Some(new));
        }
        Some((lane, _)) => {
            // From the lane to the list, which readers look at later: first there, then away.
            list(chain, new, pin);
            if let Some((word, shift)) = More::of(chain, pin).lane(new.endpoint) {
                Slot::Lane(word, shift).write(None);
            } else {
                lane.write(None);
            }
        }
        None => insert(chain, new, pin),
    }
}

/// Takes the entry of `endpoint` out.
pub(crate) fn remove(chain: &Chain, endpoint: EndpointId, pin: &WritePin) {
    if let Some((slot, _)) = Slot::find(chain, endpoint, pin) {
        slot.write(None);
    }
    let more = More::of(chain, pin);
    let empty = |words: &[AtomicU64]| words.iter().all(|w| w.load(Ordering::Relaxed) == 0);
    if !chain.more.get(pin).is_empty() && empty(more.list) && empty(more.dense) {
        chain.more.replace(None, pin);
    }
}

/// Adds an entry of an endpoint that has none.
fn insert(chain: &Chain, new: Entry, pin: &WritePin) {
    if let Some(free) = chain.inline.iter().find(|w| w.load(Ordering::Relaxed) == 0) {
        return free.store(new.to_bits(), Ordering::Release);
    }
    if new.detail == 0
        && let Some((word, shift)) = More::of(chain, pin).lane(new.endpoint)
    {
        return Slot::Lane(word, shift).write(Some(new));
    }
    list(chain, new, pin);
}

/// Adds an entry to the list, or in the list's place makes room in a new slice.
fn list(chain: &Chain, new: Entry, pin: &WritePin) {
    let more = More::of(chain, pin);
    if let Some(free) = more.list.iter().find(|w| w.load(Ordering::Relaxed) == 0) {
        return free.store(new.to_bits(), Ordering::Release);
    }
    rebuild(chain, new, pin);
}

/// A larger slice with one more entry; watermarks by id where they take less room.
fn rebuild(chain: &Chain, new: Entry, pin: &WritePin) {
    let old = More::of(chain, pin);
    let listed = || {
        let listed = old.list.iter().filter_map(|w| Entry::from_bits(w.load(Ordering::Relaxed)));
        listed.chain([new])
    };
    let lanes = |bits: u64| (0..LANES).filter(move |l| bits >> (16 * l) & 0xffff != 0);
    let by_id = || {
        old.dense.iter().enumerate().flat_map(move |(i, word)| {
            let first = old.first + i * LANES;
            lanes(word.load(Ordering::Relaxed)).map(move |lane| first + lane)
        })
    };
    let plain = || listed().filter(|e| e.detail == 0);
    let ids = || plain().map(|e| e.endpoint.index()).chain(by_id());
    let (low, high) = ids().fold((usize::MAX, 0), |(l, h), id| (l.min(id), h.max(id)));
    let count = ids().count();
    let low = low.min(high) / LANES * LANES;
    let dense = (high - low) / LANES + 1;
    // A word per entry against a word per four ids.
    let (first, dense) = if count >= DENSE_FROM && dense <= count * 2 {
        // As many again, for those who come next.
        (low, dense + dense / 4)
    } else {
        (0, 0)
    };
    let in_list = if dense > 0 {
        listed().count() - plain().count()
    } else {
        listed().count() + by_id().count()
    };
    let room = if in_list == 0 { 0 } else { in_list + in_list / 2 };
    let fresh = Fresh::zeroed(1 + dense + room);
    fresh[0].store((first as u64) << 32 | dense as u64, Ordering::Relaxed);
    let (lanes_out, list_out) = fresh[1..].split_at(dense);
    let mut next = list_out.iter();
    let mut place = |entry: Entry| {
        if dense > 0 && entry.detail == 0 {
            let lane = entry.endpoint.index() - first;
            Slot::Lane(&lanes_out[lane / LANES], (lane % LANES * 16) as u32).write(Some(entry));
        } else if let Some(word) = next.next() {
            word.store(entry.to_bits(), Ordering::Relaxed);
        }
    };
    for (i, word) in old.dense.iter().enumerate() {
        let word = word.load(Ordering::Relaxed);
        for lane in lanes(word) {
            let endpoint = EndpointId((old.first + i * LANES + lane) as u16);
            // Its entry may be among the listed already, on its way from here to there.
            if new.endpoint != endpoint {
                place(Entry::plain(endpoint, usize::from((word >> (16 * lane)) as u16)));
            }
        }
    }
    listed().for_each(&mut place);
    chain.more.replace(Some(fresh), pin);
}
