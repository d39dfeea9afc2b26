//! Every published formula, as a table: figures in, scores out.

mod common;

use common::{Fixed, Fleet, assert_close, with_picker};
use kvsched_core::{EndpointId, LoraId, Tier};
use kvsched_scorers::filter::{self, Metric};
use kvsched_scorers::scorer::{self, TierPrice};
use kvsched_scorers::{Scratch, picker};

#[test]
fn prefix_is_the_matched_share() {
    let fleet = Fleet::new(4, 8).matched(&[0, 2, 6, 8]);
    assert_close(&fleet.scores(scorer::PrefixCache::new()), &[0.0, 0.25, 0.75, 1.0]);
    // w·min(1, match·bs/8192)² + (1−w)·match/total with w = 0.5: 256 of 1024 blocks are
    // 4096 tokens, a quarter of the prompt and half of the scale.
    let long = Fleet::new(3, 1024).matched(&[256, 512, 1024]);
    let scorer = scorer::PrefixCache::with_length(0.5, 8192.0).unwrap();
    assert_close(&long.scores(scorer), &[0.25, 0.75, 1.0]);
    assert_close(&Fleet::new(1, 0).scores(scorer::PrefixCache::new()), &[0.0]);
}

#[test]
fn precise_prefix_weighs_tiers() {
    let fleet = Fleet::new(5, 10)
        .matched(&[10, 10, 6, 10, 10])
        .slow(4, Tier::MAX, 10)
        .slow(1, Tier::HOST, 10)
        .slow(2, Tier::HOST, 4)
        .slow(3, Tier::HOST, 2)
        .slow(3, Tier::DISK, 4);
    let want = [1.0, 0.8, (2.0 + 3.2) / 10.0, (4.0 + 1.6 + 2.0) / 10.0, 0.2];
    assert_close(&fleet.scores(scorer::PrecisePrefixCache::new()), &want);
    let flat = scorer::PrecisePrefixCache::new().weight(Tier::HOST, 0.5).unwrap();
    assert_close(&fleet.scores(flat)[1..3], &[0.5, 0.4]);
}

#[test]
fn kv_utilization_is_what_is_free() {
    let fleet = Fleet::new(5, 0).load(|i, l| l.kv_usage = [0.0, 0.25, 1.0, 1.5, f64::NAN][i]);
    assert_close(&fleet.scores(scorer::KvCacheUtilization), &[1.0, 0.75, 0.0, 0.0, 1.0]);
}

#[test]
fn queue_and_running_lie_between_the_extremes() {
    let fleet = Fleet::new(3, 0).load(|i, l| {
        l.waiting_requests = [4, 0, 1][i];
        l.running_requests = [10, 20, 30][i];
    });
    assert_close(&fleet.scores(scorer::Queue), &[0.0, 1.0, 0.75]);
    assert_close(&fleet.scores(scorer::RunningRequests), &[1.0, 0.5, 0.0]);
    // 4·waiting + running: 26, 20, 34.
    assert_close(&fleet.scores(scorer::LeastRequest), &[8.0 / 14.0, 1.0, 0.0]);
    let equal = Fleet::new(3, 0).load(|_, l| l.waiting_requests = 5);
    assert_close(&equal.scores(scorer::Queue), &[1.0, 1.0, 1.0]);
}

fn adapters(ids: &[u32]) -> Vec<LoraId> {
    ids.iter().copied().map(LoraId).collect()
}

