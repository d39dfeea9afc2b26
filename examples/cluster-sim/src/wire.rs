//! What engines publish: their cache changes as the bytes of vLLM 0.33's event publisher.

use crate::engine::{CacheLog, Change};
use kvsched_core::{EngineHash, Event, Medium, Removed, Stored, Tier};
use kvsched_index::events::vllm::{Version, encode};

/// Encodes one step's changes into `out`.
///
/// Device blocks are announced with their tokens, blocks of slower tiers as vLLM's offloading
/// connector does by default: hashes only, tokens empty, block size 0.
pub fn publish(log: &CacheLog, block_size: u32, timestamp: f64, out: &mut Vec<u8>) {
    let Some(version) = Version::new(33, 0) else { return };
    let stored: Vec<EngineHash> = log.hashes.iter().copied().map(EngineHash).collect();
    let single: Vec<[EngineHash; 1]> = log
        .changes
        .iter()
        .map(|c| match *c {
            Change::Demoted(hash, _) | Change::Removed(hash, _) => [EngineHash(hash)],
            Change::Stored { .. } => [EngineHash(0)],
        })
        .collect();
    let adapters: Vec<String> = log
        .changes
        .iter()
        .map(|c| match c {
            Change::Stored { lora: Some(id), .. } => format!("adapter-{id}"),
            _ => String::new(),
        })
        .collect();
    let events: Vec<_> = log
        .changes
        .iter()
        .zip(&single)
        .zip(&adapters)
        .map(|((change, hash), adapter)| {
            let event = match change {
                Change::Stored { parent, lora, hashes, tokens } => Event::Stored(Stored {
                    lora_id: lora.map(i64::from),
                    lora_name: lora.map(|_| adapter.as_str()),
                    hashes: &stored[hashes.clone()],
                    parent: parent.map(EngineHash),
                    tokens: &log.tokens[tokens.clone()],
                    block_size,
                    ..placeholder(Tier::DEVICE)
                }),
                Change::Demoted(_, tier) => {
                    Event::Stored(Stored { hashes: hash, ..placeholder(*tier) })
                }
                Change::Removed(_, tier) => Event::Removed(Removed {
                    hashes: hash,
                    medium: Some(medium(*tier)),
                    group: None,
                    locality: None,
                    ownership: None,
                }),
            };
            event.into()
        })
        .collect();
    encode(version, timestamp, Some(0), &events, out);
}

fn placeholder(tier: Tier) -> Stored<'static> {
    Stored {
        hashes: &[],
        parent: None,
        tokens: &[],
        block_size: 0,
        lora_id: None,
        lora_name: None,
        medium: Some(medium(tier)),
        extra_keys: None,
        group: None,
        attention: None,
        sliding_window: None,
        locality: None,
        ownership: None,
        session_id: None,
        lookahead: &[],
    }
}

/// The engine's word for a tier.
fn medium(tier: Tier) -> Medium<'static> {
    Medium(match tier {
        Tier::DEVICE => "GPU",
        Tier::HOST => "CPU",
        Tier::DISK => "STORAGE",
        _ => "REMOTE",
    })
}
