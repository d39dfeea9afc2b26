//! Engines' names, as writes tell and forget them.

use crate::chain::Place;
use crate::names::Meaning;
use crate::write::Write;
use kvsched_core::{BlockHash, EngineHash};
use std::sync::atomic::Ordering;

impl Write<'_> {
    /// `engine[i]` is a name of `hashes[i]`, if anybody holds that.
    pub(crate) fn name(&mut self, engine: &[EngineHash], hashes: &[BlockHash]) {
        self.own.has_names.store(true, Ordering::Relaxed);
        self.sweep_names();
        self.change_names(|names| {
            let mut next: Option<Place> = None;
            for (i, (&name, &block)) in engine.iter().zip(hashes).enumerate() {
                let there = next.filter(|place| {
                    let chain = self.map.chains.get(place.chain);
                    chain.is_some_and(|c| c.is(usize::from(place.offset), block, self.pin))
                });
                let place = there.or_else(|| self.map.place(block, self.pin));
                let meaning = match place {
                    Some(place) => Meaning::At(place),
                    None if self.map.knows(block, self.pin) => Meaning::Listed(block),
                    None => continue,
                };
                names.insert(name, meaning, hashes.len() - i);
                next = place.map(|place| Place { offset: place.offset + 1, ..place });
            }
            names.end_of_store();
        });
    }

    /// Gives back what clears have left behind. Needs to be alone.
    pub(crate) fn reclaim(&mut self) {
        self.sweep(usize::MAX);
        self.change_names(|names| names.sweep(self.map, self.pin));
    }

    /// Forgets names that mean nothing, if there may be many.
    pub(crate) fn sweep_names(&self) {
        self.change_names(|names| {
            if names.is_due() {
                names.sweep(self.map, self.pin);
            }
        });
    }
}