#[test]
fn lora_affinity_prefers_active_room_waiting() {
    let fleet = Fleet::new(5, 0).request(|r| r.lora = Some(LoraId(7))).load(|i, l| {
        l.lora.active = adapters([&[7, 1][..], &[1], &[1], &[1, 2], &[]][i]);
        l.lora.waiting = adapters([&[][..], &[], &[7], &[], &[]][i]);
        l.lora.slots = [2, 2, 2, 2, 0][i];
    });
    assert_close(&fleet.scores(scorer::LoraAffinity), &[1.0, 0.8, 0.6, 0.0, 0.0]);
    assert_eq!(fleet.kept(filter::LoraAffinity), [0, 2]);
    let other = fleet.clone().request(|r| r.lora = Some(LoraId(8)));
    assert_eq!(other.kept(filter::LoraAffinity), [1]);
    let none = fleet.clone().request(|r| r.lora = None);
    assert_close(&none.scores(scorer::LoraAffinity), &[1.0; 5]);
    assert_eq!(none.kept(filter::LoraAffinity), [0, 1, 2, 3, 4]);
    let full = other.load(|_, l| l.lora.slots = 0);
    assert_eq!(full.kept(filter::LoraAffinity), [0, 1, 2, 3, 4]);
}

#[test]
fn tier_cost_is_seconds_against_computing_everything() {
    // 1000 tokens a second computed, 1000 bytes a token; the prompt of 160 tokens takes 0.16 s.
    let cost = scorer::TierCost::new(1000.0, 1e-3)
        .unwrap()
        .tier(Tier::HOST, TierPrice { t0: 0.01, bytes_per_sec: 1e7 })
        .unwrap()
        .tier(Tier::DISK, TierPrice { t0: 0.1, bytes_per_sec: 1e6 })
        .unwrap();
    let fleet = Fleet::new(6, 10)
        .matched(&[0, 10, 5, 10, 10, 10])
        .slow(3, Tier::HOST, 10) // 0.01 + 160·1000/1e7 = 0.026
        .slow(4, Tier::DISK, 5) // 0.1 + 0.08 > 0.08: computed again
        .slow(5, Tier::HOST, 5) // 0.018, beside the disk's
        .slow(5, Tier::DISK, 5);
    let want = [0.0, 1.0, 0.5, 1.0 - 0.026 / 0.16, 0.5, 1.0 - (0.018 + 0.08) / 0.16];
    assert_close(&fleet.scores(cost), &want);
    let device_only = Fleet::new(3, 10).matched(&[0, 3, 9]);
    assert_close(&device_only.scores(cost), &device_only.scores(scorer::PrefixCache::new()));
}

#[test]
fn utilization_caps_are_inclusive_and_all_must_hold() {
    let fleet = Fleet::new(4, 0).load(|i, l| {
        l.running_requests = [40, 41, 0, 0][i];
        l.waiting_requests = [0, 0, 1, 0][i];
        l.kv_usage = [0.8, 0.0, 0.0, 0.81][i];
        l.in_flight_requests = [3, 0, 0, 0][i];
    });
    let capped = |caps: &[(Metric, f64)]| {
        caps.iter().fold(filter::Utilization::new(), |f, &(m, most)| f.cap(m, most).unwrap())
    };
    let all = [
        (Metric::RunningRequests, 40.0),
        (Metric::WaitingQueue, 0.0),
        (Metric::KvCacheUtilization, 0.8),
    ];
    assert_eq!(fleet.kept(capped(&all)), [0]);
    assert_eq!(fleet.kept(capped(&[(Metric::ActiveRequests, 2.0)])), [1, 2, 3]);
    let nobody = [all[0], all[1], all[2], (Metric::ActiveRequests, 2.0)];
    assert!(fleet.kept(capped(&nobody)).is_empty());
    assert_eq!(fleet.kept(capped(&nobody).or_everybody()), [0, 1, 2, 3]);
    assert!(filter::Utilization::new().cap(Metric::KvCacheUtilization, 1.1).is_err());
    assert!(filter::Utilization::new().cap(Metric::WaitingQueue, f64::NAN).is_err());
}

