//! What enters a block's hash besides its tokens, in the engine's order.

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

/// Where a message's extra keys come from.
pub(crate) trait Keys {
    /// Whether no block has any.
    fn is_none(&self) -> bool;
    /// The most bytes that [`write`](Self::write) puts for a block of `window` tokens.
    fn bound(&self, window: usize) -> usize;
    /// Writes the keys of the next block: nothing at all, or a tuple.
    fn write<E: Encode>(&mut self, to: &mut E, out: &mut Message<'_>, window: Window);
    /// Leaves the adapter out from here on.
    fn forget_lora(&mut self);
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

    fn write_keys<E: Encode>(
        &self,
        to: &mut E,
        out: &mut Message<'_>,
        window: Window,
        items: std::ops::Range<usize>,
        salt: Option<&str>,
    ) {
        let rules = &self.rules;
        if let Some(adapter) = self.lora {
            rules.put_lora(to, out, &adapter);
        }
        for item in self.overlapping(items, window) {
            let offset = i64::from(item.offset) - window.start as i64;
            rules.put_item(to, out, item.identifier, offset);
        }
        if let Some(salt) = salt {
            rules.put_salt(to, out, salt);
        }
        if let Some(tensor) = self.embeds {
            let rows = rows(&tensor, window);
            match rules.embeds {
                EmbedsKey::Raw => rules.put_embeds(to, out, rows),
                EmbedsKey::Sha256 | EmbedsKey::Unsupported => {
                    rules.put_embeds(to, out, &sha256::of(rows));
                }
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

impl Keys for ExtraKeys<'_> {
    fn is_none(&self) -> bool {
        self.is_none
    }

    fn bound(&self, window: usize) -> usize {
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

    #[inline]
    fn write<E: Encode>(&mut self, to: &mut E, out: &mut Message<'_>, window: Window) {
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

    fn forget_lora(&mut self) {
        self.lora = None;
    }
}

impl Rules {
    pub(super) fn put_lora<E: Encode>(&self, to: &mut E, out: &mut Message<'_>, lora: &Lora<'_>) {
        match self.lora {
            LoraKey::IntId => to.int(out, lora.int_id),
            LoraKey::Name => to.text(out, lora.name),
            LoraKey::NameAndPath => {
                to.open_tuple(out, 3);
                to.tag(out, "lora");
                to.text(out, lora.name);
                to.text(out, lora.path);
                to.close_tuple(out, 3);
            }
        }
    }

    /// `offset` is relative to the block.
    pub(super) fn put_item<E: Encode>(
        &self,
        to: &mut E,
        out: &mut Message<'_>,
        identifier: &str,
        offset: i64,
    ) {
        let len = usize::from(self.tagged) + 1 + usize::from(self.offsets);
        if len > 1 {
            to.open_tuple(out, len);
        }
        if self.tagged {
            to.tag(out, MM);
        }
        to.text(out, identifier);
        if self.offsets {
            to.int(out, offset);
        }
        if len > 1 {
            to.close_tuple(out, len);
        }
    }

    pub(super) fn put_salt<E: Encode>(&self, to: &mut E, out: &mut Message<'_>, salt: &str) {
        self.tagged(to, out, "cache_salt", |to, out| to.text(out, salt));
    }

    pub(super) fn put_embeds<E: Encode>(&self, to: &mut E, out: &mut Message<'_>, bytes: &[u8]) {
        self.tagged(to, out, "prompt_embeds", |to, out| to.bytes(out, bytes));
    }

    fn tagged<E: Encode>(
        &self,
        to: &mut E,
        out: &mut Message<'_>,
        tag: &'static str,
        value: impl FnOnce(&mut E, &mut Message<'_>),
    ) {
        if self.tagged {
            to.open_tuple(out, 2);
            to.tag(out, tag);
        }
        value(to, out);
        if self.tagged {
            to.close_tuple(out, 2);
        }
    }
}

/// The rows of the window's tokens; fewer, or none, past the tensor's end.
fn rows<'a>(tensor: &PromptEmbeds<'a>, window: Window) -> &'a [u8] {
    let at = |row: usize| row.saturating_mul(tensor.row_bytes).min(tensor.bytes.len());
    &tensor.bytes[at(window.start)..at(window.window_end)]
}
