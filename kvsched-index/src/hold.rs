//! One endpoint's share of one chain, changed.

use crate::chain::{Chain, Entry};
use crate::detail::{self, Detail, Details, Plane};
use crate::write::Write;
use crate::{Holder, holders};
use kvsched_core::{EndpointId, Tier};

impl<'a> Write<'a> {
    pub(crate) fn details(&self, chain: &'a Chain) -> Details<'a> {
        Details { words: &chain.details, pin: self.pin }
    }

    /// `holder` holds blocks `from..to` of the chain. Returns how many it did not hold before.
    pub(crate) fn hold(
        &mut self,
        number: u32,
        chain: &'a Chain,
        holder: Holder,
        from: usize,
        to: usize,
    ) -> usize {
        let endpoint = holder.endpoint;
        let old = holders::find(chain, endpoint, self.pin);
        let plain = self.is_plain(holder);
        let held = old.map_or(0, |e| usize::from(e.blocks));
        if plain && old.is_none_or(|e| e.detail == 0) && from <= held {
            let blocks = held.max(to);
            if blocks > held {
                let new = Entry::plain(endpoint, blocks);
                holders::put(chain, old, new, self.pin);
            }
            if old.is_none() {
                self.joined(number, endpoint);
            }
            return blocks - held;
        }
        if old.is_none() {
            self.joined(number, endpoint);
        }
        let at = self.plane_of(chain, holder, old, to);
        let entry = Entry { detail: at, ..Entry::plain(endpoint, 0) };
        let detail = Detail::of(entry, chain.details.get(self.pin));
        let bits = detail.and_then(|d| d.plane(Plane::new(holder.tier, holder.group)));
        let added = bits.map_or(0, |bits| detail::set(bits, from, to));
        self.settle(chain, endpoint, old, at);
        added
    }

    /// The position of a record of `holder`'s endpoint that has its plane and room for blocks
    /// below `to`. Not yet the one its entry means.
    pub(crate) fn plane_of(
        &self,
        chain: &'a Chain,
        holder: Holder,
        old: Option<Entry>,
        to: usize,
    ) -> u32 {
        let plane = Plane::new(holder.tier, holder.group);
        let details = self.details(chain);
        let owner = self.owner(holder.endpoint);
        let groups = owner.chained().count() as u16;
        let room = chain.hashes.get(self.pin).len().max(to);
        let record = old.and_then(|e| Detail::of(e, chain.details.get(self.pin)));
        match (old, record) {
            (Some(e), Some(record)) => match record.plane(plane) {
                Some(bits) if bits.len() * 64 >= to => e.detail,
                _ => details.create(holder.endpoint, groups, plane, room, Some(record)),
            },
            (Some(e), None) => {
                // A watermark becomes a bitmap.
                let first = owner.chained().next().unwrap_or(holder.group);
                let device = Plane::new(Tier::DEVICE, first);
                let at = details.create(holder.endpoint, groups, device, room, None);
                let record = Detail::of(Entry { detail: at, ..e }, chain.details.get(self.pin));
                if let Some(bits) = record.and_then(|r| r.plane(device)) {
                    detail::set(bits, 0, usize::from(e.blocks));
                }
                if device == plane {
                    return at;
                }
                let both = details.create(holder.endpoint, groups, plane, room, record);
                details.free(at);
                both
            }
            (None, _) => details.create(holder.endpoint, groups, plane, room, None),
        }
    }

    /// Makes the entry of `endpoint` say what its record at `at` says, or what is left of it.
    pub(crate) fn settle(
        &mut self,
        chain: &'a Chain,
        endpoint: EndpointId,
        old: Option<Entry>,
        at: u32,
    ) {
        let new = Entry { detail: at, ..Entry::plain(endpoint, 0) };
        let Some(record) = Detail::of(new, chain.details.get(self.pin)) else { return };
        let owner = self.owner(endpoint);
        let extent = record.extent();
        let blocks = record.leading(0, extent);
        let plain = blocks == extent && owner.plain().is_some_and(|plane| record.is_plain(plane));
        let mut kept = Some(at);
        if extent == 0 {
            self.left(chain, endpoint);
            kept = None;
        } else {
            kept = kept.filter(|_| !plain);
            let new = match kept {
                Some(detail) => {
                    Entry { detail, is_split: record.is_split(), ..Entry::plain(endpoint, blocks) }
                }
                None => Entry::plain(endpoint, blocks),
            };
            holders::put(chain, old, new, self.pin);
        }
        let details = self.details(chain);
        if kept.is_none() {
            details.free(at);
        }
        if let Some(old) = old.filter(|o| o.detail != 0 && o.detail != at) {
            details.free(old.detail);
        }
    }

    /// `endpoint` has its first entry in the chain.
    pub(crate) fn joined(&mut self, number: u32, endpoint: EndpointId) {
        let (map, pin) = (self.map, self.pin);
        let owner = self.owner_mut(endpoint);
        owner.entries += 1;
        let room = owner.chains.capacity();
        if owner.chains.len() == room {
            if room > 2 * owner.entries {
                // Half of it is of chains it has left.
                owner.chains.sort_unstable();
                owner.chains.dedup();
                owner.chains.retain(|&n| {
                    let chain = map.chains.get(n);
                    chain.is_some_and(|c| holders::find(c, endpoint, pin).is_some())
                });
            }
            if owner.chains.len() == room {
                owner.chains.reserve_exact(room / 2 + 4);
                let now = owner.chains.capacity();
                pin.recount(room * size_of::<u32>(), now * size_of::<u32>());
            }
        }
        owner.chains.push(number);
    }

    /// `endpoint` holds nothing of the chain any more.
    pub(crate) fn left(&mut self, chain: &Chain, endpoint: EndpointId) {
        holders::remove(chain, endpoint, self.pin);
        self.owner_mut(endpoint).entries -= 1;
    }

    /// `holder` no longer holds the block at `offset`; whether it did.
    pub(crate) fn release(&mut self, chain: &'a Chain, holder: Holder, offset: usize) -> bool {
        let endpoint = holder.endpoint;
        let Some(old) = holders::find(chain, endpoint, self.pin) else { return false };
        if old.detail == 0 {
            let held = usize::from(old.blocks);
            if !self.is_plain(holder) || offset >= held {
                return false;
            }
            if offset + 1 == held {
                if offset == 0 {
                    self.left(chain, endpoint);
                } else {
                    let new = Entry { blocks: offset as u16, ..old };
                    holders::put(chain, Some(old), new, self.pin);
                }
                return true;
            }
        } else if let Some(removed) = self.pierce(chain, holder, old, offset) {
            return removed;
        } else if !self.holds_at(chain, holder, offset) {
            return false;
        }
        let at = self.plane_of(chain, holder, Some(old), offset + 1);
        let record = Detail::of(Entry { detail: at, ..old }, chain.details.get(self.pin));
        let bits = record.and_then(|r| r.plane(Plane::new(holder.tier, holder.group)));
        let removed = bits.is_some_and(|bits| detail::clear(bits, offset));
        self.settle(chain, endpoint, Some(old), at);
        removed
    }

    /// As `release`, where that makes one hole more in the only bitmap of a record: the usual case of
    /// removals out of order. `None` if it is another case.
    fn pierce(&self, chain: &Chain, holder: Holder, old: Entry, offset: usize) -> Option<bool> {
        let record = Detail::of(old, chain.details.get(self.pin))?;
        let bits = record.only(Plane::new(holder.tier, holder.group))?;
        if !detail::has(bits, offset) {
            return Some(false);
        }
        if !detail::any_after(bits, offset) {
            return None;
        }
        if offset < usize::from(old.blocks) {
            let new = Entry { blocks: offset as u16, ..old };
            holders::put(chain, Some(old), new, self.pin);
        }
        Some(detail::clear(bits, offset))
    }
}
