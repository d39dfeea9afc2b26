use crate::{DecideInput, Profile, Scratch};
use kvsched_core::{
    Decision, EndpointId, Knowledge, Labels, Load, LoraId, PrefixMatches, Rates, Request, Rng,
    RouteError, Time,
};
use std::time::Duration;

/// Everything a decision was made from, to be kept and decided again.
///
/// Replaying a log of records, in order and from a fresh profile, gives the same decisions and
/// receipts, byte for byte. A format that does not read back the floats it wrote, such as
/// `serde_json` without its feature `float_roundtrip`, breaks that by the last bit.
///
/// ```
/// # use kvsched_core::{EndpointId, Load, Rng};
/// # use kvsched_scorers::{preset, DecideInput, Record, Scratch};
/// # let profile = preset::by_name("power-of-two")?;
/// # let candidates = [EndpointId(0), EndpointId(1), EndpointId(2)];
/// # let loads = vec![Load::default(); 3];
/// let input = DecideInput { loads: &loads, ..DecideInput::new(&candidates) };
/// let (mut rng, mut scratch) = (Rng::new(7), Scratch::new());
/// let record = Record::of(&input, &rng);
/// let decision = profile.decide(input, &mut rng, &mut scratch)?;
/// assert_eq!(record.replay(&profile, &mut scratch)?, decision);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Record {
    request: OwnedRequest,
    candidates: Vec<EndpointId>,
    loads: Vec<Load>,
    matches: PrefixMatches,
    saved_tokens: Vec<u32>,
    labels: Vec<Labels>,
    rates: Vec<Rates>,
    knowledge: Vec<Knowledge>,
    now: Time,
    seed: u64,
}

/// A [`Request`] that borrows nothing.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct OwnedRequest {
    prompt_tokens: u32,
    block_size: u32,
    lora: Option<LoraId>,
    session: Option<String>,
    expected_output_tokens: u32,
    pinned: Option<EndpointId>,
    near: Option<EndpointId>,
    prefix_demand: f64,
    ttft_slo: Option<Duration>,
    tpot_slo: Option<Duration>,
}

impl Record {
    /// Copies `input` and the state of `rng` before the decision. Allocates.
    #[must_use]
    pub fn of(input: &DecideInput<'_>, rng: &Rng) -> Self {
        let Request {
            prompt_tokens,
            block_size,
            lora,
            session,
            expected_output_tokens,
            pinned,
            near,
            prefix_demand,
            ttft_slo,
            tpot_slo,
        } = input.request;
        Self {
            request: OwnedRequest {
                prompt_tokens,
                block_size,
                lora,
                session: session.map(str::to_owned),
                expected_output_tokens,
                pinned,
                near,
                prefix_demand,
                ttft_slo,
                tpot_slo,
            },
            candidates: input.candidates.to_vec(),
            loads: input.loads.to_vec(),
            matches: input.matches.clone(),
            saved_tokens: input.saved_tokens.to_vec(),
            labels: input.labels.to_vec(),
            rates: input.rates.to_vec(),
            knowledge: input.knowledge.to_vec(),
            now: input.now,
            seed: rng.state(),
        }
    }

    /// What was decided from.
    #[must_use]
    pub fn input(&self) -> DecideInput<'_> {
        let r = &self.request;
        DecideInput {
            request: Request {
                prompt_tokens: r.prompt_tokens,
                block_size: r.block_size,
                lora: r.lora,
                session: r.session.as_deref(),
                expected_output_tokens: r.expected_output_tokens,
                pinned: r.pinned,
                near: r.near,
                prefix_demand: r.prefix_demand,
                ttft_slo: r.ttft_slo,
                tpot_slo: r.tpot_slo,
            },
            candidates: &self.candidates,
            loads: &self.loads,
            matches: &self.matches,
            saved_tokens: &self.saved_tokens,
            labels: &self.labels,
            rates: &self.rates,
            knowledge: &self.knowledge,
            now: self.now,
        }
    }

    /// Decides again.
    ///
    /// # Errors
    ///
    /// Those of [`Profile::decide`].
    pub fn replay(&self, profile: &Profile, scratch: &mut Scratch) -> Result<Decision, RouteError> {
        profile.decide(self.input(), &mut Rng::new(self.seed), scratch)
    }
}
