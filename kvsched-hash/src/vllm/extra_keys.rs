//! What enters a block's hash besides its tokens, in the engine's order.

use super::cbor::Cbor;
use super::encode::{Encode, Message};
use super::rules::{EmbedsKey, LoraKey, Rules};
use crate::{HashError, sha256};
use kvsched_core::{Extras, Lora, MultimodalSpan, PromptEmbeds};

pub(crate) const MM: &str = "mm";

/// A block's tokens and the tokens after it that its hash covers: positions
/// `start..end..window_end` of the prompt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) window_end: usize,
}

/// A request's extra keys, walked block by block from the first on.
#[derive(Debug)]
pub(crate) struct ExtraKeys<'a> {
    rules: Rules,
    lora: Option<Lora<'a>>,
    salt: Option<&'a str>,
    embeds: Option<PromptEmbeds<'a>>,
    items: &'a [MultimodalSpan<'a>],
    /// Items before this one are done with.
    item: usize,
    /// Whether no block has any.
    is_none: bool,
}

fn end(item: &MultimodalSpan<'_>) -> usize {
    item.offset as usize + item.length as usize
}

impl<'a> ExtraKeys<'a> {
    /// Checks `extras` and stands before the block at token `start`, the tokens before which
    /// were covered by hashes that reached `lookahead` tokens further.
    pub(crate) fn new(
        rules: Rules,
        extras: &Extras<'a>,
        start: usize,
        lookahead: usize,
    ) -> Result<Self, HashError> {
        let items = extras.multimodal;
        if let Some(i) = items.windows(2).position(|w| w[0].offset > w[1].offset) {
            return Err(HashError::MultimodalOrder {
                item: i + 1,
                offset: items[i + 1].offset,
                before: items[i].offset,
            });
        }
        if let Some(embeds) = extras.embeds {
            if rules.embeds == EmbedsKey::Unsupported {
                return Err(HashError::UnsupportedKey { key: "prompt embeddings" });
            }
            if embeds.row_bytes == 0 || embeds.bytes.len() % embeds.row_bytes != 0 {
                return Err(HashError::EmbedRows {
                    bytes: embeds.bytes.len(),
                    row_bytes: embeds.row_bytes,
                });
            }
        }
        let mut keys = Self {
            rules,
            lora: extras.lora,
            salt: extras.cache_salt.filter(|s| !s.is_empty()),
            embeds: extras.embeds,
            items,
            item: 0,
            is_none: extras.is_none(),
        };
        if start > 0 {
            keys.pass(Window { start, end: start, window_end: start + lookahead });
        }
        Ok(keys)
    }

    /// Whether no block has any.
    pub(crate) fn is_none(&self) -> bool {
        self.is_none
    }

    /// The most bytes that [`write`](Self::write) puts for a block of `window` tokens.
    pub(crate) fn bound(&self, window: usize) -> usize {
        // Heads, tags, memo marks and frames of one key; a raw tensor may split two frames.
        const KEY: usize = 80;
        let lora = self.lora.map_or(0, |l| l.name.len() + l.path.len() + KEY);
        let salt = self.salt.map_or(0, |s| s.len() + KEY);
        let items: usize = self.items.iter().map(|i| i.identifier.len() + KEY).sum();
        let embeds = match (self.embeds, self.rules.embeds) {
            (Some(e), EmbedsKey::Raw) => {
                e.bytes.len().min(window.saturating_mul(e.row_bytes)) + KEY
            }
            (Some(_), _) => 32 + KEY,
            (None, _) => 0,
        };
        KEY + lora + salt + items + embeds
    }

    /// Writes the keys of the next block: nothing at all, or a tuple.
    #[inline]
    pub(crate) fn write<E: Encode>(&mut self, to: &mut E, out: &mut Message<'_>, window: Window) {
        if self.is_none {
            return to.none(out);
        }
        let items = self.items_in(window);
        let salt = self.salt.filter(|_| window.start == 0);
        let count = usize::from(self.lora.is_some())
            + self.overlapping(items.clone(), window).count()
            + usize::from(salt.is_some())
            + usize::from(self.embeds.is_some());
        if count == 0 {
            to.none(out);
        } else {
            to.open_tuple(out, count);
            self.write_keys(to, out, window, items, salt);
            to.close_tuple(out, count);
        }
        self.pass(window);
    }

