//! Several schedulers before the same engines: each hears the engines' events by itself, in
//! whatever order and with whatever losses, and all come to know the same.
//!
//! `cargo run --example replicas`
#![allow(clippy::print_stdout, reason = "an example prints")]

use kvsched::events::ReplayMessage;
use kvsched::{
    Algorithm, BlockHasher, Decision, EndpointId, Load, Prompt, RouteInput, RouteScratch, Router,
    RouterBuilder, Scheme, Time, VllmVersion,
};
use kvsched_testdata::capture::{self, Capture, Step};
use kvsched_testdata::{Vectors, vector_files};
use std::time::Duration;

type Error = Box<dyn std::error::Error>;

/// Three recorded engines of one model, which name their blocks alike.
const ENGINES: [&str; 3] = ["A", "K", "P"];

fn builder() -> Result<RouterBuilder, Error> {
    let version: VllmVersion = "0.32.0".parse()?;
    let scheme = Scheme::vllm(version, Algorithm::Sha256Cbor, Some("0"))?;
    let hasher = BlockHasher::builder(scheme).block_size(32).build()?;
    Ok(Router::builder(hasher).in_flight(Duration::from_secs(600)))
}

/// A message of an engine: whose, its number, and when it was published.
#[derive(Clone, Copy)]
struct Message<'a> {
    endpoint: EndpointId,
    sequence: u64,
    payload: &'a [u8],
}

/// What the engines have published, and can send again.
struct Published<'a> {
    engines: Vec<Vec<&'a [u8]>>,
}

impl Published<'_> {
    /// A replica hears a message, and asks for what it finds missing.
    fn deliver(&self, router: &Router, message: Message<'_>, asked: &mut u32) -> Result<(), Error> {
        let Message { endpoint, sequence, payload } = message;
        let now = Time(sequence);
        let mut replay = router.ingest(endpoint, sequence, payload, now)?.replay_from;
        while let Some(from) = replay {
            *asked += 1;
            for sequence in from..=sequence {
                let payload = self.engines[endpoint.index()][sequence as usize];
                router.replayed(endpoint, ReplayMessage::Batch { sequence, payload }, now)?;
            }
            replay = router.replayed(endpoint, ReplayMessage::End, now)?.replay_from;
        }
        Ok(())
    }
}

/// What a replica would say of every prompt: cached tokens by endpoint.
fn knows(router: &Router, prompts: &[&[u32]]) -> Result<Vec<[u32; 3]>, Error> {
    let mut scratch = RouteScratch::new(0);
    let cached = |prompt: &&[u32]| {
        let mut tokens = [0; 3];
        for (tokens, endpoint) in tokens.iter_mut().zip((0..).map(EndpointId)) {
            *tokens = router.cached_tokens(endpoint, &Prompt::new(prompt), &mut scratch)?;
        }
        Ok(tokens)
    };
    prompts.iter().map(cached).collect()
}

fn agreeing(a: &[[u32; 3]], b: &[[u32; 3]]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a == b).count()
}

fn route(router: &Router, scratch: &mut RouteScratch, prompt: &[u32]) -> Result<Decision, Error> {
    let candidates = [0, 1, 2].map(EndpointId);
    let loads = [(); 3].map(|()| Load::default());
    let input = RouteInput { loads: &loads, ..RouteInput::new(Prompt::new(prompt), &candidates) };
    let decision = router.route(&input, scratch)?;
    router.record(decision.endpoint, scratch, Time(0))?;
    Ok(decision)
}