#[test]
fn affinity_sticks_until_the_sticky_are_18_seconds_behind() {
    let limit = 18 * 15_928;
    let fleet = |sticky_queue: u64| {
        Fleet::new(4, 10)
            .matched(&[8, 10, 7, 0])
            .load(move |i, l| l.queued_prefill_tokens = [9_999_999, sticky_queue, 100, 200][i])
    };
    let filter = filter::PrefixCacheAffinity::new();
    assert_eq!(fleet(limit + 100).kept(filter), [0, 1]);
    assert_eq!(fleet(limit + 101).kept(filter), [0, 1, 2, 3]);
    let always = filter.max_penalty_secs(0.0).unwrap();
    assert_eq!(fleet(limit + 101).kept(always), [0, 1]);
    let nobody = fleet(0).matched(&[7, 7, 7, 7]);
    assert_eq!(nobody.kept(filter), [0, 1, 2, 3]);
    let explorer = filter.exploration(1.0).unwrap();
    assert_eq!(fleet(0).kept(explorer), [0, 1, 2, 3]);
}

/// χ² of `counts` against `shares`, in standard deviations a cell.
fn assert_shares(counts: &[u64], shares: &[f64]) {
    let n = counts.iter().sum::<u64>() as f64;
    for (&got, &p) in counts.iter().zip(shares) {
        let deviation = (n * p * (1.0 - p)).sqrt();
        assert!((got as f64 - n * p).abs() <= 4.0 * deviation, "{counts:?} against {shares:?}");
    }
}

#[test]
fn random_pickers_have_the_stated_probabilities() {
    let fleet = Fleet::new(4, 0);
    let scores = || Box::new(Fixed(vec![0.1, 0.2, 0.0, 0.7]));
    let draws = 20_000;
    let weighted = with_picker(picker::WeightedRandom).scorer(scores(), 1.0).build().unwrap();
    assert_shares(&fleet.picks(&weighted, draws), &[0.1, 0.2, 0.0, 0.7]);
    let random = with_picker(picker::Random).scorer(scores(), 1.0).build().unwrap();
    assert_shares(&fleet.picks(&random, draws), &[0.25; 4]);
    // Of the 12 ordered pairs each is as likely; the better wins.
    let two = with_picker(picker::PowerOfTwo).scorer(scores(), 1.0).build().unwrap();
    assert_shares(&fleet.picks(&two, draws), &[2.0 / 12.0, 4.0 / 12.0, 0.0, 6.0 / 12.0]);
    let zeros = Box::new(Fixed(vec![0.0; 4]));
    let uniform = with_picker(picker::WeightedRandom).scorer(zeros, 1.0).build().unwrap();
    assert_shares(&fleet.picks(&uniform, draws), &[0.25; 4]);
    let one = Fleet::new(1, 0);
    assert_eq!(one.picks(&two, 3), [3]);
}

#[test]
fn round_robin_takes_turns() {
    let p = with_picker(picker::RoundRobin::new()).build().unwrap();
    let fleet = Fleet::new(3, 0);
    let mut scratch = Scratch::new();
    let mut rng = kvsched_core::Rng::new(0);
    let turns: Vec<_> =
        (0..7).map(|_| p.decide(fleet.input(), &mut rng, &mut scratch).unwrap().endpoint).collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2, 0].map(EndpointId));
}

#[test]
fn parameters_out_of_range_are_named() {
    let error = scorer::PrefixCache::with_length(1.5, 8192.0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`prefix-cache-scorer`: matchLengthWeight is 1.5, it must be between 0 and 1"
    );
    assert!(scorer::PrefixCache::with_length(0.5, 0.0).is_err());
    assert!(scorer::PrecisePrefixCache::new().weight(Tier::HOST, -0.1).is_err());
    assert!(scorer::TierCost::new(0.0, 1.0).is_err());
    assert!(scorer::TierCost::new(1.0, f64::INFINITY).is_err());
    let price = TierPrice { t0: -1.0, bytes_per_sec: 1.0 };
    assert!(scorer::TierCost::new(1.0, 1.0).unwrap().tier(Tier::HOST, price).is_err());
    assert!(filter::PrefixCacheAffinity::new().threshold(f64::NAN).is_err());
}
