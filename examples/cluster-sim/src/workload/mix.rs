//! Other traffic that gateways see, each with its own lesson for a policy.

use super::ladder::exponential;
use super::{Job, Ladder, Segment, Stage, Start, Workload, text};
use kvsched_core::Rng;
use kvsched_testdata::trace::TraceRequest;

/// The traffic called `name`, drawn from `seed`; see [`crate::scenario`].
pub fn by_name(name: &str, seed: u64) -> Option<Workload> {
    let mut rng = Rng::new(seed ^ 0x0007_71c5);
    let stages = vec![(20.0, 38.0), (30.0, 25.0), (8.0, 60.0)];
    let ladder = Ladder { stages, client_limit: None, ..Ladder::default() };
    Some(match name {
        "customers" => ladder.workload(seed),
        "overcommitted" => {
            let name = name.to_owned();
            Workload { name, ..Ladder { customers: 260, ..ladder }.workload(seed) }
        }
        "chat" => single(name, conversations(&mut rng, &CHAT)),
        "agents" => single(name, conversations(&mut rng, &AGENTS)),
        "rag" => single(name, rag(&mut rng)),
        "burst" => single(name, burst(&mut rng)),
        "one-shot" => single(name, one_shot(&mut rng)),
        "packets" => single(name, with_documents(rag(&mut rng))),
        "adapters" => single(name, adapters(&mut rng)),
        "tenants" => single(name, tenants(&mut rng, 300, 14.0)),
        "many-tenants" => single(name, tenants(&mut rng, 900, 14.0)),
        "fewer-tenants" => single(name, tenants(&mut rng, 200, 8.0)),
        "elastic" => single(name, with_a_late_visit(conversations(&mut rng, &CHAT))),
        _ => return None,
    })
}

/// A trace in Mooncake's or Bailian's format: `block` tokens an id, `unit` seconds a timestamp,
/// played `speed` times as fast.
pub fn trace(name: &str, requests: &[TraceRequest], block: u32, unit: f64, speed: f64) -> Workload {
    let first = requests.iter().map(|r| r.timestamp).fold(f64::INFINITY, f64::min);
    let job = |(i, r): (usize, &TraceRequest)| {
        let mut left = r.input_length;
        let prompt = r.hash_ids.iter().map(|&id| {
            let tokens = left.min(block);
            left -= tokens;
            Segment { seed: text(20, id), tokens }
        });
        Job {
            start: Start::At((r.timestamp - first) * unit / speed),
            prompt: prompt.collect(),
            output: Segment { seed: text(21, i as u64), tokens: r.output_length.max(1) },
            session: i as u32,
            ..Job::default()
        }
    };
    single(name, requests.iter().enumerate().map(job).collect())
}

fn single(name: &str, jobs: Vec<Job>) -> Workload {
    let stages = vec![Stage { qps: 0.0, jobs: 0..jobs.len() as u32, warm_up: false }];
    Workload { name: name.to_owned(), jobs, stages, client_limit: None }
}

/// Conversations: each turn's prompt is all that was said so far and something new.
struct Talk {
    conversations: u32,
    /// New conversations a second.
    rate: f64,
    /// Shared beginnings, and their tokens.
    systems: usize,
    system_tokens: u32,
    /// Tokens that a conversation begins with.
    context: (u32, u32),
    turns: (u32, u32),
    said: (u32, u32),
    answered: (u32, u32),
    /// Mean seconds until the next turn.
    think: f64,
}

const CHAT: Talk = Talk {
    conversations: 700,
    rate: 3.5,
    systems: 8,
    system_tokens: 1_500,
    context: (50, 800),
    turns: (2, 9),
    said: (30, 400),
    answered: (80, 500),
    think: 20.0,
};

const AGENTS: Talk = Talk {
    conversations: 120,
    rate: 0.8,
    systems: 3,
    system_tokens: 4_000,
    context: (8_000, 40_000),
    turns: (8, 24),
    said: (200, 1_500),
    answered: (40, 300),
    think: 4.0,
};

fn conversations(rng: &mut Rng, t: &Talk) -> Vec<Job> {
    let (mut jobs, mut at) = (Vec::new(), 0.0);
    for session in 0..t.conversations {
        at += exponential(rng, t.rate);
        let system = text(10, rng.below(t.systems) as u64);
        let number = |turn: u32| u64::from(session) << 8 | u64::from(turn);
        let mut prompt = vec![
            Segment { seed: system, tokens: t.system_tokens },
            Segment { seed: text(11, session.into()), tokens: between(rng, t.context) },
        ];
        for turn in 0..between(rng, t.turns) {
            prompt.push(Segment { seed: text(12, number(turn)), tokens: between(rng, t.said) });
            let output = Segment { seed: text(13, number(turn)), tokens: between(rng, t.answered) };
            let start = match turn {
                0 => Start::At(at),
                _ => Start::After(jobs.len() as u32 - 1, exponential(rng, 1.0 / t.think)),
            };
            jobs.push(Job { start, prompt: prompt.clone(), output, session, ..Job::default() });
            prompt.push(output);
        }
    }
    jobs
}

