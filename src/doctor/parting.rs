//! Where a prompt parts from what the engine announced, and why.

use super::said::{Next, Store, common};
use super::{Doctor, Finding, Parity};
use kvsched_core::{BlockHash, EngineHash, Lora, Prompt, TokenId};

/// Why more was hit than predicted.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    /// It was announced after the prediction.
    Late,
    Found(Finding),
    Unknown,
}

/// A prompt followed through announcements, by its tokens.
#[derive(Clone, Copy, Debug)]
struct Way<'a> {
    /// Blocks of the prompt that the engine announced so.
    block: usize,
    /// The last of them.
    parent: Option<EngineHash>,
    /// The first that it names otherwise than we.
    parts: Option<(usize, Next<'a>)>,
}

/// Most branches of announcements that a prompt is followed along.
const STEPS: usize = 256;
/// So many equal tokens are no accident, and so many before a prompt are still its beginning.
const MEANINGFUL: usize = 12;

impl Doctor {
    /// Why the engine had `reported` tokens of a prompt and we knew of `predicted`.
    pub(super) fn diagnose(
        &mut self,
        prompt: &Prompt<'_>,
        predicted: usize,
        reported: usize,
    ) -> Cause {
        let mut hashes = std::mem::take(&mut self.hashes);
        let cause = match self.hasher.hash_into(prompt, &mut hashes) {
            Ok(()) => self.part(prompt, &hashes, predicted, reported),
            Err(_) => Cause::Unknown,
        };
        self.hashes = hashes;
        cause
    }

