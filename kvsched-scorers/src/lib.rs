//! `(Request, &[EndpointId], &[Load], &PrefixMatches) -> Decision`: filters, scorers, pickers,
//! and the profiles that combine them.
//!
//! A [`Profile`] is a list of filters, a weighted list of scorers, and one picker. Every
//! plugin that the field's routers publish exists here under its own name, one file each, so
//! that an existing policy carries over.
//!
//! # Example
//!
//! Two idle endpoints; the second already holds six of the prompt's eight blocks.
//!
//! ```
//! use kvsched_core::{EndpointId, Load, PrefixMatches, Request, Rng};
//! use kvsched_scorers::{DecideInput, Profile, Receipt, Scratch};
//! use kvsched_scorers::{filter, picker, scorer};
//!
//! let profile = Profile::builder()
//!     .filter(Box::new(filter::Utilization::new().cap(filter::Metric::KvCacheUtilization, 0.95)?))
//!     .scorer(Box::new(scorer::PrefixCache::new()), 3.0)
//!     .scorer(Box::new(scorer::Queue), 2.0)
//!     .scorer(Box::new(scorer::KvCacheUtilization), 2.0)
//!     .picker(Box::new(picker::MaxScore))
//!     .build()?;
//!
//! let mut matches = PrefixMatches::new();
//! matches.reset(2, 8);
//! matches.set(EndpointId(1), 6);
//!
//! let (mut rng, mut scratch) = (Rng::new(1), Scratch::new());
//! let input = DecideInput {
//!     request: Request { prompt_tokens: 130, block_size: 16, ..Request::default() },
//!     loads: &[Load::default(), Load::default()],
//!     matches: &matches,
//!     ..DecideInput::new(&[EndpointId(0), EndpointId(1)])
//! };
//! let decision = profile.decide(input, &mut rng, &mut scratch)?;
//! assert_eq!((decision.endpoint, decision.matched_blocks), (EndpointId(1), 6));
//!
//! let receipt = Receipt::of(&profile, &scratch).ok_or("nothing was decided")?;
//! assert!(receipt.to_string().contains("prefix-cache-scorer 0.750"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Cost
//!
//! A decision is O(candidates × plugins) and allocates nothing once its [`Scratch`] has seen the
//! fleet. One filter, three weighted scorers and a picker take 0.2 µs over 8 endpoints and 8 µs
//! over 512; the [`cost`] model 0.3 and 15 µs (minima on a shared two-core machine, `cargo bench -p
//! kvsched-scorers`). A [`Receipt`] of 8 endpoints takes 1 µs more and does allocate.
//!
//! # When not to use this crate
//!
//! Take the facade crate `kvsched` to route; it hashes the prompt and asks the index, and
//! wires both to a profile. Take this crate alone where matches come from elsewhere.
#![forbid(unsafe_code)]

#[cfg(feature = "serde")]
pub mod config;
pub mod cost;
pub mod filter;
pub mod picker;
pub mod preset;
pub mod scorer;
pub mod segment;

#[cfg(feature = "serde")]
mod any_float;
mod hot;
mod inflight;
mod nearest;
mod pair;
mod parameter;
mod profile;
mod receipt;
mod record;
mod scale;
mod scratch;
mod topology;

pub use hot::HotPrefixes;
pub use inflight::{InFlight, Outstanding, Report, Routed, Ticket};
pub use pair::Pair;
pub use parameter::ParameterError;
pub use profile::{DecideInput, Profile, ProfileBuilder, ProfileError};
pub use receipt::{Receipt, ReceiptRow};
pub use record::Record;
pub use scratch::Scratch;
pub use topology::Proximity;
