//! Extra keys as an event announces them: without tags, without adapter paths, and only by
//! engines since 0.17.

use super::encode::{Encode, Message};
use super::extra_keys::{Keys, Window};
use super::rules::{LoraKey, Rules};
use crate::HashError;
use kvsched_core::{AnnouncedKey, Lora, Stored};

/// The keys of an event's blocks, in order.
#[derive(Debug)]
pub(crate) struct AnnouncedBlocks<'a> {
    rules: Rules,
    stored: &'a Stored<'a>,
    block_size: usize,
    lora: Option<Lora<'a>>,
    /// The next block.
    block: usize,
    has_keys: bool,
}

impl<'a> AnnouncedBlocks<'a> {
    /// The keys that blocks of `block_size` tokens were hashed with by these rules.
    pub(crate) fn new(
        rules: Rules,
        stored: &'a Stored<'a>,
        block_size: usize,
    ) -> Result<Self, HashError> {
        let keys = stored.extra_keys;
        let blocks = keys.map_or(0, |k| k.len());
        let of_block = |i| keys.and_then(|k| k.of_block(i)).unwrap_or_default().iter();
        let is_adapter = |key: &AnnouncedKey<'_>| match key {
            AnnouncedKey::Text(text) => stored.lora_name == Some(text),
            key => matches!(key, AnnouncedKey::Int(_)),
        };
        let has_keys = (0..blocks).flat_map(of_block).any(|key| !is_adapter(key));
        // Keys are of the announced blocks: of hashed blocks of another size they cannot be
        // told, and of a range with blocks left out only a salt's place is known.
        let own_blocks = block_size == stored.block_size as usize;
        let in_place = blocks == stored.tokens.len() / block_size
            || stored.parent.is_none()
                && of_block(0).all(|key| matches!(key, AnnouncedKey::Text(_)))
                && (1..blocks).flat_map(of_block).all(is_adapter);
        if has_keys && !(own_blocks && in_place) {
            return Err(HashError::UnsupportedKey { key: "keys of blocks that are not its own" });
        }
        let lora = match (rules.lora, stored.lora_name, stored.lora_id) {
            (LoraKey::Name, Some(name), _) => Some(Lora { name, path: "", int_id: 0 }),
            (LoraKey::IntId, _, Some(int_id)) => Some(Lora { name: "", path: "", int_id }),
            (_, None, None) => None,
            // 0.31 and later hash the path, 0.11.1 to 0.13 a name that they do not announce.
            _ => return Err(HashError::UnsupportedKey { key: "adapter whose path is unknown" }),
        };
        Ok(Self { rules, stored, block_size, lora, block: 0, has_keys })
    }

    fn keys(&self) -> impl Iterator<Item = &'a AnnouncedKey<'a>> + Clone {
        let keys = self.stored.extra_keys.and_then(|k| k.of_block(self.block));
        let (name, size) = (self.stored.lora_name, self.block_size as i64);
        keys.unwrap_or_default().iter().enumerate().filter_map(move |(i, key)| match key {
            // The adapter comes first, and is written from its own field.
            AnnouncedKey::Text(text) if i == 0 && name == Some(text) => None,
            AnnouncedKey::Int(_) => None,
            // Announced because the lookahead reached it.
            AnnouncedKey::Multimodal { offset, .. } if *offset >= size => None,
            key => Some(key),
        })
    }
}

impl Keys for AnnouncedBlocks<'_> {
    fn is_none(&self) -> bool {
        !self.has_keys && self.lora.is_none()
    }

    fn bound(&self, _: usize) -> usize {
        const KEY: usize = 80;
        let keys = self.stored.extra_keys;
        let of_block = |i| {
            let keys = keys.and_then(|k| k.of_block(i)).unwrap_or_default();
            keys.iter().map(|key| KEY + len(key)).sum::<usize>()
        };
        let most = (0..keys.map_or(0, |k| k.len())).map(of_block).max().unwrap_or(0);
        2 * KEY + most + self.lora.map_or(0, |l| l.name.len())
    }

    fn write<E: Encode>(&mut self, to: &mut E, out: &mut Message<'_>, _: Window) {
        let rules = self.rules;
        let count = self.keys().count() + usize::from(self.lora.is_some());
        if count == 0 {
            to.none(out);
        } else {
            to.open_tuple(out, count);
            if let Some(lora) = &self.lora {
                rules.put_lora(to, out, lora);
            }
            for key in self.keys() {
                match *key {
                    AnnouncedKey::Multimodal { identifier, offset } => {
                        rules.put_item(to, out, identifier, offset);
                    }
                    // A salt is in the prompt's first block; elsewhere (0.17, 0.18) a text is
                    // a multimodal item without offset.
                    AnnouncedKey::Text(salt) if self.block == 0 && self.stored.parent.is_none() => {
                        rules.put_salt(to, out, salt);
                    }
                    AnnouncedKey::Text(identifier) => rules.put_item(to, out, identifier, 0),
                    AnnouncedKey::Bytes(digest) => rules.put_embeds(to, out, digest),
                    _ => {}
                }
            }
            to.close_tuple(out, count);
        }
        self.block += 1;
    }

    fn forget_lora(&mut self) {
        self.lora = None;
    }
}

fn len(key: &AnnouncedKey<'_>) -> usize {
    match key {
        AnnouncedKey::Text(text) => text.len(),
        AnnouncedKey::Multimodal { identifier, .. } => identifier.len(),
        AnnouncedKey::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}