    /// Follows a prompt's tokens through what the engine announced, under whatever keys.
    fn part(
        &self,
        prompt: &Prompt<'_>,
        hashes: &[BlockHash],
        predicted: usize,
        reported: usize,
    ) -> Cause {
        let size = self.hasher.block_size();
        let start = Way { block: 0, parent: None, parts: None };
        let (mut ways, mut furthest) = (vec![start], start);
        let mut differs: Option<(usize, Next<'_>)> = None;
        let mut steps = 0;
        while let Some(way) = ways.pop() {
            if way.block * size >= reported {
                // Announced since it was predicted, as siblings in a burst are.
                let Some((block, next)) = way.parts else { return Cause::Late };
                let agrees = keys_differ(prompt, next.store, block).is_none();
                if differs.is_none() || agrees {
                    differs = Some((block, next));
                }
                continue;
            }
            if way.block > furthest.block {
                furthest = way;
            }
            steps += 1;
            if steps > STEPS {
                return Cause::Unknown;
            }
            let Some(tokens) = prompt.tokens.get(way.block * size..) else { continue };
            for next in self.said.after(way.parent) {
                let same = (common(tokens, next.tokens) / size).min(next.hashes.len());
                let Some(last) = same.checked_sub(1) else { continue };
                let parts = way.parts.or_else(|| {
                    let ours = hashes.get(way.block..).unwrap_or_default();
                    let at = self.first_other(prompt, ours, way.block, same, next)?;
                    Some((way.block + at, next.skip(at)))
                });
                let parent = next.hashes.get(last).copied();
                ways.push(Way { block: way.block + same, parent, parts });
            }
        }
        // What was forgotten might have explained it.
        let is_sure = !self.said.is_cut || predicted == 0;
        let finding = match differs {
            Some(_) if !is_sure => None,
            Some((block, next)) => Some(
                keys_differ(prompt, next.store, block)
                    .or_else(|| self.path_differs(prompt, hashes, block, next))
                    .unwrap_or(Finding::Keys { block }),
            ),
            None => self.tokens_differ(prompt, furthest, predicted),
        };
        finding.map_or(Cause::Unknown, Cause::Found)
    }

    /// Which of the next `same` blocks is the first that the engine names, or keys, otherwise.
    fn first_other(
        &self,
        prompt: &Prompt<'_>,
        ours: &[BlockHash],
        block: usize,
        same: usize,
        next: Next<'_>,
    ) -> Option<usize> {
        if self.parity == Parity::NotNeeded {
            return keys_differ(prompt, next.store, block).map(|_| 0);
        }
        ours.iter().zip(&next.hashes[..same]).position(|(a, b)| a.0 != b.0)
    }

    /// The finding that the engine has other tokens after the furthest that both have.
    fn tokens_differ(
        &self,
        prompt: &Prompt<'_>,
        furthest: Way<'_>,
        predicted: usize,
    ) -> Option<Finding> {
        let size = self.hasher.block_size();
        let at = furthest.block * size;
        let tokens = prompt.tokens.get(at..)?;
        let nexts = self.said.after(furthest.parent).filter(|_| at >= predicted);
        let engine = nexts.max_by_key(|next| {
            let shift = if at == 0 { shift(tokens, next.tokens) } else { 0 };
            (shift != 0, common(tokens, next.tokens))
        })?;
        let same = common(tokens, engine.tokens);
        let shift = if at == 0 { shift(tokens, engine.tokens) } else { 0 };
        // A stranger's prompt, where the right one may have been forgotten.
        if self.said.is_cut && same < size / 2 && shift == 0 {
            return None;
        }
        let from = |tokens: &[TokenId]| tokens.iter().skip(same).take(8).copied().collect();
        let (configured, engine) = (from(tokens), from(engine.tokens));
        Some(Finding::Tokens { at: at + same, configured, engine, shift })
    }

    /// The finding that an adapter's path differs, if paths enter the hash.
    fn path_differs(
        &self,
        prompt: &Prompt<'_>,
        hashes: &[BlockHash],
        block: usize,
        engine: Next<'_>,
    ) -> Option<Finding> {
        let lora = prompt.extras.lora?;
        let mut computed = Vec::new();
        let mut hash_with = |path: &str| {
            let mut prompt = *prompt;
            prompt.extras.lora = Some(Lora { path, ..lora });
            self.hasher.hash_first_into(&prompt, block + 1, &mut computed).ok()?;
            computed.get(block).copied()
        };
        if hash_with(&format!("{}?", lora.path)).as_ref() == hashes.get(block) {
            return None;
        }
        let announced = engine.hashes.first().map(|h| h.as_block_hash());
        let path = likely_paths(lora).into_iter().find(|path| hash_with(path) == announced);
        let (adapter, configured) = (lora.name.to_owned(), lora.path.to_owned());
        Some(Finding::LoraPath { adapter, configured, engine: path, block })
    }
}

/// The finding that adapter or salt differ, as far as events tell them.
fn keys_differ(prompt: &Prompt<'_>, store: &Store, block: usize) -> Option<Finding> {
    let owned = |text: &str| text.to_owned();
    let (configured, engine) = (prompt.extras.lora.map(|l| l.name), store.lora.as_deref());
    if configured != engine {
        let (configured, engine) = (configured.map(owned), engine.map(owned));
        return Some(Finding::LoraName { configured, engine, block });
    }
    let (configured, engine) =
        (prompt.extras.cache_salt.filter(|s| !s.is_empty()), store.salt.as_deref());
    (block == 0 && configured != engine)
        .then(|| Finding::Salt { configured: configured.map(owned), engine: engine.map(owned) })
}

/// How many tokens `engine` has before what `ours` begins with; negative the other way round; 0
/// where neither begins within the other's first few.
fn shift(ours: &[TokenId], engine: &[TokenId]) -> isize {
    let begins_at = |short: &[TokenId], long: &[TokenId], n: usize| {
        long.get(n..).is_some_and(|long| common(short, long) >= MEANINGFUL)
    };
    let of = |n: usize| n as isize;
    (1..=MEANINGFUL)
        .find_map(|n| match (begins_at(ours, engine, n), begins_at(engine, ours, n)) {
            (true, _) => Some(of(n)),
            (_, true) => Some(-of(n)),
            _ => None,
        })
        .unwrap_or(0)
}

/// Other ways to write down where an adapter lies.
fn likely_paths(lora: Lora<'_>) -> Vec<String> {
    let bare = lora.path.trim_matches('/');
    let last = bare.rsplit('/').next().unwrap_or_default();
    let mut paths: Vec<String> =
        [bare, last, lora.name, ""].iter().map(|&path| path.to_owned()).collect();
    // A path within the engine's container often lacks the host's first parts, or has others.
    let parts = bare.match_indices('/').map(|(at, _)| &bare[at..]);
    paths.extend(parts.map(str::to_owned));
    for from in ["adapters", "loras", "lora", "models"] {
        paths.push(format!("/{from}/{last}"));
        paths.push(format!("/{from}/{}", lora.name));
    }
    let absolute: Vec<_> = paths.iter().map(|path| format!("/{path}")).collect();
    paths.extend(absolute);
    let folders: Vec<_> = paths.iter().map(|path| format!("{path}/")).collect();
    paths.extend(folders);
    paths
}
