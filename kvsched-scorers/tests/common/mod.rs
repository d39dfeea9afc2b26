//! A small fleet to decide over.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use kvsched_core::{
    Decision, EndpointId, Filter, Labels, Load, Picker, PrefixMatches, Rates, Request, Rng,
    RouteError, Scorer, Tier, Time,
};
use kvsched_scorers::{DecideInput, Profile, Receipt, Scratch, picker};

#[derive(Clone, Debug, Default)]
pub struct Fleet {
    pub request: Request<'static>,
    pub candidates: Vec<EndpointId>,
    pub loads: Vec<Load>,
    pub matches: PrefixMatches,
    pub saved_tokens: Vec<u32>,
    pub labels: Vec<Labels>,
    pub rates: Vec<Rates>,
    pub now: Time,
}

impl Fleet {
    /// Endpoints `0..n`, idle and cold, and a prompt of `blocks` whole blocks of 16 tokens.
    pub fn new(n: u16, blocks: u32) -> Self {
        let mut matches = PrefixMatches::new();
        matches.reset(n.into(), blocks);
        Self {
            request: Request { prompt_tokens: blocks * 16, block_size: 16, ..Request::default() },
            candidates: (0..n).map(EndpointId).collect(),
            loads: vec![Load::default(); n.into()],
            matches,
            saved_tokens: Vec::new(),
            labels: Vec::new(),
            rates: Vec::new(),
            now: Time(0),
        }
    }

    /// Matched blocks of endpoints 0, 1, ….
    pub fn matched(mut self, blocks: &[u32]) -> Self {
        for (i, &n) in blocks.iter().enumerate() {
            self.matches.set(EndpointId(i as u16), n);
        }
        self
    }

    pub fn slow(mut self, endpoint: u16, tier: Tier, blocks: u32) -> Self {
        self.matches.push_slow(EndpointId(endpoint), tier, blocks);
        self
    }

    pub fn load(mut self, each: impl Fn(usize, &mut Load)) -> Self {
        self.loads.iter_mut().enumerate().for_each(|(i, load)| each(i, load));
        self
    }

    /// Labels of endpoints 0, 1, ….
    pub fn labelled(mut self, labels: &[&[(&str, &str)]]) -> Self {
        self.labels = labels.iter().map(|l| l.iter().copied().collect()).collect();
        self
    }

    pub fn request(mut self, change: impl Fn(&mut Request<'static>)) -> Self {
        change(&mut self.request);
        self
    }

    pub fn input(&self) -> DecideInput<'_> {
        DecideInput {
            request: self.request,
            candidates: &self.candidates,
            loads: &self.loads,
            matches: &self.matches,
            saved_tokens: &self.saved_tokens,
            labels: &self.labels,
            rates: &self.rates,
            knowledge: &[],
            now: self.now,
        }
    }

    pub fn decide(&self, profile: &Profile, seed: u64) -> Result<Decision, RouteError> {
        profile.decide(self.input(), &mut Rng::new(seed), &mut Scratch::new())
    }

    pub fn receipt(&self, profile: &Profile, seed: u64) -> Receipt {
        let mut scratch = Scratch::new();
        profile.decide(self.input(), &mut Rng::new(seed), &mut scratch).unwrap();
        Receipt::of(profile, &scratch).unwrap()
    }

    /// What `scorer` writes, by endpoint.
    pub fn scores(&self, scorer: impl Scorer + 'static) -> Vec<f64> {
        let profile = profile().scorer(Box::new(scorer), 1.0).build().unwrap();
        self.receipt(&profile, 0).rows.iter().map(|row| row.scores[0]).collect()
    }

    /// Whom `filter` keeps; empty if nobody.
    pub fn kept(&self, filter: impl Filter + 'static) -> Vec<u16> {
        let profile = profile().filter(Box::new(filter)).build().unwrap();
        let mut scratch = Scratch::new();
        if profile.decide(self.input(), &mut Rng::new(0), &mut scratch).is_err() {
            return Vec::new();
        }
        let rows = Receipt::of(&profile, &scratch).unwrap().rows;
        rows.iter().filter(|r| r.dropped_by.is_none()).map(|r| r.endpoint.0).collect()
    }

    /// How often each endpoint is picked over `draws` seeds.
    pub fn picks(&self, profile: &Profile, draws: u64) -> Vec<u64> {
        let mut counts = vec![0; self.candidates.len()];
        for seed in 0..draws {
            counts[self.decide(profile, seed).unwrap().endpoint.index()] += 1;
        }
        counts
    }
}

/// A profile that lacks nothing but what is to be tested.
pub fn profile() -> kvsched_scorers::ProfileBuilder {
    Profile::builder().picker(Box::new(picker::MaxScore))
}

pub fn with_picker(picker: impl Picker + 'static) -> kvsched_scorers::ProfileBuilder {
    Profile::builder().picker(Box::new(picker))
}

/// Writes fixed scores, by position.
#[derive(Debug)]
pub struct Fixed(pub Vec<f64>);

impl Scorer for Fixed {
    fn name(&self) -> &str {
        "fixed"
    }
    fn needs(&self) -> kvsched_core::Needs {
        kvsched_core::Needs::NONE
    }
    fn score(&self, _: &kvsched_core::Context<'_>, scores: &mut [f64]) {
        scores.copy_from_slice(&self.0[..scores.len()]);
    }
}

pub fn assert_close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{got:?} against {want:?}");
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() < 1e-9, "{got:?} against {want:?}");
    }
}
