//! The cache partition cascade in miniature.
//!
//! Customers share prefixes of 6,000 tokens on a few pods whose device memory holds only some of
//! them: a prefix that is pushed out is demoted to the pod's host and then to a slow store. A router
//! that counts a demoted prefix like one on the device keeps sending the customer to where it
//! has to be fetched and rebuilt; one that knows the tiers and their prices sends it elsewhere, or
//! has the pod compute the prefix where that is sooner.
//!
//! `cargo run --example tiers`
// Programs print; the library does not.
#![allow(clippy::print_stdout)]

use kvsched::{
    EndpointId, Load, PrefixMatches, Profile, Rates, Request, Rng, Scorer, Tier, Transfer, picker,
    scorer,
};
use kvsched_scorers::cost::{Cost, Source};
use kvsched_scorers::{DecideInput, Scratch};
use std::error::Error;

const PODS: usize = 4;
const CUSTOMERS: usize = 40;
/// Prefixes that a pod's device and its host hold; a pod's store holds the rest.
const DEVICE: usize = 3;
const HOST: usize = 3;
const PREFIX_BLOCKS: u32 = 375;
const PROMPT_TOKENS: u32 = 6_500;
const BLOCK: u32 = 16;
const REQUESTS: usize = 4_000;

/// A pod's prefixes, the most recently used first: the first few on the device, and so on.
#[derive(Clone, Debug, Default)]
struct Pod {
    recent: Vec<usize>,
    busy_until: f64,
}

impl Pod {
    fn tier(&self, customer: usize) -> Option<Tier> {
        let place = self.recent.iter().position(|&c| c == customer)?;
        Some(match place {
            _ if place < DEVICE => Tier::DEVICE,
            _ if place < DEVICE + HOST => Tier::HOST,
            _ => Tier::DISK,
        })
    }

    fn touch(&mut self, customer: usize) {
        self.recent.retain(|&c| c != customer);
        self.recent.insert(0, customer);
    }
}

/// A store from which fetching and rebuilding 6,000 tokens takes 8.6 s, as in the published case.
fn rates() -> Rates {
    let mut rates = Rates::default();
    rates.tiers[Tier::DISK.index()] = Transfer { t0: 0.2, per_token: 1.4e-3 };
    rates
}

/// Routes all requests by `profile`. With `planned` a pod is told what to fetch from where and what to
/// compute, as the decision's plan says; without, it fetches whatever it has, as connectors do.
fn run(profile: &Profile, planned: bool) -> Result<(Vec<f64>, [usize; 4]), Box<dyn Error>> {
    let mut pods = vec![Pod::default(); PODS];
    let candidates: Vec<_> = (0..PODS as u16).map(EndpointId).collect();
    let rates = vec![rates(); PODS];
    let (mut arrivals, mut rng, mut scratch) = (Rng::new(7), Rng::new(1), Scratch::new());
    let (mut ttfts, mut served, mut now) = (Vec::new(), [0; 4], 0.0);
    for _ in 0..REQUESTS {
        now += -(1.0 - arrivals.unit_f64()).ln() * 4.0;
        let customer = arrivals.below(CUSTOMERS);
        let mut matches = PrefixMatches::new();
        matches.reset(PODS, PROMPT_TOKENS / BLOCK);
        for (pod, &id) in pods.iter().zip(&candidates) {
            if let Some(tier) = pod.tier(customer) {
                matches.set(id, PREFIX_BLOCKS);
                if tier != Tier::DEVICE {
                    matches.push_slow(id, tier, PREFIX_BLOCKS);
                }
            }
        }
        let waiting = |pod: &Pod| (pod.busy_until - now).max(0.0);
        let load = |pod: &Pod| Load {
            queued_prefill_tokens: (waiting(pod) / rates[0].prefill_per_token) as u64,
            waiting_requests: waiting(pod).ceil() as u32,
            ..Load::default()
        };
        let loads: Vec<_> = pods.iter().map(load).collect();
        let request =
            Request { prompt_tokens: PROMPT_TOKENS, block_size: BLOCK, ..Request::default() };
        let input = DecideInput {
            request,
            loads: &loads,
            matches: &matches,
            rates: &rates,
            ..DecideInput::new(&candidates)
        };
        let chosen = profile.decide(input, &mut rng, &mut scratch)?.endpoint;
        let plan = Cost::new().plan(&input, &scratch).ok_or("nothing was decided")?;

        // What the pod then does.
        let pod = &mut pods[chosen.index()];
        let prefix = f64::from(PREFIX_BLOCKS * BLOCK);
        let fresh = f64::from(PROMPT_TOKENS) - prefix;
        let cold = rates[0].prefill_secs(f64::from(PROMPT_TOKENS), 0.0);
        let warm = |tier: Tier| {
            rates[0].tiers[tier.index()].secs(prefix) + rates[0].prefill_secs(fresh, prefix)
        };
        let (index, secs) = match pod.tier(customer) {
            Some(Tier::DEVICE) => (0, rates[0].prefill_secs(fresh, prefix)),
            Some(tier)
                if !planned || plan.sources().any(|(from, _)| from == Source::Tier(tier)) =>
            {
                (if tier == Tier::HOST { 1 } else { 2 }, warm(tier))
            }
            _ => (3, cold),
        };
        pod.busy_until = pod.busy_until.max(now) + secs;
        ttfts.push(pod.busy_until - now);
        served[index] += 1;
        pod.touch(customer);
    }
    ttfts.sort_by(f64::total_cmp);
    Ok((ttfts, served))
}

