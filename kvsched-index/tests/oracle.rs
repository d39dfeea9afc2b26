//! The index against its oracle, over operations in any order.

mod world;

use kvsched_core::Rng;
use world::{Variety, World};

/// Runs `worlds` worlds of `steps` operations each; returns how many operations that was.
fn drive(seed: u64, worlds: usize, steps: usize, validate_every: usize) -> usize {
    for i in 0..worlds {
        let mut rng = Rng::new(seed.wrapping_add(i as u64));
        let variety = Variety::ALL[i % Variety::ALL.len()];
        let mut world = World::new(variety, &mut rng);
        for step in 0..steps {
            world.step(&mut rng);
            if step % validate_every == 0 {
                world.index.validate();
            }
        }
        world.ask_all();
        world.index.validate();
    }
    worlds * steps
}

#[test]
fn any_order_of_operations_gives_the_oracles_answers() {
    assert_eq!(drive(1, 120, 300, 1), 36_000);
}

/// `cargo test --release -p kvsched-index --test oracle -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes"]
fn ten_million_operations() {
    let mut done = 0;
    let mut seed = 1 << 32;
    while done < 10_000_000 {
        done += drive(seed, 600, 1000, 1000);
        seed += 600;
        #[allow(clippy::print_stdout, reason = "how far a long run is")]
        {
            println!("{done} operations, 0 mismatches");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn short_histories(seed in proptest::num::u64::ANY, steps in 1usize..60, variety in 0usize..6) {
        let mut rng = Rng::new(seed);
        let mut world = World::new(Variety::ALL[variety], &mut rng);
        for _ in 0..steps {
            world.step(&mut rng);
            world.index.validate();
        }
        world.ask_all();
    }
}
