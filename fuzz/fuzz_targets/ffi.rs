//! The C interface, called in any order with any numbers, texts and bytes, handles of wrong kinds and NULL
//! among them: every call returns a status, and what is valid afterwards still works. Pointers are
//! always to memory that is there, which is the one thing C has to promise.
#![no_main]

#[path = "ffi/carry.rs"]
mod carry;
#[path = "ffi/input.rs"]
mod input;
#[path = "ffi/questions.rs"]
mod questions;

use carry::carry;
use input::Input;
use kvsched_ffi::*;
use libfuzzer_sys::fuzz_target;
use questions::{Handles, ask};
use std::ptr::{null, null_mut};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut hasher = null_mut();
    let (mut scheduler, mut scratch) = (null_mut(), null_mut());
    let (mut index, mut stream, mut history) = (null_mut(), null_mut(), null_mut());
    let mut error = Error { len: 0, text: [0; KVSCHED_ERROR_TEXT] };
    let secret = [7; 16];
    let mut settings = Settings {
        in_flight_lease_ns: input.number(),
        speculation_ns: input.number(),
        byte_budget: u64::from(input.byte() % 2) << 17,
        ..Settings::default()
    };
    if input.byte() % 4 == 0 {
        settings.history_blocks = 50;
    }
    // SAFETY: every pointer is ours or a handle, and lengths are those of what they point to.
    unsafe {
        let error = &raw mut error;
        let (preset, config, profile) = (input.text(), input.text(), input.text());
        let made = kvsched_hasher_new_content(
            Str::default(),
            secret.as_ptr(),
            secret.len(),
            4,
            &raw mut hasher,
            error,
        );
        assert_eq!(made, Status::NullPointer, "a model without a name");
        let model = Str { data: b"m".as_ptr(), len: 1 };
        let made = kvsched_hasher_new_content(
            model,
            secret.as_ptr(),
            secret.len(),
            4,
            &raw mut hasher,
            error,
        );
        assert_eq!(made, Status::Ok);
        let odd = Settings { preset, config, profile, ..settings };
        if kvsched_scheduler_new(hasher, &raw const odd, &raw mut scheduler, error) != Status::Ok {
            let made =
                kvsched_scheduler_new(hasher, &raw const settings, &raw mut scheduler, error);
            assert_eq!(made, Status::Ok);
        }
        assert_eq!(kvsched_scratch_new(1, &raw mut scratch, error), Status::Ok);
        assert_eq!(kvsched_index_new(4, 1 << 17, &raw mut index, error), Status::Ok);
        assert_eq!(kvsched_stream_new(1, &raw mut stream, error), Status::Ok);
        assert_eq!(kvsched_history_new(20, 1000, &raw mut history, error), Status::Ok);
        let mut ticket = 0;
        while !input.0.is_empty() {
            let endpoint = input.number() as u32;
            let now = input.number();
            let (mut number, mut len) = (0_u32, 0_usize);
            match input.byte() % 21 {
                0 => {
                    let (s, name) = (input.handle(scheduler, hasher), input.text());
                    kvsched_endpoint_add(s, name, endpoint % 3, &raw mut number, error);
                }
                1 => {
                    kvsched_endpoint_remove(input.handle(scheduler, scratch), endpoint, error);
                }
                2 | 3 => {
                    let (s, payload) = (input.handle(scheduler, index), input.bytes());
                    let mut row = Ingested::default();
                    let out = if input.byte() % 2 == 0 { null_mut() } else { &raw mut row };
                    kvsched_ingest(
                        s,
                        endpoint,
                        now,
                        payload.as_ptr(),
                        payload.len(),
                        now,
                        out,
                        error,
                    );
                }
                4 => {
                    let payload = input.bytes();
                    let (data, len) = (payload.as_ptr(), payload.len());
                    kvsched_replayed(scheduler, endpoint, now, data, len, now, null_mut(), error);
                    kvsched_tick(scheduler, endpoint, now, null_mut(), error);
                }
                5 | 6 => {
                    let tokens = input.tokens();
                    let named = if input.byte() % 4 == 0 { input.hashes() } else { Vec::new() };
                    let row = |input: &mut Input<'_>| Candidate {
                        endpoint: u32::from(input.byte() % 4),
                        waiting_requests: input.number() as u32,
                        kv_usage: f64::from_bits(input.number()),
                        prefill_tokens_per_sec: f64::from_bits(input.number()),
                        observed_at_ns: input.number(),
                        lora_active: u32::from(input.byte() % 2),
                        ..Candidate::default()
                    };
                    let rows: Vec<Candidate> =
                        (0..input.byte() % 5).map(|_| row(&mut input)).collect();
                    let loras: Vec<u32> = (0..u32::from(input.byte() % 4)).collect();
                    let request = Request {
                        now_ns: now,
                        prefix_demand: f64::from_bits(input.number()),
                        session: input.text(),
                        text: if input.byte() % 4 == 0 { input.text() } else { Str::default() },
                        hashes: if named.is_empty() { null() } else { named.as_ptr() },
                        hashes_len: named.len(),
                        flags: u32::from(input.byte()),
                        pinned: endpoint,
                        near: input.number() as u32,
                        ttft_slo_ns: input.number(),
                        expected_output_tokens: input.number() as u32,
                        ..Request::default()
                    };
                    let mut ranked = [Ranked::default(); 5];
                    let mut decision = Decision::default();
                    let scratch = input.handle(scratch, scheduler);
                    let status = kvsched_route(
                        scheduler,
                        scratch,
                        &raw const request,
                        tokens.as_ptr(),
                        tokens.len(),
                        null(),
                        rows.as_ptr(),
                        rows.len(),
                        loras.as_ptr(),
                        loras.len(),
                        &raw mut decision,
                        ranked.as_mut_ptr(),
                        usize::from(input.byte() % 6),
                        error,
                    );
                    if status == Status::Ok {
                        assert!(rows.iter().any(|row| row.endpoint == decision.endpoint));
                        assert!((0.0..=1.0).contains(&decision.score), "{}", decision.score);
                        assert!(decision.matched_blocks <= decision.prompt_blocks);
                        ticket = decision.ticket;
                    }
                }
                7 => {
                    kvsched_record(scheduler, scratch, endpoint, now, &raw mut ticket, error);
                }
                8 => {
                    kvsched_first_token(scheduler, ticket ^ u64::from(input.byte() % 2), error);
                    kvsched_finish(scheduler, ticket, endpoint, now, error);
                }
                9 => {
                    let tokens = input.tokens();
                    let (mut hashes, room) = ([0; 64], usize::from(input.byte() % 65));
                    let status = kvsched_hasher_hash(
                        input.handle(hasher, scratch),
                        tokens.as_ptr(),
                        tokens.len(),
                        null(),
                        hashes.as_mut_ptr(),
                        room,
                        &raw mut len,
                        error,
                    );
                    assert!(status != Status::Ok || len == tokens.len() / 4);
                }
                10 => {
                    let (hashes, parent) = (input.hashes(), input.number());
                    let parent = if input.byte() % 2 == 0 { null() } else { &raw const parent };
                    let index = input.handle(index, stream);
                    let tier = u32::from(input.byte() % 9);
                    kvsched_index_store(
                        index,
                        endpoint,
                        tier,
                        parent,
                        hashes.as_ptr(),
                        hashes.len(),
                        error,
                    );
                }
                11 => {
                    let hashes = input.hashes();
                    kvsched_index_remove(index, endpoint, 0, hashes.as_ptr(), hashes.len(), error);
                    if input.byte() % 8 == 0 {
                        kvsched_index_clear(index, endpoint, error);
                    }
                }
                12 => {
                    let (hashes, mut rows) = (input.hashes(), [0; 8]);
                    let status = kvsched_index_match(
                        index,
                        scratch,
                        hashes.as_ptr(),
                        hashes.len(),
                        rows.as_mut_ptr(),
                        8,
                        &raw mut len,
                        error,
                    );
                    assert!(
                        status != Status::Ok || rows.iter().all(|&n| n as usize <= hashes.len())
                    );
                }
                13 => {
                    let payload = input.bytes();
                    let hasher = if input.byte() % 2 == 0 { null() } else { hasher };
                    kvsched_stream_receive(
                        input.handle(stream, history),
                        index,
                        hasher,
                        now,
                        payload.as_ptr(),
                        payload.len(),
                        now,
                        null_mut(),
                        error,
                    );
                }
                14 => {
                    let hashes = input.hashes();
                    kvsched_history_record(
                        input.handle(history, index),
                        scratch,
                        endpoint,
                        hashes.as_ptr(),
                        hashes.len(),
                        now,
                        error,
                    );
                }
                15 => {
                    let (hashes, mut rows) = (input.hashes(), [0; 8]);
                    kvsched_history_match(
                        history,
                        scratch,
                        hashes.as_ptr(),
                        hashes.len(),
                        now,
                        rows.as_mut_ptr(),
                        8,
                        &raw mut len,
                        error,
                    );
                }
                16 => carry(scheduler, hasher, &settings, &mut input),
                17 => {
                    let mut text = [0; 256];
                    let room = usize::from(input.byte());
                    kvsched_explain(
                        scheduler,
                        scratch,
                        text.as_mut_ptr(),
                        room,
                        &raw mut len,
                        error,
                    );
                    kvsched_endpoint_name(
                        scheduler,
                        endpoint,
                        text.as_mut_ptr(),
                        room,
                        &raw mut len,
                        error,
                    );
                }
                18 => {
                    let (key, value) = (input.text(), input.text());
                    kvsched_endpoint_set_label(scheduler, endpoint, key, value, error);
                    kvsched_endpoint_set_cache_blocks(scheduler, endpoint, now as u32, error);
                }
                19 => {
                    let handles = Handles { hasher, scheduler, scratch, index, stream, history };
                    ask(&handles, &mut input);
                }
                _ => {
                    let mut work = Outstanding::default();
                    let mut report = TrustReport::default();
                    let mut next = 0;
                    kvsched_outstanding(scheduler, endpoint, &raw mut work, error);
                    kvsched_trust(
                        scheduler,
                        endpoint,
                        &raw mut report,
                        null_mut(),
                        0,
                        &raw mut len,
                        error,
                    );
                    kvsched_next_sequence(scheduler, endpoint, &raw mut next, error);
                }
            }
            let mut stats = Stats::default();
            let status = kvsched_scheduler_stats(scheduler, &raw mut stats, error);
            assert_eq!(status, Status::Ok, "no call breaks a scheduler");
        }
        assert_eq!(kvsched_history_free(&raw mut history), Status::Ok);
        assert_eq!(kvsched_stream_free(&raw mut stream), Status::Ok);
        assert_eq!(kvsched_index_free(&raw mut index), Status::Ok);
        assert_eq!(kvsched_scratch_free(&raw mut scratch), Status::Ok);
        assert_eq!(kvsched_scheduler_free(&raw mut scheduler), Status::Ok);
        assert_eq!(kvsched_hasher_free(&raw mut hasher), Status::Ok);
        assert!(hasher.is_null() && scheduler.is_null());
    }
});
