//! LoRA adapters: so many fit on the device at once.

/// The adapters on an engine's device.
#[derive(Debug)]
pub(super) struct Adapters {
    slots: usize,
    /// Used longest ago first.
    loaded: Vec<u32>,
}

impl Adapters {
    pub(super) fn new(slots: u32) -> Self {
        Self { slots: slots as usize, loaded: Vec::new() }
    }

    /// Whether a request for `adapter` may run beside requests that use those in `active`.
    pub(super) fn fits(&self, adapter: u32, active: &[u32]) -> bool {
        active.contains(&adapter) || active.len() < self.slots
    }

    /// Makes sure that `adapter` is on the device; whether it had to be loaded. What was used
    /// longest ago by nobody who runs goes for it.
    pub(super) fn ready(&mut self, adapter: u32, active: &[u32]) -> bool {
        let there = self.loaded.iter().position(|&a| a == adapter);
        if let Some(i) = there {
            self.loaded.remove(i);
        } else if self.loaded.len() >= self.slots {
            let idle = self.loaded.iter().position(|a| !active.contains(a));
            self.loaded.remove(idle.unwrap_or(0));
        }
        self.loaded.push(adapter);
        there.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::Adapters;

    #[test]
    fn the_one_unused_longest_goes_unless_somebody_runs_with_it() {
        let mut adapters = Adapters::new(2);
        assert!(adapters.ready(1, &[]) && adapters.ready(2, &[1]));
        assert!(!adapters.ready(1, &[2]), "still there");
        assert!(adapters.ready(3, &[1]), "2 goes, used before 1");
        assert!(!adapters.ready(1, &[]));
        assert!(adapters.ready(2, &[3]), "1 goes though used last: 3 runs");
        assert!(!adapters.ready(3, &[3]));
        assert!(adapters.fits(9, &[3]) && adapters.fits(3, &[3, 2]) && !adapters.fits(9, &[3, 2]));
    }
}
