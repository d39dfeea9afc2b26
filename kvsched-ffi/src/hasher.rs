use crate::boundary::boundary;
use crate::handle::{self, Kind};
use crate::memory::{Out, OutSlice, Str, hand_over, required_text, slice, text};
use crate::prompt::{Extras, with_prompt};
use crate::status::{Error, Failure, Status};
use kvsched::{Algorithm, BlockHasher, Scheme, VllmVersion};

/// How an engine names its blocks. Immutable: any number of threads may use one at a time.
#[derive(Debug)]
pub struct Hasher(());

impl Kind for Hasher {
    const MAGIC: u64 = u64::from_le_bytes(*b"kvshash1");
    type State = BlockHasher;
}

/// A hasher that reproduces vLLM's own block hashes.
///
/// `version` is the engine's ("0.33.0"), `algorithm` its `--prefix-caching-hash-algo` ("sha256"),
/// `seed` its `PYTHONHASHSEED`, NULL where that is unset. `block_size` is the engine's, in tokens.
/// The handle in `out` is the caller's to free with `kvsched_hasher_free`.
///
/// Fails with `SCHEME` if these hashes cannot be reproduced, `INVALID_ARGUMENT` for a block size
/// out of range.
///
/// # Safety
///
/// Texts are readable, `out` and `error` (unless NULL) writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_hasher_new_vllm(
    version: Str,
    algorithm: Str,
    seed: Str,
    block_size: usize,
    out: *mut *mut Hasher,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (version, algorithm, seed, out) = unsafe {
            (
                required_text("version", version)?,
                required_text("algorithm", algorithm)?,
                text("seed", seed)?,
                Out::new("out", out)?,
            )
        };
        let version: VllmVersion = version.parse().map_err(Failure::of(Status::Scheme))?;
        let algorithm: Algorithm = algorithm.parse().map_err(Failure::of(Status::Scheme))?;
        let scheme = Scheme::vllm(version, algorithm, seed).map_err(Failure::of(Status::Scheme))?;
        build(scheme, block_size, out)
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// A hasher of kvsched's own content scheme, for engines whose hashes cannot be computed or need not
/// be: a scheduler names their blocks by the tokens that their events carry. Several times faster
/// than an engine's hashes. `secret` are bytes that tenants do not know, 16 or more of them; all
/// replicas that exchange hashes share them.
///
/// Fails with `SCHEME` for a name or secret of more than 4096 bytes, `INVALID_ARGUMENT` for a
/// block size out of range.
///
/// # Safety
///
/// `model` and `secret_len` bytes at `secret` are readable, `out` and `error` (unless NULL)
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_hasher_new_content(
    model: Str,
    secret: *const u8,
    secret_len: usize,
    block_size: usize,
    out: *mut *mut Hasher,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (model, secret, out) = unsafe {
            (
                required_text("model", model)?,
                slice("secret", secret, secret_len)?,
                Out::new("out", out)?,
            )
        };
        let scheme = Scheme::content(model, secret).map_err(Failure::of(Status::Scheme))?;
        build(scheme, block_size, out)
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

fn build(scheme: Scheme, block_size: usize, out: Out<*mut Hasher>) -> Result<(), Failure> {
    let hasher = BlockHasher::builder(scheme).block_size(block_size).build();
    handle::create(hasher.map_err(Failure::of(Status::InvalidArgument))?, out);
    Ok(())
}

/// The hashes of all full blocks of a prompt, in order. `len` becomes how many there are, also
/// where `hashes_cap` is too small for them (`BUFFER_TOO_SMALL`, nothing else is written). A
/// prompt of `n` tokens has at most `n / block_size` of them.
///
/// `extras` may be NULL. Any number of threads may use one hasher at a time. O(tokens).
///
/// # Safety
///
/// The arrays are as long as said; `len` and `error` (unless NULL) are writable; outputs do not
/// overlap inputs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_hasher_hash(
    hasher: *const Hasher,
    tokens: *const u32,
    tokens_len: usize,
    extras: *const Extras,
    hashes: *mut u64,
    hashes_cap: usize,
    len: *mut usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (hasher, tokens, hashes, len) = unsafe {
            (
                handle::borrow("hasher", hasher)?,
                slice("tokens", tokens, tokens_len)?,
                OutSlice::new("hashes", hashes, hashes_cap)?,
                Out::new("len", len)?,
            )
        };
        let mut found = Vec::new();
        // SAFETY: the caller's promise.
        unsafe {
            with_prompt(tokens, extras, |prompt| {
                hasher.hash_into(prompt, &mut found).map_err(Failure::of(Status::Prompt))
            })
        }?;
        hand_over("hashes", found.iter().map(|hash| hash.0), hashes, len)
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Stand-ins for the tokens of a text, where no tokenizer is at hand: each is three of its bytes. For
/// content hashers and schedulers with a history, which recognise prompts by their beginnings; engines'
/// events are of real tokens. `len` is also written where `tokens_cap` is too small
/// (`BUFFER_TOO_SMALL`).
///
/// # Safety
///
/// `text` is readable, `tokens` has room for `tokens_cap` tokens, `len` and `error` (unless NULL) are
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_text_tokens(
    text: Str,
    tokens: *mut u32,
    tokens_cap: usize,
    len: *mut usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (text, tokens, len) = unsafe {
            (
                required_text("text", text)?,
                OutSlice::new("tokens", tokens, tokens_cap)?,
                Out::new("len", len)?,
            )
        };
        let mut found = Vec::new();
        kvsched::hash::stand_in_tokens([text], &mut found);
        hand_over("tokens", found.into_iter(), tokens, len)
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Frees a hasher and sets `*hasher` to NULL. NULL, or a pointer to NULL, is passed over.
/// Schedulers made with it keep what they need.
///
/// # Safety
///
/// `*hasher` is NULL or a handle that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_hasher_free(hasher: *mut *mut Hasher) -> Status {
    // SAFETY: the caller's promise.
    unsafe { boundary(std::ptr::null_mut(), || handle::free("hasher", hasher)) }
}
