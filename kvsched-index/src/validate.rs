//! Everything that must be true between two writes.

use crate::chain::{Chain, Place};
use crate::detail::Detail;
use crate::holders;
use crate::turns;
use crate::view::View;
use kvsched_core::BlockHash;
use std::collections::{HashMap, HashSet};

/// Panics where the structure contradicts itself. Slow: it looks at everything.
pub(crate) fn validate(view: View<'_>) {
    let View { map, own, pin, .. } = view;
    turns::take(&own.names).validate();
    assert!(map.directory.counts_agree(&own.counts, pin), "the directory's own counts");
    let mut in_directory = HashSet::new();
    map.directory.for_each(pin, |place| {
        assert!(in_directory.insert((place.chain, place.offset)), "{place:?} has two slots");
    });
    assert!(map.heads.counts_agree(&own.head_counts, pin), "the heads' own counts");
    let mut heads = HashSet::new();
    map.heads.for_each(pin, |place| {
        assert!(
            place.offset == 0 && heads.insert(place.chain),
            "{place:?} is no head, or twice one"
        );
    });
    let mut hashes = HashSet::new();
    let mut entries: HashMap<usize, usize> = HashMap::new();
    let (mut blocks, mut chains, mut pending) = (0, 0, 0);
    for number in 1..own.numbers.end() {
        let Some(chain) = map.chains.get(number) else { panic!("chain {number} is missing") };
        let len = chain.len();
        for offset in 0..len {
            let Some(hash) = chain.hash(offset, pin) else { panic!("no hash at {offset}") };
            assert!(hashes.insert(hash), "{hash} is in two places");
            let place = Place { chain: number, offset: offset as u16 };
            assert!(in_directory.remove(&(number, place.offset)), "{place:?} has no slot");
            assert_eq!(map.place(hash, pin), Some(place), "{hash} is found elsewhere");
        }
        if len == 0 {
            assert!(holders::all(chain, pin, |_| false), "an ended chain has holders");
            continue;
        }
        assert!(heads.remove(&number), "chain {number} has no head");
        let last: Option<BlockHash> = chain.hash(len - 1, pin);
        assert!(last.is_some_and(|h| chain.is(len - 1, h, pin)), "the last hash of {number}");
        let run = map.chains.run(number);
        blocks += len;
        chains += 1;
        pending += if run.is_pending() { len } else { 0 };
        let held = entries_of(chain, number, view, &mut entries);
        assert!(held == len || run.is_stale(), "chain {number} of {len} is held to {held}");
    }
    assert!(in_directory.is_empty(), "slots of no block: {in_directory:?}");
    assert!(heads.is_empty(), "heads of no chain: {heads:?}");
    let totals = (view.blocks(), own.numbers.alive(), view.pending());
    assert_eq!((blocks, chains, pending), totals, "the totals");
    for (endpoint, owner) in view.owners() {
        let counted = entries.get(&endpoint.index()).copied().unwrap_or(0);
        assert_eq!(owner.entries, counted, "entries of endpoint {endpoint}");
    }
}

/// Checks the entries of a chain; returns the most blocks that anyone holds.
fn entries_of(
    chain: &Chain,
    number: u32,
    view: View<'_>,
    entries: &mut HashMap<usize, usize>,
) -> usize {
    let mut seen = HashSet::new();
    let (pin, mut most) = (view.pin, 0);
    holders::all(chain, pin, |entry| {
        assert!(seen.insert(entry.endpoint), "{} twice in chain {number}", entry.endpoint);
        let Some(owner) = view.owner(entry.endpoint) else { panic!("an unknown holder") };
        assert!(owner.chains.contains(&number), "{} does not know it", entry.endpoint);
        *entries.entry(entry.endpoint.index()).or_default() += 1;
        let detail = Detail::of(entry, chain.details.get(pin));
        assert_eq!(detail.is_some(), entry.detail != 0, "the record of {entry:?}");
        let extent = match detail {
            None => usize::from(entry.blocks),
            Some(record) => {
                let extent = record.extent();
                assert_eq!(record.leading(0, extent), usize::from(entry.blocks), "{entry:?}");
                assert_eq!(record.is_split(), entry.is_split, "{entry:?}");
                extent
            }
        };
        assert!(extent > 0, "{entry:?} holds nothing");
        most = most.max(extent);
        true
    });
    most
}
