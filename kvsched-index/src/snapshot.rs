//! An index as bytes, to seed another.
//!
//! # Format, version 1
//!
//! `kvsched\0`, the version (u32), then sections; all numbers are little-endian. A section is
//! its kind (u8), its length (u32), the XXH64 of kind and body (u64), and the body:
//!
//! | kind | body |
//! |---|---|
//! | `H` | tokens a block (u32), how many blocks in chains to expect (u64) |
//! | `O` | a part of the caller's note |
//! | `G` | groups with a rule: endpoint (u16), group (u8), rule (u8), its tokens (u32), tokens a block (u32) |
//! | `R` | records: a run of blocks, the engine's names of its blocks, who holds what of it, one after the other |
//! | `C` | further copies: endpoint (u16), tier (u8), group (u8), hash (u64), how many (u8) |
//! | `E` | how many sections there were before (u64); the end |
//!
//! Records begin with a byte: `r` or `p`, a run without or with a parent (u64), its length (u16)
//! and hashes (u64 each); `n`, a name: offset (u16), engine hash (u64); `w`, a holder of all
//! blocks before one (endpoint u16, tier u8, group u8, end u16); `h`, a holder of some (the same,
//! then how many stretches (u16) and their first and end offsets (u16 each)); `l`, a holder of
//! blocks in no order (endpoint u16, tier u8, group u8, how many u16, hashes). Runs come after
//! those they go on from.

mod restore;

use crate::chain::Chain;
use crate::detail::{self, Detail, Plane};
use crate::group::Grouping;
use crate::turns;
use crate::view::View;
use crate::{GroupRule, Holder, Index, SharedIndex, holders};
use kvsched_core::{BlockHash, EndpointId, Group, Tier};
use std::hash::Hasher;
use twox_hash::XxHash64;

pub use restore::{Restored, SnapshotError, SnapshotReader};

const MAGIC: &[u8; 8] = b"kvsched\0";
const VERSION: u32 = 1;
/// Bytes before a section's body.
const SECTION_HEAD: usize = 1 + 4 + 8;
/// A section is closed once its body is this long.
const SECTION: usize = 64 << 10;
/// Most blocks of an `l` record.
const LOOSE: usize = 4096;
/// The longest record stays below this, and so does a section's excess.
const RECORD: usize = 64 << 10;

impl Index {
    /// Writes all that is held, in pieces of at most 128 KiB; see [`SnapshotReader`].
    ///
    /// `note` is the caller's: what the ids mean where it was written, and how far each
    /// endpoint's stream had come
    /// ([`EventStream::next_sequence`](crate::events::EventStream::next_sequence)). O(blocks).
    pub fn write_snapshot(&self, note: &[u8], mut sink: impl FnMut(&[u8])) {
        self.view(|view| write(view, note, &mut sink));
    }
}

impl SharedIndex {
    /// As [`Index::write_snapshot`]. Queries go on; other writers wait until all is written.
    pub fn write_snapshot(&self, note: &[u8], mut sink: impl FnMut(&[u8])) {
        self.view(|view| write(view, note, &mut sink));
    }
}

fn checksum(kind: u8, body: &[u8]) -> u64 {
    let mut hasher = XxHash64::with_seed(u64::from(kind));
    hasher.write(body);
    hasher.finish()
}

/// Sections on their way out.
struct Sections<'a> {
    sink: &'a mut dyn FnMut(&[u8]),
    kind: u8,
    /// With room for the head in front.
    bytes: Vec<u8>,
    closed: u64,
}

impl Sections<'_> {
    /// Room for a record in a section of this kind.
    fn section(&mut self, kind: u8) -> &mut Vec<u8> {
        if self.kind != kind || self.bytes.len() >= SECTION_HEAD + SECTION {
            self.close();
            self.kind = kind;
        }
        &mut self.bytes
    }

    fn close(&mut self) {
        if self.bytes.len() > SECTION_HEAD {
            let (head, body) = self.bytes.split_at_mut(SECTION_HEAD);
            head[0] = self.kind;
            head[1..5].copy_from_slice(&(body.len() as u32).to_le_bytes());
            head[5..].copy_from_slice(&checksum(self.kind, body).to_le_bytes());
            (self.sink)(&self.bytes);
            self.closed += 1;
        }
        self.bytes.clear();
        self.bytes.resize(SECTION_HEAD, 0);
    }
}