fn rag(rng: &mut Rng) -> Vec<Job> {
    let mut at = 0.0;
    (0..2_400)
        .map(|i| {
            at += exponential(rng, 8.0);
            // Popular documents are asked for more often: about Zipf's law over 400.
            let mut document = || {
                let rank = (400f64.powf(rng.unit_f64())) as u64;
                Segment { seed: text(14, rank), tokens: 3_000 }
            };
            let (a, b) = (document(), document());
            let question = Segment { seed: text(15, i), tokens: between(rng, (50, 200)) };
            Job {
                start: Start::At(at),
                prompt: vec![Segment { seed: text(10, 99), tokens: 500 }, a, b, question],
                output: Segment { seed: text(13, i), tokens: between(rng, (100, 400)) },
                session: i as u32,
                ..Job::default()
            }
        })
        .collect()
}

fn burst(rng: &mut Rng) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut push = |at, shared: Segment, own: u32, output: u32| {
        let number = jobs.len() as u64;
        jobs.push(Job {
            start: Start::At(at),
            prompt: vec![shared, Segment { seed: text(11, number), tokens: own }],
            output: Segment { seed: text(13, number), tokens: output },
            session: number as u32,
            ..Job::default()
        });
    };
    let mut at = 0.0;
    while at < 300.0 {
        at += exponential(rng, 6.0);
        let shared = Segment { seed: text(10, rng.below(60) as u64), tokens: 3_000 };
        push(at, shared, between(rng, (100, 600)), between(rng, (100, 500)));
    }
    for i in 0..10 {
        // Eighty requests within two seconds, with a prefix that nobody has seen.
        let (shared, begin) =
            (Segment { seed: text(16, i), tokens: 12_000 }, 15.0 + 30.0 * i as f64);
        for _ in 0..80 {
            let (own, output) = (between(rng, (50, 300)), between(rng, (50, 200)));
            push(begin + 2.0 * rng.unit_f64(), shared, own, output);
        }
    }
    jobs
}

fn one_shot(rng: &mut Rng) -> Vec<Job> {
    let mut at = 0.0;
    (0..3_000)
        .map(|i| {
            at += exponential(rng, 12.0);
            Job {
                start: Start::At(at),
                prompt: vec![Segment { seed: text(11, i), tokens: between(rng, (500, 8_000)) }],
                output: Segment { seed: text(13, i), tokens: between(rng, (50, 500)) },
                session: i as u32,
                ..Job::default()
            }
        })
        .collect()
}

/// Marks the documents that [`rag`] puts second and third.
fn with_documents(mut jobs: Vec<Job>) -> Vec<Job> {
    jobs.iter_mut().for_each(|job| job.documents = 1..3);
    jobs
}

/// After a long pause, a few more requests.
fn with_a_late_visit(mut jobs: Vec<Job>) -> Vec<Job> {
    for i in 0..20 {
        jobs.push(Job {
            start: Start::At(900.0 + 0.1 * f64::from(i)),
            prompt: vec![Segment { seed: text(10, 0), tokens: 1_500 }],
            output: Segment { seed: text(18, i.into()), tokens: 50 },
            session: 1_000_000 + i,
            ..Job::default()
        });
    }
    jobs
}

fn adapters(rng: &mut Rng) -> Vec<Job> {
    let mut at = 0.0;
    (0..4_000)
        .map(|i| {
            at += exponential(rng, 14.0);
            // About Zipf's law over 24.
            let adapter = 24f64.powf(rng.unit_f64()) as u32;
            let own = Segment { seed: text(11, i), tokens: between(rng, (100, 1_500)) };
            Job {
                start: Start::At(at),
                prompt: vec![Segment { seed: text(19, adapter.into()), tokens: 2_000 }, own],
                output: Segment { seed: text(13, i), tokens: between(rng, (100, 400)) },
                session: i as u32,
                lora: Some(adapter),
                ..Job::default()
            }
        })
        .collect()
}

fn tenants(rng: &mut Rng, all: u64, rate: f64) -> Vec<Job> {
    let mut at = 0.0;
    (0..(rate * 360.0) as u64)
        .map(|i| {
            at += exponential(rng, rate);
            // Every 20 seconds another fifth of the tenants is active; one in ten requests is of
            // any tenant.
            let active = (at / 20.0) as u64 * (all / 8);
            let tenant = match rng.below(10) {
                0 => rng.below(all as usize) as u64,
                _ => (active + rng.below(all as usize / 5) as u64) % all,
            };
            let own = Segment { seed: text(11, i), tokens: between(rng, (50, 500)) };
            Job {
                start: Start::At(at),
                prompt: vec![Segment { seed: text(17, tenant), tokens: 8_000 }, own],
                output: Segment { seed: text(13, i), tokens: between(rng, (50, 400)) },
                session: tenant as u32,
                ..Job::default()
            }
        })
        .collect()
}

/// Evenly between two numbers, the second included.
fn between(rng: &mut Rng, (low, high): (u32, u32)) -> u32 {
    low + rng.below((high - low + 1) as usize) as u32
}