/// Shows what a decision says of one prefix that lies in each tier in turn.
fn answers(profile: &Profile) -> Result<(), Box<dyn Error>> {
    println!("A pod has the prefix in this tier, so it is to:");
    for (tier, name) in [(Tier::DEVICE, "device"), (Tier::HOST, "host"), (Tier::DISK, "slow store")]
    {
        let mut matches = PrefixMatches::new();
        matches.reset(1, PROMPT_TOKENS / BLOCK);
        matches.set(EndpointId(0), PREFIX_BLOCKS);
        if tier != Tier::DEVICE {
            matches.push_slow(EndpointId(0), tier, PREFIX_BLOCKS);
        }
        let input = DecideInput {
            request: Request {
                prompt_tokens: PROMPT_TOKENS,
                block_size: BLOCK,
                ..Request::default()
            },
            loads: &[Load::default()],
            matches: &matches,
            rates: &[rates()],
            ..DecideInput::new(&[EndpointId(0)])
        };
        let mut scratch = Scratch::new();
        profile.decide(input, &mut Rng::new(1), &mut scratch)?;
        let plan = Cost::new().plan(&input, &scratch).ok_or("nothing was decided")?;
        let fetched: Vec<_> = plan
            .sources()
            .map(|(source, tokens)| match source {
                Source::Tier(tier) => format!("fetch {tokens} tokens from its {tier}"),
                Source::Peer(pod) => format!("fetch {tokens} tokens from {pod}"),
            })
            .chain([format!("compute {} tokens", plan.work.computed_tokens)])
            .collect();
        println!("{name:>12}: {}, {:.3} s", fetched.join(", "), plan.work.ttft_secs());
    }
    println!();
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let with = |scorer: Box<dyn Scorer>, weight: f64| {
        Profile::builder()
            .scorer(scorer, weight)
            .scorer(Box::new(scorer::Queue), 1.0)
            .picker(Box::new(picker::MaxScore))
            .build()
    };
    // 256 KiB a token: the same prices in bytes.
    let store = scorer::TierPrice { t0: 0.2, bytes_per_sec: 262_144.0 / 1.4e-3 };
    let tier_cost = scorer::TierCost::new(262_144.0, 57e-6)?.tier(Tier::DISK, store)?;
    let seconds = Profile::builder()
        .scorer(Box::new(Cost::new()), 1.0)
        .picker(Box::new(picker::MaxScore))
        .build()?;
    answers(&seconds)?;
    println!(
        "{REQUESTS} requests of {CUSTOMERS} customers, each with a prefix of {} tokens, on {PODS} pods.\n\
         A pod keeps {DEVICE} prefixes on its device, {HOST} on its host and the rest in a slow store.\n\
         Time to the first token by scorer, and where the requests found their prefix:\n",
        PREFIX_BLOCKS * BLOCK
    );
    println!(
        "{:<22} {:>9} {:>9} {:>9}   {:>6} {:>6} {:>6} {:>7}",
        "scorer", "TTFT p50", "p90", "mean", "device", "host", "store", "compute"
    );
    for (name, profile, planned) in [
        ("prefix-cache-scorer", with(Box::new(scorer::PrefixCache::new()), 2.0)?, false),
        ("tier-cost-scorer", with(Box::new(tier_cost), 2.0)?, true),
        ("cost-scorer", seconds, true),
    ] {
        let (ttfts, served) = run(&profile, planned)?;
        let at = |q: f64| ttfts[((ttfts.len() - 1) as f64 * q) as usize];
        let mean = ttfts.iter().sum::<f64>() / ttfts.len() as f64;
        let [device, host, store, none] = served;
        println!(
            "{name:<22} {:>7.3} s {:>7.3} s {mean:>7.3} s   {device:>6} {host:>6} {store:>6} {none:>7}",
            at(0.5),
            at(0.9)
        );
    }
    Ok(())
}
