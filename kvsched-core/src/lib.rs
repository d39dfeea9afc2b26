//! The vocabulary that every kvsched crate shares. No algorithm lives here.
//!
//! One type per idea, named as the field names it, and the three plugin traits
//! ([`Filter`], [`Scorer`], [`Picker`]) that decide where a prompt goes. What one
//! kvsched crate hands to another is declared in this crate and nowhere else:
//!
//! | from | to | what |
//! |---|---|---|
//! | `kvsched-hash` | `kvsched-index` | [`BlockHash`] |
//! | an engine's event stream | `kvsched-index` | [`Event`] |
//! | `kvsched-index` | `kvsched-scorers` | [`PrefixMatches`] |
//! | the embedding gateway | `kvsched-scorers` | [`Load`], [`Request`], [`Time`] |
//!
//! # Example
//!
//! A scorer of one's own is a struct with one method; see [`Scorer`].
//!
//! # When not to use this crate
//!
//! Take the facade crate `kvsched` unless you write a plugin or replace a part.
#![forbid(unsafe_code)]

mod block;
mod decision;
mod endpoint;
mod event;
mod labels;
mod load;
mod matches;
mod plugin;
mod prompt;
mod rates;
mod rng;
mod tier;
mod time;
mod trust;

pub use block::{BlockHash, EngineHash};
pub use decision::{Decision, RouteError};
pub use endpoint::{EndpointId, Group, LoraId};
pub use event::{
    AnnouncedHashes, AnnouncedKey, AnnouncedKeys, AttentionKind, Event, Locality, Removed, Stored,
};
pub use labels::Labels;
pub use load::{Load, LoraLoad};
pub use matches::{PrefixMatches, TierRun};
pub use plugin::{Candidate, Context, Filter, Needs, Picker, Request, Scorer};
pub use prompt::{Extras, Lora, MultimodalSpan, Prompt, PromptEmbeds, TokenId};
pub use rates::{Rates, Transfer};
pub use rng::Rng;
pub use tier::{Medium, Tier};
pub use time::Time;
pub use trust::{Knowledge, Trust};

#[cfg(test)]
mod auto_traits {
    fn all<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}

    #[test]
    fn everything_crosses_threads() {
        all::<crate::BlockHash>();
        all::<crate::Event<'static>>();
        all::<crate::PrefixMatches>();
        all::<crate::Load>();
        all::<crate::Decision>();
        all::<crate::Prompt<'static>>();
        all::<crate::RouteError>();
        fn shared<T: Send + Sync + ?Sized>() {}
        shared::<dyn crate::Filter>();
        shared::<dyn crate::Scorer>();
        shared::<dyn crate::Picker>();
    }
}
