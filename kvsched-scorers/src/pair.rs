use crate::{DecideInput, Profile, Scratch};
use kvsched_core::{Decision, EndpointId, Request, Rng, RouteError};

/// Prefill and decode by threshold: llm-d's `disagg-profile-handler` with the
/// `prefix-based-pd-decider`.
///
/// The decode profile chooses first. If at least `threshold` prompt tokens are not cached there,
/// the prefill profile chooses somebody to compute them, knowing whom for
/// ([`Request::near`]); else the decode endpoint does both. For one minimisation instead, see
/// [`cost::Split`](crate::cost::Split).
///
/// Images, sounds and films may have a stage before both: [`Pair::encode`].
#[derive(Debug)]
pub struct Pair {
    /// Who prefills apart, from how many uncached tokens on.
    prefill: Option<(Profile, u32)>,
    decode: Profile,
    encode: Option<Profile>,
}

impl Pair {
    /// Splits off a prefill of at least `threshold` uncached tokens; with 0 none, as in llm-d.
    #[must_use]
    pub fn new(prefill: Profile, decode: Profile, threshold: u32) -> Self {
        let pair = Self::together(decode);
        if threshold == 0 { pair } else { Self { prefill: Some((prefill, threshold)), ..pair } }
    }

    /// Splits off every prefill: llm-d's `always-disagg-pd-decider`.
    #[must_use]
    pub const fn always(prefill: Profile, decode: Profile) -> Self {
        Self { prefill: Some((prefill, 0)), decode, encode: None }
    }

    /// Never splits off a prefill; for [`Pair::encode`].
    #[must_use]
    pub const fn together(decode: Profile) -> Self {
        Self { prefill: None, decode, encode: None }
    }

    /// Has prompts with multimodal items encoded by whom `profile` chooses:
    /// [`Pair::decide_encode`].
    #[must_use]
    pub fn encode(self, profile: Profile) -> Self {
        Self { encode: Some(profile), ..self }
    }

    /// The decode decision, and the prefill decision where there is one of its own.
    ///
    /// Afterwards `decode_scratch` holds the one, `prefill_scratch` the other.
    ///
    /// # Errors
    ///
    /// The decode profile's, or the prefill profile's where it is asked.
    pub fn decide(
        &self,
        input: DecideInput<'_>,
        rng: &mut Rng,
        decode_scratch: &mut Scratch,
        prefill_scratch: &mut Scratch,
    ) -> Result<(Decision, Option<Decision>), RouteError> {
        let decode = self.decode.decide(input, rng, decode_scratch)?;
        let Some((prefill, threshold)) = &self.prefill else { return Ok((decode, None)) };
        let cached = decode.matched_blocks.saturating_mul(input.request.block_size);
        let uncached = input.request.prompt_tokens.saturating_sub(cached);
        if uncached < *threshold {
            return Ok((decode, None));
        }
        let request = Request { near: Some(decode.endpoint), ..input.request };
        let input = DecideInput { request, ..input };
        let prefill = prefill.decide(input, rng, prefill_scratch)?;
        Ok((decode, Some(prefill)))
    }

    /// Who encodes the prompt's multimodal items for `near`, the endpoint that computes the
    /// prompt; `None` where that one does it itself, because no profile was given. To be asked
    /// once a prompt that has such items, or once an item: llm-d's
    /// `always-disagg-multimodal-decider`.
    ///
    /// # Errors
    ///
    /// The encode profile's.
    pub fn decide_encode(
        &self,
        input: DecideInput<'_>,
        near: EndpointId,
        rng: &mut Rng,
        scratch: &mut Scratch,
    ) -> Result<Option<Decision>, RouteError> {
        let Some(encode) = &self.encode else { return Ok(None) };
        let request = Request { near: Some(near), ..input.request };
        encode.decide(DecideInput { request, ..input }, rng, scratch).map(Some)
    }
}
