use crate::memory::{Str, optional, required_text, slice, text};
use crate::status::{Failure, Status};
use kvsched::{Lora, MultimodalSpan, Prompt, PromptEmbeds};

/// What makes two equal token sequences different KV. All zero: nothing.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Extras {
    /// The LoRA adapter's name; NULL without one.
    pub lora_name: Str,
    /// The adapter's path, exactly as the engine was given it; NULL counts as empty.
    pub lora_path: Str,
    /// The engine's number for the adapter.
    pub lora_int_id: i64,
    /// The request's cache salt; NULL without one.
    pub cache_salt: Str,
    /// Multimodal items, in order of their offset.
    pub multimodal: *const Multimodal,
    /// How many.
    pub multimodal_len: usize,
    /// Prompt embeddings: the raw little-endian tensor, row by row; NULL without them.
    pub embeds: *const u8,
    /// Bytes of the tensor.
    pub embeds_len: usize,
    /// Bytes of one row; not 0 where there are embeddings.
    pub embeds_row: usize,
}

/// One multimodal item within the prompt.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Multimodal {
    /// The item's content hash, or the identifier its user gave it.
    pub identifier: Str,
    /// Its first token's position in the prompt.
    pub offset: u32,
    /// How many tokens it takes.
    pub length: u32,
}

/// Calls `f` with the caller's prompt. Allocates only for multimodal items.
///
/// # Safety
///
/// `extras` is NULL or readable, and so is what it points to.
pub(crate) unsafe fn with_prompt<R>(
    tokens: &[u32],
    extras: *const Extras,
    f: impl FnOnce(&Prompt<'_>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    // SAFETY: the caller's promise.
    let extras = unsafe { optional("extras", extras) }?;
    let Some(extras) = extras else {
        return f(&Prompt::new(tokens));
    };
    // SAFETY: the caller's promise.
    let (name, path, salt, items, embeds) = unsafe {
        (
            text("lora_name", extras.lora_name)?,
            text("lora_path", extras.lora_path)?,
            text("cache_salt", extras.cache_salt)?,
            slice("multimodal", extras.multimodal, extras.multimodal_len)?,
            slice("embeds", extras.embeds, extras.embeds_len)?,
        )
    };
    if !extras.embeds.is_null() && extras.embeds_row == 0 {
        return Err(Failure::new(Status::InvalidArgument, "`embeds_row` is 0"));
    }
    let span = |item: &Multimodal| {
        // SAFETY: the caller's promise.
        let identifier = unsafe { required_text("multimodal.identifier", item.identifier) }?;
        Ok(MultimodalSpan { identifier, offset: item.offset, length: item.length })
    };
    let multimodal = items.iter().map(span).collect::<Result<Vec<_>, Failure>>()?;
    let int_id = extras.lora_int_id;
    f(&Prompt {
        tokens,
        extras: kvsched::Extras {
            lora: name.map(|name| Lora { name, path: path.unwrap_or_default(), int_id }),
            multimodal: &multimodal,
            cache_salt: salt,
            embeds: (!extras.embeds.is_null())
                .then_some(PromptEmbeds { bytes: embeds, row_bytes: extras.embeds_row }),
        },
    })
}
