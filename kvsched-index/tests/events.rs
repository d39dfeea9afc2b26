//! The decoder among bytes that no engine sends, and the encoder among all versions.

// A test may fail where it likes.
#![allow(clippy::unwrap_used)]

use kvsched_core::{
    AnnouncedKey, AnnouncedKeys, AttentionKind, EngineHash, Event, Group, Locality, Medium,
    Removed, Stored, Tier,
};
use kvsched_index::events::vllm::{DecodeError, Decoder, Version, encode};
use kvsched_testdata::{Vectors, kv_events::KvEvents, unhex, vector_files};
use proptest::prelude::*;

fn payloads() -> Vec<Vec<u8>> {
    let files = vector_files(Vectors::KvEvents).unwrap();
    let cases = files.iter().flat_map(|f| KvEvents::read(f).unwrap().cases);
    let all: Vec<_> = cases.map(|c| c.payload_hex.0).collect();
    assert!(all.len() > 100, "{} payloads", all.len());
    all
}

/// What a batch says, as text, so that it outlives the decoder's buffers.
fn said(decoder: &mut Decoder, payload: &[u8]) -> Result<Vec<String>, DecodeError> {
    decoder.decode(payload).map(|b| b.events().map(|e| format!("{e:?}")).collect())
}

#[test]
fn what_precedes_a_cut_is_kept_and_the_cut_is_told() {
    let (mut whole, mut cut) = (Decoder::new(), Decoder::new());
    for payload in payloads() {
        let all = said(&mut whole, &payload).unwrap();
        for end in 0..payload.len() {
            let Ok(batch) = cut.decode(&payload[..end]) else { continue };
            let fault = batch.fault().expect("a cut payload is at fault");
            let message = fault.to_string();
            assert!(message.starts_with("byte "), "{message}");
            let kept: Vec<_> = batch.events().map(|e| format!("{e:?}")).collect();
            assert!(all.starts_with(&kept), "cut at {end}");
            // All or nothing: a lost rank alone loses no event.
            assert_eq!(batch.lost_events() + kept.len(), all.len(), "cut at {end}");
        }
    }
}

#[test]
fn no_flipped_byte_brings_it_down() {
    let mut decoder = Decoder::new();
    for mut payload in payloads() {
        for i in 0..payload.len() {
            for flip in [0x01, 0x80, 0xff, 0x10] {
                payload[i] ^= flip;
                if let Ok(batch) = decoder.decode(&payload) {
                    for i in 0..batch.len() {
                        assert!(batch.get(i).is_some() && batch.wire_form(i).is_some());
                    }
                }
                payload[i] ^= flip;
            }
        }
    }
}

/// An array-layout batch of these events.
fn batch_of(events: &[&[u8]]) -> Vec<u8> {
    let mut payload = b"\x93\xcb\x3f\xf0\0\0\0\0\0\0".to_vec();
    payload.push(0x90 | events.len() as u8);
    payload.extend(events.concat());
    payload.push(0);
    payload
}

const REMOVED_7: &[u8] = b"\x92\xacBlockRemoved\x91\x07";
const CLEARED: &[u8] = b"\x91\xb0AllBlocksCleared";

