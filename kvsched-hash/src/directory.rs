use std::collections::TryReserveError;
use std::num::NonZeroU32;

/// Which run stands behind which key: a map of fixed size that may forget.
///
/// Eight entries are a set, and a set is one line of memory, so that to look up, to enter and
/// to leave each wait for memory once at most. There are four times as many entries as runs;
/// where nine runs fall into one set all the same, one of them is forgotten.
#[derive(Debug)]
pub(crate) struct Directory {
    sets: Vec<Set>,
}

const WAYS: usize = 8;

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Set([Option<Entry>; WAYS]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// What the set's number does not tell of the key.
    tag: u32,
    /// One more than the run's number.
    run: NonZeroU32,
}

impl Entry {
    fn new(key: u64, run: usize) -> Option<Self> {
        let run = NonZeroU32::new(u32::try_from(run + 1).ok()?)?;
        Some(Self { tag: key as u32, run })
    }
}

impl Directory {
    /// The most runs.
    pub(crate) const MAX_RUNS: usize = u32::MAX as usize - 1;

    /// Bytes for each run.
    pub(crate) const RUN_BYTES: usize = size_of::<Set>() / 2;

    /// An empty directory of so many runs, at most [`MAX_RUNS`](Self::MAX_RUNS).
    pub(crate) fn new(runs: usize) -> Result<Self, TryReserveError> {
        let mut sets = Vec::new();
        sets.try_reserve_exact(runs.div_ceil(2))?;
        sets.resize(runs.div_ceil(2), Set::default());
        Ok(Self { sets })
    }

    /// The number of the key's set.
    fn place(&self, key: u64) -> usize {
        ((u128::from(key) * self.sets.len() as u128) >> 64) as usize
    }

    /// The run that was entered last under this key, or one whose key is the same but for a
    /// bit that is not kept.
    pub(crate) fn get(&self, key: u64) -> Option<usize> {
        let set = &self.sets[self.place(key)].0;
        let entry = set.iter().flatten().find(|entry| entry.tag == key as u32)?;
        Some(entry.run.get() as usize - 1)
    }

    /// Enters a run, in place of another with its key.
    pub(crate) fn insert(&mut self, key: u64, run: usize) {
        let place = self.place(key);
        let set = &mut self.sets[place].0;
        let same = set.iter().position(|e| e.is_some_and(|e| e.tag == key as u32));
        let free = || set.iter().position(Option::is_none);
        let way = same.or_else(free).unwrap_or(run % WAYS);
        set[way] = Entry::new(key, run);
    }

    /// Takes a run out, if its key still stands for it.
    pub(crate) fn remove(&mut self, key: u64, run: usize) {
        let place = self.place(key);
        let entry = Entry::new(key, run);
        if let Some(found) = self.sets[place].0.iter_mut().find(|e| **e == entry) {
            *found = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Beside a map that forgets nothing: what it finds is right, and with room in every
        /// set it finds all.
        #[test]
        fn it_is_a_map(
            runs in 1..40_usize,
            steps in prop::collection::vec((any::<bool>(), 0..40_usize, 0..12_u64), 0..200),
        ) {
            let mut directory = Directory::new(runs).unwrap();
            let mut map = HashMap::new();
            for (enter, run, key) in steps {
                // Spread over the sets, and eight keys at most in each.
                let key = (key % 8) << 61 | key;
                if enter {
                    directory.insert(key, run);
                    map.insert(key, run);
                } else {
                    directory.remove(key, run);
                    if map.get(&key) == Some(&run) {
                        map.remove(&key);
                    }
                }
                for key in (0..12).map(|key| (key % 8) << 61 | key) {
                    let found = directory.get(key);
                    prop_assert!(found.is_none() || found == map.get(&key).copied());
                    prop_assert!(runs < 16 || found == map.get(&key).copied());
                }
            }
        }
    }

    #[test]
    fn a_crowded_set_forgets_but_never_lies() {
        let mut directory = Directory::new(1).unwrap();
        for run in 0..100 {
            directory.insert(run as u64, run);
            assert_eq!(directory.get(run as u64), Some(run));
        }
        let found: Vec<_> = (0..100).filter_map(|key| Some((key, directory.get(key)?))).collect();
        assert_eq!(found.len(), WAYS);
        assert!(found.iter().all(|&(key, run)| key == run as u64));
    }

    #[test]
    fn an_eighth_of_a_line_is_an_entry() {
        assert_eq!((size_of::<Set>(), size_of::<Option<Entry>>()), (64, 8));
        assert!(Directory::new(usize::MAX).is_err());
    }
}
