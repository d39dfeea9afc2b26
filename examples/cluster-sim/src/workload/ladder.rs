//! The published customers × users benchmark.

use super::{Job, Segment, Stage, Start, Workload, text};
use kvsched_core::Rng;

/// The published stages: requests a second, seconds.
pub const LADDER: [(f64, f64); 16] = [
    (3.0, 20.0),
    (10.0, 20.0),
    (15.0, 20.0),
    (20.0, 38.0),
    (22.0, 34.0),
    (25.0, 30.0),
    (30.0, 25.0),
    (35.0, 21.0),
    (40.0, 38.0),
    (43.0, 36.0),
    (46.0, 33.0),
    (49.0, 30.0),
    (52.0, 29.0),
    (55.0, 27.0),
    (57.0, 26.0),
    (60.0, 25.0),
];

/// Every customer has a long prefix of its own and every user a short one after it; each request
/// is one user's, always with the same prompt.
///
/// As the load generator behind the published figures (inference-perf) does it, the prompts are
/// shuffled once and then sent in that order over and over, arrivals are a Poisson process, and
/// only so many requests are open at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Ladder {
    /// How many customers.
    pub customers: u32,
    /// Users of each.
    pub users: u32,
    /// Tokens that a customer's users share.
    pub shared_tokens: u32,
    /// Tokens of each user.
    pub own_tokens: u32,
    /// Tokens generated.
    pub output_tokens: u32,
    /// Stages, as requests a second and seconds, after one that sends every prompt once at 15 a
    /// second.
    pub stages: Vec<(f64, f64)>,
    /// See [`Workload::client_limit`].
    pub client_limit: Option<u32>,
}

impl Default for Ladder {
    fn default() -> Self {
        Self {
            customers: 150,
            users: 5,
            shared_tokens: 6_000,
            own_tokens: 1_200,
            output_tokens: 1_000,
            stages: LADDER.to_vec(),
            client_limit: Some(640),
        }
    }
}

impl Ladder {
    /// Its jobs, arrivals and order drawn from `seed`.
    pub fn workload(&self, seed: u64) -> Workload {
        let mut rng = Rng::new(seed ^ 0x1adde5);
        let mut order: Vec<(u32, u32)> =
            (0..self.customers).flat_map(|c| (0..self.users).map(move |u| (c, u))).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, rng.below(i + 1));
        }
        let mut prompts = order.iter().copied().cycle();
        let warm_up = (15.0, order.len() as f64 / 15.0);
        let (mut jobs, mut stages) = (Vec::new(), Vec::new());
        for (i, &(qps, secs)) in std::iter::once(&warm_up).chain(&self.stages).enumerate() {
            let first = jobs.len() as u32;
            let mut at = 0.0;
            for _ in 0..(qps * secs).round() as u32 {
                at += exponential(&mut rng, qps);
                let Some((customer, user)) = prompts.next() else { break };
                jobs.push(self.job(at, customer, user, jobs.len() as u64));
            }
            stages.push(Stage { qps, jobs: first..jobs.len() as u32, warm_up: i == 0 });
        }
        Workload { name: "customers".to_owned(), jobs, stages, client_limit: self.client_limit }
    }

    fn job(&self, at: f64, customer: u32, user: u32, number: u64) -> Job {
        let user = customer * self.users + user;
        Job {
            start: Start::At(at),
            prompt: vec![
                Segment { seed: text(1, customer.into()), tokens: self.shared_tokens },
                Segment { seed: text(2, user.into()), tokens: self.own_tokens },
            ],
            output: Segment { seed: text(3, number), tokens: self.output_tokens },
            session: user,
            ..Job::default()
        }
    }
}

/// Seconds to the next arrival of a Poisson process with `rate` a second.
pub(super) fn exponential(rng: &mut Rng, rate: f64) -> f64 {
    -(1.0 - rng.unit_f64()).ln() / rate
}