#[test]
fn events_around_a_malformed_one_are_kept() {
    let malformed: [(&[u8], &str); 9] = [
        // (the offset of the first event is 11, and of the malformed one 27)
        (b"\x92\xacBlockRemoved\xa1x", "byte 41: expected an array of block hashes"),
        (b"\x92\xacBlockRemoved\x92\x07\xc3", "byte 43: expected a block hash"),
        (b"\x91\xacBlockRemoved", "byte 27: the event has no block_hashes"),
        (b"\x90", "byte 27: the event has no type"),
        (b"\xc0", "byte 27: expected an event (array or map), found msgpack type 0xc0"),
        (
            b"\x93\xacBlockRemoved\x91\x07\xa1\xff",
            "byte 44: not UTF-8, in the text that starts at byte 43",
        ),
        (
            b"\x94\xacBlockRemoved\x91\x07\xc0\xcd\x01\x00",
            "byte 44: a group is 256, which is not in 0..=255",
        ),
        (b"\x81\xa6medium\xa3GPU", "byte 27: the event has no type"),
        (
            b"\x82\xa4type\xabBlockStored\xacblock_hashes\x91\x07",
            "byte 27: the event has no parent_block_hash",
        ),
    ];
    let mut decoder = Decoder::new();
    for (bytes, why) in malformed {
        let payload = batch_of(&[REMOVED_7, bytes, CLEARED]);
        let batch = decoder.decode(&payload).unwrap();
        let fault = batch.fault().unwrap().to_string();
        assert!(fault.starts_with(why), "{fault}");
        assert_eq!(batch.lost_events(), 1, "{why}");
        let mut events = batch.events();
        assert!(matches!(events.next(), Some(Event::Removed(r)) if r.hashes == [EngineHash(7)]));
        assert_eq!(events.next(), Some(Event::Cleared));
        assert_eq!(events.next(), None);
        assert_eq!(batch.data_parallel_rank(), Some(0), "the rank follows the events");
    }
}

#[test]
fn what_follows_broken_structure_is_lost_and_counted() {
    let payload = batch_of(&[REMOVED_7, b"\xc1", CLEARED, CLEARED]);
    let mut decoder = Decoder::new();
    let batch = decoder.decode(&payload).unwrap();
    assert_eq!((batch.len(), batch.lost_events()), (1, 3));
}

#[test]
fn what_is_not_a_batch_is_an_error_with_its_place() {
    let mut decoder = Decoder::new();
    let mut why = |bytes: &[u8]| decoder.decode(bytes).unwrap_err().to_string();
    assert_eq!(why(b""), "byte 0: 1 bytes are needed and 0 are left");
    assert_eq!(
        why(b"\xa1x"),
        "byte 0: expected a batch [timestamp, events, rank], found msgpack type 0xa1"
    );
    assert_eq!(why(b"\x91\x01"), "byte 0: the event has no timestamp and list of events");
    assert_eq!(why(b"\x93\xc0\x90\x00"), "byte 1: expected a timestamp, found msgpack type 0xc0");
    assert_eq!(
        why(b"\x93\x01\xdd\xff\xff\xff\xff\x00"),
        "byte 2: a length of 4294967295 is declared and 1 bytes are left"
    );
}

#[test]
fn the_unknown_is_passed_over_and_counted() {
    let payload = batch_of(&[
        b"\x92\xa9BlockDone\x92\x01\xa1x",
        b"\x82\xa4type\xa9BlockDone\xacblock_hashes\xc3",
        // A removal with a field and an element of tomorrow.
        b"\x83\xa4type\xacBlockRemoved\xacblock_hashes\x91\x07\xa8tomorrow\x81\xc0\x93\x01\x02\x03",
        b"\x97\xacBlockRemoved\x91\x07\xc0\xc0\xc0\xc0\xd4\x01\x02",
        // The type last, a locality of tomorrow, and a field said twice.
        b"\x84\xacblock_hashes\x91\x09\xa8locality\xa5CLOUD\xacblock_hashes\x91\x07\xa4type\xacBlockRemoved",
    ]);
    let mut decoder = Decoder::new();
    let batch = decoder.decode(&payload).unwrap();
    assert_eq!(batch.fault(), None);
    assert_eq!((batch.unknown_events(), batch.unknown_fields()), (2, 3));
    assert_eq!((batch.len(), batch.lost_events()), (3, 0));
    for event in &batch {
        assert!(matches!(event, Event::Removed(r) if r.hashes == [EngineHash(7)]), "{event:?}");
    }
}

