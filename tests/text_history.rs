//! A gateway without events and without a tokenizer: it knows texts, and what it sent where.
#![allow(clippy::unwrap_used, reason = "test code")]

use kvsched::hash::stand_in_tokens;
use kvsched::{BlockHasher, Load, Prompt, RouteInput, RouteScratch, Router, Scheme, Time};
use std::num::NonZeroU32;
use std::time::Duration;

const SYSTEM: &str = "system\nYou answer questions about the harbour, its tides and its ships, in \
                      the order in which they were asked, and never guess.\n";

#[test]
fn conversations_stay_where_their_text_was_sent() {
    let scheme = Scheme::content("a model", b"a secret").unwrap();
    let hasher = BlockHasher::builder(scheme).block_size(16).build().unwrap();
    let blocks = NonZeroU32::new(1000).unwrap();
    let lease = Duration::from_secs(600);
    let router = Router::builder(hasher).history(blocks, lease).build().unwrap();
    let endpoints = ["a", "b", "c"].map(|name| router.add_endpoint(name).unwrap());
    let loads = [(); 3].map(|()| Load::default());
    let mut scratch = RouteScratch::new(1);
    let mut tokens = Vec::new();

    // Three conversations, wherever they begin; their next turns go where they are known.
    let begun: Vec<_> = ["When is high water today?", "Which ship is longest?", "Who pilots?"]
        .into_iter()
        .zip(endpoints)
        .map(|(question, endpoint)| {
            let turn = format!("{SYSTEM}user\n{question} {}\n", question.repeat(3));
            stand_in_tokens([&*turn], &mut tokens);
            let prompt = Prompt::new(&tokens);
            let input = RouteInput { loads: &loads, ..RouteInput::new(prompt, &endpoints) };
            router.route(&input, &mut scratch).unwrap();
            router.record(endpoint, &scratch, Time(1)).unwrap();
            (turn, endpoint)
        })
        .collect();
    for (turn, endpoint) in begun {
        stand_in_tokens([&*turn, "assistant\nAt noon.\nuser\nAnd tomorrow?\n"], &mut tokens);
        let prompt = Prompt::new(&tokens);
        let input =
            RouteInput { loads: &loads, now: Time(2), ..RouteInput::new(prompt, &endpoints) };
        assert_eq!(router.route(&input, &mut scratch).unwrap().endpoint, endpoint);
        let known = router.cached_tokens(endpoint, &prompt, &mut scratch).unwrap();
        assert_eq!(known as usize, turn.len() / 48 * 16);
        let shared = endpoints
            .iter()
            .filter(|&&other| other != endpoint)
            .map(|&other| router.cached_tokens(other, &prompt, &mut scratch).unwrap() as usize);
        shared.for_each(|shared| assert_eq!(shared, (SYSTEM.len() + 5) / 48 * 16));
    }
}