    fn write_keys<E: Encode>(
        &self,
        to: &mut E,
        out: &mut Message<'_>,
        window: Window,
        items: std::ops::Range<usize>,
        salt: Option<&str>,
    ) {
        let Rules { lora, offsets, tagged, embeds, .. } = self.rules;
        if let Some(adapter) = self.lora {
            match lora {
                LoraKey::IntId => to.int(out, adapter.int_id),
                LoraKey::Name => to.text(out, adapter.name),
                LoraKey::NameAndPath => {
                    to.open_tuple(out, 3);
                    to.tag(out, "lora");
                    to.text(out, adapter.name);
                    to.text(out, adapter.path);
                    to.close_tuple(out, 3);
                }
            }
        }
        for item in self.overlapping(items, window) {
            let len = usize::from(tagged) + 1 + usize::from(offsets);
            if len > 1 {
                to.open_tuple(out, len);
            }
            if tagged {
                to.tag(out, MM);
            }
            to.text(out, item.identifier);
            if offsets {
                to.int(out, i64::from(item.offset) - window.start as i64);
            }
            if len > 1 {
                to.close_tuple(out, len);
            }
        }
        if let Some(salt) = salt {
            if tagged {
                to.open_tuple(out, 2);
                to.tag(out, "cache_salt");
            }
            to.text(out, salt);
            if tagged {
                to.close_tuple(out, 2);
            }
        }
        if let Some(tensor) = self.embeds {
            if tagged {
                to.open_tuple(out, 2);
                to.tag(out, "prompt_embeds");
            }
            let rows = rows(&tensor, window);
            match embeds {
                EmbedsKey::Raw => to.bytes(out, rows),
                EmbedsKey::Sha256 | EmbedsKey::Unsupported => to.bytes(out, &sha256::of(rows)),
            }
            if tagged {
                to.close_tuple(out, 2);
            }
        }
    }

    /// The items that the engine looks at for this block. It walks them in order and stops at
    /// the first that reaches beyond the window, so of items that lie within each other it
    /// sees only the outer one.
    fn items_in(&self, window: Window) -> std::ops::Range<usize> {
        let done = self.items.last().is_none_or(|last| self.is_past(last, window.start));
        if done {
            return self.item..self.item;
        }
        let mut to = self.item;
        while let Some(item) =
            self.items.get(to).filter(|i| (i.offset as usize) < window.window_end)
        {
            to += 1;
            if end(item) > window.window_end {
                break;
            }
        }
        self.item..to
    }

    fn overlapping(
        &self,
        items: std::ops::Range<usize>,
        window: Window,
    ) -> impl Iterator<Item = &'a MultimodalSpan<'a>> {
        self.items[items].iter().filter(move |i| !self.is_past(i, window.start))
    }

    fn is_past(&self, item: &MultimodalSpan<'_>, start: usize) -> bool {
        if self.rules.touching_items { end(item) < start } else { end(item) <= start }
    }

    /// Moves on behind the block: items that ended within the window are done with, but for
    /// those that the lookahead alone has seen the end of.
    fn pass(&mut self, window: Window) {
        while let Some(item) = self.items.get(self.item)
            && (item.offset as usize) < window.window_end
            && end(item) <= window.window_end
        {
            self.item += 1;
        }
        while self.item > 0 && end(&self.items[self.item - 1]) > window.end {
            self.item -= 1;
        }
    }
}

/// The keys of a block in one unambiguous form, whatever engine they are from: the bytes
/// that the content scheme hashes. Canonical CBOR, as vLLM 0.31 tags them, but with the
/// adapter's name alone and in the first block only, because the chain carries it on.
#[derive(Debug)]
pub(crate) struct CanonicalKeys<'a>(ExtraKeys<'a>);

impl<'a> CanonicalKeys<'a> {
    pub(crate) fn of_prompt(extras: &Extras<'a>, start: usize) -> Result<Self, HashError> {
        ExtraKeys::new(Rules::CANONICAL, extras, start, 0).map(Self)
    }

    /// The most bytes that [`write`](Self::write) needs.
    pub(crate) fn bound(&self) -> usize {
        self.0.bound(0)
    }

    /// Writes the keys of the next block to the front of `buffer` and tells how many bytes
    /// they take: none for a block without.
    pub(crate) fn write(&mut self, buffer: &mut [u8], window: Window) -> usize {
        if window.start > 0 {
            self.0.lora = None;
        }
        let mut out = Message::new(buffer);
        self.0.write(&mut Cbor, &mut out, window);
        // A lone null.
        if out.len() == 1 { 0 } else { out.len() }
    }
}

/// The rows of the window's tokens; fewer, or none, past the tensor's end.
fn rows<'a>(tensor: &PromptEmbeds<'a>, window: Window) -> &'a [u8] {
    let at = |row: usize| row.saturating_mul(tensor.row_bytes).min(tensor.bytes.len());
    &tensor.bytes[at(window.start)..at(window.window_end)]
}