#[test]
fn optional_values_of_unknown_form_do_not_cost_the_event() {
    // extra_keys as a map, as a list with an odd key; lookahead of uneven blocks.
    let stored = |field: &[u8]| {
        let mut event =
            b"\x86\xa4type\xabBlockStored\xacblock_hashes\x92\x01\x02\xb1parent_block_hash\xc0\
            \xa9token_ids\x92\x05\x06\xaablock_size\x01"
                .to_vec();
        event.extend(field);
        batch_of(&[&event, CLEARED])
    };
    let mut decoder = Decoder::new();
    for field in [
        b"\xaaextra_keys\x81\xa1a\x01".as_slice(),
        b"\xaaextra_keys\x92\xc0\x91\x93\xa1a\x01\x02",
        b"\xaaextra_keys\x92\xc0\x91\xcb\0\0\0\0\0\0\0\0",
        b"\xb3lookahead_token_ids\x92\x91\x01\x92\x01\x02",
        b"\xb3lookahead_token_ids\x91\x91\x01",
        b"\xb3lookahead_token_ids\x01",
    ] {
        let payload = stored(field);
        let batch = decoder.decode(&payload).unwrap();
        assert_eq!((batch.fault(), batch.len()), (None, 2), "{field:?}");
        assert_eq!(batch.unknown_fields(), 1, "{field:?}");
        let Some(Event::Stored(s)) = batch.get(0) else { panic!("{field:?}") };
        assert_eq!((s.tokens, s.extra_keys, s.lookahead), ([5, 6].as_slice(), None, [].as_slice()));
        assert_eq!(batch.get(1), Some(Event::Cleared));
    }
}

#[test]
fn no_header_needs_to_be_minimal() {
    let payload = b"\xdd\0\0\0\x03\xca\x3f\x80\0\0\xdc\0\x01\xdf\0\0\0\x02\xd9\x04type\
        \xda\0\x0cBlockRemoved\xdb\0\0\0\x0cblock_hashes\xdd\0\0\0\x03\xcc\x07\xd0\xff\xd3\0\0\0\0\0\0\0\x05\
        \xd2\0\0\0\x02";
    let mut decoder = Decoder::new();
    let batch = decoder.decode(payload).unwrap();
    assert_eq!(
        (batch.fault(), batch.timestamp(), batch.data_parallel_rank()),
        (None, 1.0, Some(2))
    );
    let Some(Event::Removed(r)) = batch.get(0) else { panic!("a removal") };
    assert_eq!(r.hashes, [EngineHash(7), EngineHash(u64::MAX), EngineHash(5)]);
}

#[test]
fn hashes_of_any_length_are_read_from_their_end() {
    let mut event = b"\x92\xacBlockRemoved\x94\xc4\x00\xc4\x03\x01\x02\x03".to_vec();
    event.extend(b"\xc4\x09\xff\0\0\0\0\0\0\0\x01\xc5\x01\x00");
    event.extend([0; 255]);
    event.push(8);
    let payload = batch_of(&[&event]);
    let mut decoder = Decoder::new();
    let batch = decoder.decode(&payload).unwrap();
    let Some(Event::Removed(r)) = batch.get(0) else { panic!("{:?}", batch.fault()) };
    assert_eq!(r.hashes.iter().map(|h| h.0).collect::<Vec<_>>(), [0, 0x01_02_03, 1, 8]);
}