fn write(view: View<'_>, note: &[u8], sink: &mut dyn FnMut(&[u8])) {
    let View { map, own, pin, .. } = view;
    sink(&[MAGIC.as_slice(), &VERSION.to_le_bytes()].concat());
    let mut out = Sections { sink, kind: b'H', bytes: vec![0; SECTION_HEAD], closed: 0 };
    out.section(b'H').extend(own.unit.to_le_bytes());
    out.section(b'H').extend((view.blocks() as u64).to_le_bytes());
    for part in note.chunks(SECTION) {
        out.section(b'O').extend(part);
    }
    for (endpoint, owner) in view.owners() {
        for &(group, grouping) in owner.groups() {
            write_group(endpoint, group, grouping, out.section(b'G'));
        }
    }
    let names = names_by_block(view);
    for number in parents_first(view) {
        if let Some(chain) = map.chains.get(number) {
            write_run(chain, map.chains.run(number).parent(), view, &names, &mut out);
        }
    }
    for (endpoint, owner) in view.owners() {
        for group in &owner.loose {
            for tier in (0..Tier::COUNT as u8).filter_map(Tier::new) {
                let holder = Holder { endpoint, tier, group: group.group };
                let mut hashes = Vec::with_capacity(group.tier(tier).len());
                group.tier(tier).for_each(pin, |hash| hashes.push(hash));
                write_loose(holder, &hashes, &names, &mut out);
            }
        }
    }
    for (endpoint, owner) in view.owners() {
        for (&(tier, group, hash), &copies) in &owner.copies {
            let record = out.section(b'C');
            write_holder(Holder { endpoint, tier, group }, record);
            record.extend(hash.0.to_le_bytes());
            // An engine has a handful; counting fewer only forgets a block too early.
            record.push(copies.min(u32::from(u8::MAX)) as u8);
        }
    }
    out.close();
    let sections = out.closed;
    out.section(b'E').extend(sections.to_le_bytes());
    out.close();
}

/// The engine's names, by block.
fn names_by_block(view: View<'_>) -> Vec<(BlockHash, u64)> {
    let mut names = Vec::new();
    let own_names = turns::take(&view.own.names);
    own_names.for_each(view.map, view.pin, |name, block| names.push((block, name.0)));
    names.sort_unstable();
    names
}

fn names_of(names: &[(BlockHash, u64)], block: BlockHash) -> impl Iterator<Item = u64> {
    let first = names.partition_point(|&(b, _)| b < block);
    names[first..].iter().take_while(move |&&(b, _)| b == block).map(|&(_, name)| name)
}

/// The numbers of all chains, each after the one it goes on from.
fn parents_first(View { map, own, pin, .. }: View<'_>) -> Vec<u32> {
    let mut children: Vec<(u32, u32)> = (1..own.numbers.end())
        .filter(|&n| map.chains.get(n).is_some_and(|chain| chain.len() > 0))
        .map(|n| {
            let parent = map.chains.run(n).parent().and_then(|p| map.place(p, pin));
            (parent.map_or(0, |p| p.chain), n)
        })
        .collect();
    children.sort_unstable();
    let mut ordered: Vec<u32> = Vec::with_capacity(children.len());
    let mut next = 0;
    let mut parent = Some(0);
    while let Some(number) = parent {
        let first = children.partition_point(|&(p, _)| p < number);
        let of_parent = children[first..].iter().take_while(|&&(p, _)| p == number);
        ordered.extend(of_parent.map(|&(_, n)| n));
        parent = ordered.get(next).copied();
        next += 1;
    }
    ordered
}

fn write_group(endpoint: EndpointId, group: Group, grouping: Grouping, out: &mut Vec<u8>) {
    let (rule, tokens) = match grouping.rule {
        GroupRule::Full => (0u8, 0),
        GroupRule::SlidingWindow { tokens } => (1, tokens),
        GroupRule::ChunkedLocal { tokens } => (2, tokens),
        GroupRule::Recurrent => (3, 0),
        GroupRule::Ignored => (4, 0),
    };
    out.extend(endpoint.0.to_le_bytes());
    out.extend([group.0, rule]);
    out.extend(tokens.to_le_bytes());
    out.extend(grouping.block_size.to_le_bytes());
}