fn main() -> Result<(), Error> {
    let mut captures: Vec<Capture> = Vec::new();
    for file in vector_files(Vectors::EngineCapture)? {
        captures.extend(capture::read(&file)?);
    }
    let called = |name: &&str| captures.iter().find(|c| c.name == **name);
    let engines: Vec<&Capture> = ENGINES.iter().filter_map(called).collect();
    let payloads = |c: &&'_ Capture| c.messages.len();
    let counts: Vec<usize> = engines.iter().map(payloads).collect();
    let published = Published {
        engines: engines
            .iter()
            .map(|c| c.messages.iter().map(capture::Message::payload).collect())
            .collect(),
    };
    let prompts: Vec<&[u32]> = engines
        .iter()
        .flat_map(|c| &c.requests)
        .filter_map(|step| match step {
            Step::Request(r) => Some(r.prompt_token_ids.as_slice()),
            Step::Reset { .. } => None,
        })
        .collect();
    let total: usize = counts.iter().sum();
    println!(
        "{} engines, {total} messages, {} prompts to ask about\n",
        counts.len(),
        prompts.len()
    );

    let (one, two) = (builder()?.build()?, builder()?.build()?);
    for router in [&one, &two] {
        for name in ENGINES {
            router.add_endpoint(name)?;
        }
    }
    // The first hears the engines in turn, the second one engine after the other.
    let in_turn: Vec<Message<'_>> = {
        let mut order: Vec<(usize, usize)> =
            counts.iter().enumerate().flat_map(|(e, &n)| (0..n).map(move |s| (s, e))).collect();
        order.sort_unstable();
        let message = |(s, e): (usize, usize)| Message {
            endpoint: EndpointId(e as u16),
            sequence: s as u64,
            payload: published.engines[e][s],
        };
        order.into_iter().map(message).collect()
    };
    let mut one_by_one = in_turn.clone();
    one_by_one.sort_by_key(|m| (std::cmp::Reverse(m.endpoint), m.sequence));
    let mut asked = [0; 3];
    let mut three = None;

    println!(" heard    one knows of    two knows of  agree on");
    for (i, (first, second)) in in_turn.iter().zip(&one_by_one).enumerate() {
        published.deliver(&one, *first, &mut asked[0])?;
        // Every fifth message to the second is lost, but for an engine's last.
        let is_last = second.sequence + 1 == counts[second.endpoint.index()] as u64;
        if i % 5 != 4 || is_last {
            published.deliver(&two, *second, &mut asked[1])?;
        }
        if i + 1 == total / 2 {
            // A third begins from what the first knows now.
            let mut restoring = builder()?.restore()?;
            let mut bytes = 0;
            let mut pushed = Ok(());
            one.write_snapshot(|piece| {
                bytes += piece.len();
                if pushed.is_ok() {
                    pushed = restoring.push(piece);
                }
            })?;
            pushed?;
            three = Some(restoring.finish(Time(0))?);
            println!("        a third replica starts from a snapshot of the first, {bytes} bytes");
        }
        if (i + 1) % (total / 6) == 0 || i + 1 == total {
            let (a, b) = (knows(&one, &prompts)?, knows(&two, &prompts)?);
            let some = |all: &[[u32; 3]]| all.iter().filter(|p| p.iter().any(|&t| t > 0)).count();
            println!(
                "{:>6}  {:>6} prompts  {:>6} prompts  {} of {}",
                i + 1,
                some(&a),
                some(&b),
                agreeing(&a, &b),
                prompts.len()
            );
        }
    }

    let three = three.ok_or("nothing was heard")?;
    // The third hears the rest: what was published between snapshot and subscription is replayed.
    for (endpoint, &count) in (0..).map(EndpointId).zip(&counts) {
        let sequence = count as u64 - 1;
        let payload = published.engines[endpoint.index()][count - 1];
        published.deliver(&three, Message { endpoint, sequence, payload }, &mut asked[2])?;
    }
    let truth = knows(&one, &prompts)?;
    println!("\nin the end                   agrees on  replays  trust of the engines");
    let replicas = [
        ("one (heard all)", &one),
        ("two (lost every fifth)", &two),
        ("three (seeded half-way)", &three),
    ];
    for ((name, router), asked) in replicas.into_iter().zip(asked) {
        let trust: Vec<String> = (0..3)
            .filter_map(|e| router.trust(EndpointId(e)))
            .map(|report| format!("{:?}", report.trust))
            .collect();
        let agreed = agreeing(&knows(router, &prompts)?, &truth);
        println!("{name:<28} {agreed:>4}/{}  {asked:>7}  {}", truth.len(), trust.join(", "));
        if agreed != truth.len() {
            return Err(format!("{name} knows something else").into());
        }
    }

    // What no event tells, the work in flight, they tell each other.
    let mut scratch = RouteScratch::new(1);
    let last = prompts.last().ok_or("no prompt")?;
    let first = route(&one, &mut scratch, last)?.endpoint;
    let (Some(ours), Some(theirs)) = (one.in_flight(), two.in_flight()) else {
        return Err("no ledger".into());
    };
    let before = theirs.outstanding(first).requests;
    let report = ours.report();
    theirs.merge(1, report.clone());
    theirs.merge(1, report);
    let after = theirs.outstanding(first).requests;
    println!(
        "\none sends a request to {}; two counts {before} in flight there before and {after} after \
         one's report, which it got twice",
        ENGINES[first.index()]
    );
    Ok(())
}