#[test]
fn depth_costs_no_stack_and_declared_lengths_no_memory() {
    let mut decoder = Decoder::new();
    for nest in [0x91u8, 0x81] {
        let deep = vec![nest; 4 << 20];
        let mut payload = b"\x93\x01\x91".to_vec();
        payload.extend(&deep);
        let batch = decoder.decode(&payload).unwrap();
        assert!(batch.fault().is_some() && batch.is_empty());
    }
    // 64 KiB that promise four billion of everything.
    for promise in
        [b"\xdd\xff\xff\xff\xff".as_slice(), b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
    {
        let mut event = b"\x92\xacBlockRemoved".to_vec();
        event.extend(promise);
        let mut payload = batch_of(&[REMOVED_7, &event]);
        payload.resize(64 << 10, 0);
        let mut decoder = Decoder::new();
        let used = allocation_counter::measure(|| {
            let batch = decoder.decode(&payload).unwrap();
            assert_eq!((batch.len(), batch.lost_events()), (1, 1));
        });
        assert!(used.bytes_total < 4 << 10, "{} bytes", used.bytes_total);
    }
}

#[test]
fn buffers_stay_in_proportion_to_the_payload() {
    // The densest of what fills each buffer: keys, ends, tokens, records.
    let mut keys = b"\x86\xa4type\xabBlockStored\xacblock_hashes\x90\xb1parent_block_hash\xc0\
        \xa9token_ids\x90\xaablock_size\x01\xaaextra_keys\x91\xdd\x00\x01\x00\x00"
        .to_vec();
    keys.resize(keys.len() + (1 << 16), 1);
    let mut nothings = b"\x93\x01\xdd\x00\x01\x00\x00".to_vec();
    for _ in 0..1 << 16 {
        nothings.extend(b"\x91\xb0AllBlocksCleared");
    }
    nothings.push(0);
    for payload in [batch_of(&[&keys]), nothings] {
        let mut decoder = Decoder::new();
        let used = allocation_counter::measure(|| {
            let batch = decoder.decode(&payload).unwrap();
            assert_eq!((batch.fault(), batch.is_empty()), (None, false));
        });
        let factor = used.bytes_max / payload.len() as u64;
        assert!(factor <= 100, "{factor} bytes of buffer a byte");
    }
}

#[test]
fn a_warm_decoder_allocates_nothing() {
    let payloads = payloads();
    let mut decoder = Decoder::new();
    let mut events = 0;
    let mut pass = || {
        for payload in &payloads {
            let batch = decoder.decode(payload).unwrap();
            events += batch.events().filter(|e| matches!(e, Event::Stored(_))).count();
        }
    };
    pass();
    let used = allocation_counter::measure(&mut pass);
    assert_eq!(used.count_total, 0, "{used:?}");
    assert!(events > 0);
}

/// Compatible with SGLang 0.5.23: bytes that msgspec 0.22 made from its own classes.
#[test]
fn compatible_sglang_maps() {
    let payload = unhex(
        "93cb41da492040200000968aa474797065ab426c6f636b53746f726564ac626c6f636b5f68617368657392d3aaaaaaaaaaaaaaaa07b1\
         706172656e745f626c6f636b5f68617368c0a9746f6b656e5f6964739401cd012cce0001117005aa626c6f636b5f73697a6502a76c6f\
         72615f6964c0a66d656469756da3475055aa63616368655f73616c74a27331aa73657373696f6e5f6964a473657373a96c6f72615f6e\
         616d65a2616488a474797065ab426c6f636b53746f726564ac626c6f636b5f6861736865739109b1706172656e745f626c6f636b5f68\
         61736807a9746f6b656e5f696473920102aa626c6f636b5f73697a6502a76c6f72615f6964c0a66d656469756daa4350555f50494e4e\
         4544aa63616368655f73616c74a2733187a474797065ab426c6f636b53746f726564ac626c6f636b5f686173686573910bb170617265\
         6e745f626c6f636b5f68617368c0a9746f6b656e5f696473920102aa626c6f636b5f73697a6502a76c6f72615f6964c0a66d65646975\
         6da44449534b83a474797065ac426c6f636b52656d6f766564ac626c6f636b5f68617368657391d3aaaaaaaaaaaaaaaaa66d65646975\
         6da845585445524e414c82a474797065ac426c6f636b52656d6f766564ac626c6f636b5f686173686573910781a474797065b0416c6c\
         426c6f636b73436c656172656403",
    )
    .unwrap();
    let mut decoder = Decoder::new();
    let batch = decoder.decode(&payload).unwrap();
    assert_eq!((batch.fault(), batch.unknown_fields()), (None, 0));
    assert_eq!((batch.timestamp(), batch.data_parallel_rank()), (1_764_000_000.5, Some(3)));
    let events: Vec<_> = batch.events().collect();
    let [Event::Stored(root), Event::Stored(child), Event::Stored(plain), rest @ ..] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(root.hashes, [EngineHash(0xaaaa_aaaa_aaaa_aaaa), EngineHash(7)]);
    assert_eq!((root.parent, root.tokens), (None, [1, 300, 70_000, 5].as_slice()));
    assert_eq!((root.session_id, root.lora_name), (Some("sess"), Some("ad")));
    // A salt is told as vLLM tells it: with the prompt's first block.
    let keys = root.extra_keys.unwrap();
    assert_eq!(keys.of_block(0), Some([AnnouncedKey::Text("s1")].as_slice()));
    assert_eq!(keys.of_block(1), Some([].as_slice()));
    assert_eq!(keys.of_block(2), None);
    assert_eq!(child.extra_keys.unwrap().of_block(0), Some([].as_slice()));
    assert_eq!(
        (child.parent, child.medium.unwrap().tier()),
        (Some(EngineHash(7)), Some(Tier::HOST))
    );
    assert_eq!((plain.extra_keys, plain.medium.unwrap().tier()), (None, Some(Tier::DISK)));
    let [Event::Removed(shared), Event::Removed(bare), Event::Cleared] = rest else {
        panic!("{rest:?}")
    };
    assert_eq!(shared.medium.unwrap().tier(), Some(Tier::SHARED));
    assert_eq!((bare.hashes, bare.medium), ([EngineHash(7)].as_slice(), None));
}

/// Compatible with SGLang of 2025 (arrays), and with its pairs of tokens under EAGLE.
#[test]
fn compatible_sglang_arrays_and_pairs() {
    let arrays = unhex(
        "92cb41da4920402000009396ab426c6f636b53746f72656492fb06049401cd012cce000111700502c092ac426c6f636b52656d6f7665\
         6491fb91b0416c6c426c6f636b73436c6561726564",
    )
    .unwrap();
    let mut decoder = Decoder::new();
    let batch = decoder.decode(&arrays).unwrap();
    assert_eq!((batch.fault(), batch.len(), batch.data_parallel_rank()), (None, 3, None));
    let Some(Event::Stored(s)) = batch.get(0) else { panic!("a store") };
    assert_eq!(s.hashes, [EngineHash(5u64.wrapping_neg()), EngineHash(6)]);
    assert_eq!((s.parent, s.tokens), (Some(EngineHash(4)), [1, 300, 70_000, 5].as_slice()));
    drop(batch);
    let pairs = unhex(
        "93cb3ff80000000000009187a474797065ab426c6f636b53746f726564ac626c6f636b5f68617368657392ff02b1706172656e745f62\
         6c6f636b5f68617368c0a9746f6b656e5f696473949201029202039203cd019092cd019005aa626c6f636b5f73697a6502a76c6f7261\
         5f6964c0a66d656469756da347505500",
    )
    .unwrap();
    let batch = decoder.decode(&pairs).unwrap();
    let Some(Event::Stored(s)) = batch.get(0) else { panic!("{:?}", batch.fault()) };
    assert_eq!(s.tokens, [1, 2, 3, 400]);
}

prop_compose! {
    fn event_parts()(
        kind in 0..3u8,
        hashes in prop::collection::vec(any::<u64>(), 0..5),
        parent in any::<Option<u64>>(),
        tokens in prop::collection::vec(prop_oneof![0..200u32, 0..70_000u32, any::<u32>()], 0..40),
        block_size in any::<u32>(),
        lora_id in any::<Option<i64>>(),
        texts in prop::collection::vec(prop::option::of(".{0,40}"), 5),
        group in any::<Option<u8>>(),
        window in any::<Option<u32>>(),
        locality in any::<Option<bool>>(),
        keyed in any::<bool>(),
        lookahead in 0..3usize,
    ) -> Parts {
        Parts { kind, hashes: hashes.into_iter().map(EngineHash).collect(), parent, tokens,
            block_size, lora_id, texts, group, window, locality, keyed, lookahead }
    }
}

#[derive(Clone, Debug)]
struct Parts {
    kind: u8,
    hashes: Vec<EngineHash>,
    parent: Option<u64>,
    tokens: Vec<u32>,
    block_size: u32,
    lora_id: Option<i64>,
    texts: Vec<Option<String>>,
    group: Option<u8>,
    window: Option<u32>,
    locality: Option<bool>,
    keyed: bool,
    lookahead: usize,
}

proptest! {
    #[test]
    fn every_version_reads_back_what_it_wrote(
        parts in prop::collection::vec(event_parts(), 0..20),
        minor in 9..40u16, patch in 0..4u16, rank in any::<Option<u32>>(), ts in any::<f64>(),
    ) {
        let version = Version::new(minor, patch).unwrap();
        let since = |m: u16, p: u16| (minor, patch) >= (m, p);
        let keys = [AnnouncedKey::Text("salt"), AnnouncedKey::Bytes(&[1, 2]),
            AnnouncedKey::Int(-300), AnnouncedKey::Multimodal { identifier: "i", offset: -70_000 }];
        let ends: Vec<Vec<u32>> = parts.iter().map(|p| {
            let n = p.hashes.len() as u32;
            (0..n).map(|i| if i + 1 == n { 4 } else { i.min(4) }).collect()
        }).collect();
        let ahead: Vec<Vec<u32>> =
            parts.iter().map(|p| (0..(p.lookahead * p.hashes.len()) as u32).collect()).collect();
        let of = |i: usize, wire: bool| -> Event<'_> {
            let p = &parts[i];
            // On the way back, only what the version has fields for.
            let has = |m, q| wire || since(m, q);
            let text = |t: usize, m, q| p.texts[t].as_deref().filter(|_| has(m, q));
            let locality = p.locality.filter(|_| has(26, 0))
                .map(|l| if l { Locality::Local } else { Locality::Remote });
            let group = p.group.filter(|_| has(20, 0)).map(Group);
            match p.kind {
                0 => Event::Cleared,
                1 => Event::Removed(Removed { hashes: &p.hashes, medium: text(0, 10, 2).map(Medium),
                    group, locality, ownership: text(1, 29, 0) }),
                _ => Event::Stored(Stored {
                    hashes: &p.hashes, parent: p.parent.map(EngineHash), tokens: &p.tokens,
                    block_size: p.block_size, lora_id: p.lora_id, lora_name: text(2, 14, 0),
                    medium: text(0, 10, 2).map(Medium),
                    extra_keys: AnnouncedKeys::new(if ends[i].is_empty() { &[] } else { &keys }, &ends[i])
                        .filter(|_| p.keyed && has(17, 0)),
                    group, attention: p.window.filter(|_| has(22, 0)).map(|_| AttentionKind::SlidingWindow),
                    sliding_window: p.window.filter(|_| has(22, 0)), locality,
                    ownership: text(1, 29, 0), session_id: text(3, 30, 0),
                    lookahead: if has(33, 0) { &ahead[i] } else { &[] },
                }),
            }
        };
        let wire: Vec<_> = (0..parts.len()).map(|i| of(i, true).into()).collect();
        let mut payload = Vec::new();
        encode(version, ts, rank, &wire, &mut payload);
        let mut decoder = Decoder::new();
        let batch = decoder.decode(&payload).unwrap();
        prop_assert_eq!((batch.fault(), batch.unknown_fields(), batch.len()), (None, 0, parts.len()));
        prop_assert_eq!(batch.timestamp().to_bits(), ts.to_bits());
        prop_assert_eq!(batch.data_parallel_rank(), rank.filter(|_| since(9, 1)));
        for (i, event) in batch.events().enumerate() {
            prop_assert_eq!(event, of(i, false));
        }
    }

    #[test]
    fn random_bytes_end_in_time(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut decoder = Decoder::new();
        let mut payload = b"\x93\x01\xdc\x00\x05".to_vec();
        payload.extend(bytes);
        if let Ok(batch) = decoder.decode(&payload) {
            prop_assert!(batch.len() + batch.lost_events() + batch.unknown_events() == 5);
        }
    }
}