fn write_holder(holder: Holder, out: &mut Vec<u8>) {
    out.extend(holder.endpoint.0.to_le_bytes());
    out.extend([holder.tier.index() as u8, holder.group.0]);
}

fn write_run(
    chain: &Chain,
    parent: Option<BlockHash>,
    view: View<'_>,
    names: &[(BlockHash, u64)],
    out: &mut Sections<'_>,
) {
    let pin = view.pin;
    let hashes: Vec<_> = (0..chain.len()).map_while(|i| chain.hash(i, pin)).collect();
    let record = out.section(b'R');
    record.push(if parent.is_some() { b'p' } else { b'r' });
    record.extend(parent.iter().flat_map(|p| p.0.to_le_bytes()));
    record.extend((hashes.len() as u16).to_le_bytes());
    record.extend(hashes.iter().flat_map(|h| h.0.to_le_bytes()));
    if !names.is_empty() {
        for (offset, &hash) in (0u16..).zip(&hashes) {
            for name in names_of(names, hash) {
                write_name(offset, name, out);
            }
        }
    }
    holders::all(chain, pin, |entry| {
        let Some(owner) = view.owner(entry.endpoint) else { return true };
        let Some(record) = Detail::of(entry, chain.details.get(pin)) else {
            if let Some(group) = owner.chained().next() {
                let holder = Holder { group, ..Holder::device(entry.endpoint) };
                write_watermark(holder, entry.blocks, out);
            }
            return true;
        };
        for group in owner.chained() {
            for tier in (0..Tier::COUNT as u8).filter_map(Tier::new) {
                if let Some(bits) = record.plane(Plane::new(tier, group)) {
                    let holder = Holder { endpoint: entry.endpoint, tier, group };
                    write_stretches(holder, hashes.len(), |i| detail::has(bits, i), out);
                }
            }
        }
        true
    });
}

fn write_name(offset: u16, name: u64, out: &mut Sections<'_>) {
    let record = out.section(b'R');
    record.push(b'n');
    record.extend(offset.to_le_bytes());
    record.extend(name.to_le_bytes());
}

fn write_watermark(holder: Holder, end: u16, out: &mut Sections<'_>) {
    let record = out.section(b'R');
    record.push(b'w');
    write_holder(holder, record);
    record.extend(end.to_le_bytes());
}

fn write_stretches(
    holder: Holder,
    len: usize,
    has: impl Fn(usize) -> bool,
    out: &mut Sections<'_>,
) {
    let mut stretches: Vec<(u16, u16)> = Vec::new();
    for i in (0..len).filter(|&i| has(i)) {
        match stretches.last_mut() {
            Some((_, end)) if usize::from(*end) == i => *end += 1,
            _ => stretches.push((i as u16, i as u16 + 1)),
        }
    }
    match *stretches.as_slice() {
        [] => {}
        [(0, end)] => write_watermark(holder, end, out),
        _ => {
            let record = out.section(b'R');
            record.push(b'h');
            write_holder(holder, record);
            record.extend((stretches.len() as u16).to_le_bytes());
            for (first, end) in stretches {
                record.extend(first.to_le_bytes());
                record.extend(end.to_le_bytes());
            }
        }
    }
}

/// Blocks in no order; a named one is a run of its own with its names first.
fn write_loose(
    holder: Holder,
    hashes: &[BlockHash],
    names: &[(BlockHash, u64)],
    out: &mut Sections<'_>,
) {
    for hashes in hashes.chunks(LOOSE) {
        let record = out.section(b'R');
        record.push(b'l');
        write_holder(holder, record);
        record.extend((hashes.len() as u16).to_le_bytes());
        record.extend(hashes.iter().flat_map(|h| h.0.to_le_bytes()));
        for (offset, &hash) in (0u16..).zip(hashes) {
            for name in names_of(names, hash) {
                write_name(offset, name, out);
            }
        }
    }
}
