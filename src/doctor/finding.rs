use kvsched_core::TokenId;
use kvsched_hash::Mismatch;
use std::fmt;

/// Something that keeps prompts from finding the blocks an engine holds, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The engine hashes by another scheme than we: algorithm, seed or version.
    Scheme {
        /// What we compute.
        configured: String,
        /// What explains all the engine announced.
        engine: String,
    },
    /// No scheme that was tried explains what the engine announces.
    UnknownScheme {
        /// What we compute.
        configured: String,
        /// How many schemes were tried.
        tried: usize,
        /// The first block that differs.
        mismatch: Mismatch,
    },
    /// The engine's blocks are of another size.
    BlockSize {
        /// Tokens a block, as we count.
        configured: usize,
        /// Tokens a block that the engine hashes.
        engine: usize,
    },
    /// What the engine announces was as computed, and is no more.
    Diverged {
        /// How many announcements were right.
        verified: u64,
        /// The first block that differs.
        mismatch: Mismatch,
    },
    /// The engine knows an adapter under another path.
    LoraPath {
        /// The adapter.
        adapter: String,
        /// Its path in our prompts.
        configured: String,
        /// The path that gives the announced hashes, if one that was tried does.
        engine: Option<String>,
        /// The first block that differs.
        block: usize,
    },
    /// The engine ran the prompt with another adapter, or one of us with none.
    LoraName {
        /// The adapter of our prompt.
        configured: Option<String>,
        /// The engine's.
        engine: Option<String>,
        /// The first block that differs.
        block: usize,
    },
    /// The engine hashes the prompt with another cache salt, or one of us with none.
    Salt {
        /// The salt of our prompt.
        configured: Option<String>,
        /// The engine's.
        engine: Option<String>,
    },
    /// The engine's prompt has other tokens: another chat template or tokenizer.
    Tokens {
        /// The first token that differs.
        at: usize,
        /// Our tokens from there, at most 8.
        configured: Vec<TokenId>,
        /// The engine's.
        engine: Vec<TokenId>,
        /// How many tokens the engine has in front of ours, or we of the engine's (negative),
        /// where that is the whole difference.
        shift: isize,
    },
    /// Tokens are the same, and so are the keys that events tell, but not the hashes.
    Keys {
        /// The first block that differs.
        block: usize,
    },
    /// Messages come under another topic than was subscribed to.
    Topic {
        /// What was subscribed to.
        subscribed: String,
        /// What came.
        heard: String,
    },
    /// The engine reports hits, and none of its events has come.
    Unheard {
        /// How many requests had hits.
        requests: u64,
    },
    /// Everything announced goes on from blocks that were never announced: the beginning was
    /// missed.
    NoRoot {
        /// How many stores there were.
        stores: u64,
    },
    /// The engine often serves more from its cache than was predicted, and no cause is known.
    Missed {
        /// How many requests.
        requests: u64,
        /// Of how many.
        of: u64,
        /// Tokens that were not predicted.
        tokens: u64,
    },
    /// The engine often serves less from its cache than was predicted.
    Overestimated {
        /// How many requests.
        requests: u64,
        /// Of how many.
        of: u64,
        /// Tokens that were predicted and not there.
        tokens: u64,
    },
}

impl Finding {
    /// Whether announced hashes are of no use with the configured scheme, so that the endpoint's
    /// blocks should be named by their content.
    #[must_use]
    pub const fn breaks_the_scheme(&self) -> bool {
        matches!(
            self,
            Self::Scheme { .. }
                | Self::UnknownScheme { .. }
                | Self::BlockSize { .. }
                | Self::Diverged { .. }
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme { configured, engine } => write!(
                f,
                "the engine hashes as {engine}, configured is {configured}: configure the former"
            ),
            Self::UnknownScheme { configured, tried, mismatch } => write!(
                f,
                "{mismatch}, of {tried} tried (configured is {configured}): the engine has another \
                 seed. Set PYTHONHASHSEED of the engine to the configured one, or vLLM before 0.29 \
                 draws it at random"
            ),
            Self::BlockSize { configured, engine } => {
                write!(f, "block size {engine}, configured {configured}: configure {engine}")
            }
            Self::Diverged { verified, mismatch } => write!(
                f,
                "after {verified} right announcements {mismatch}: the engine was replaced by another \
                 version or with other settings; restart its stream"
            ),
            Self::LoraPath { adapter, configured, engine, block } => {
                write!(
                    f,
                    "announced hashes differ from ours from block {block}: LoRA path of `{adapter}` \
                     is `{configured}` here, "
                )?;
                match engine {
                    Some(engine) => write!(f, "`{engine}` in the engine: give prompts the latter"),
                    None => f.write_str(
                        "another in the engine: give prompts the path that the engine loaded it from",
                    ),
                }
            }
            Self::LoraName { configured, engine, block } => write!(
                f,
                "announced hashes differ from ours from block {block}: LoRA adapter {} here, {} in \
                 the engine: give prompts the engine's",
                named(configured),
                named(engine)
            ),
            Self::Salt { configured, engine } => write!(
                f,
                "announced hashes differ from ours from block 0: cache salt {} here, {} in the \
                 engine: pass on the request's `cache_salt`, in both places or in none",
                named(configured),
                named(engine)
            ),
            Self::Tokens { at, configured, engine, shift } => {
                write!(
                    f,
                    "tokens differ from token {at}: {configured:?} here, {engine:?} in the engine"
                )?;
                match shift {
                    0 => f.write_str(
                        ": render prompts with the engine's chat template and tokenizer",
                    ),
                    1.. => write!(
                        f,
                        ", which has {shift} more in front: render prompts with the engine's chat \
                         template and its begin of text"
                    ),
                    _ => write!(
                        f,
                        ", which has {} fewer in front: the begin of text is added twice here, or by \
                         the wrong template",
                        -shift
                    ),
                }
            }
            Self::Keys { block } => write!(
                f,
                "announced hashes differ from ours from block {block} though tokens, adapter and \
                 salt are the same: give prompts their multimodal items and embeddings"
            ),
            Self::Topic { subscribed, heard } => write!(
                f,
                "messages come under topic `{heard}`, subscribed to is `{subscribed}`: make the \
                 subscription a beginning of the engine's `--kv-events-config` topic"
            ),
            Self::Unheard { requests } => write!(
                f,
                "{requests} requests had hits and no event has come: check that the engine has \
                 `enable_kv_cache_events`, the address, and that the subscription is a beginning of \
                 its topic"
            ),
            Self::NoRoot { stores } => write!(
                f,
                "none of {stores} announcements begins a prompt: ask for a replay from 0, or clear \
                 the engine's cache"
            ),
            Self::Missed { requests, of, tokens } => write!(
                f,
                "{requests} of {of} requests hit {tokens} tokens more than predicted: events were \
                 lost, or prompts are not those the engine gets"
            ),
            Self::Overestimated { requests, of, tokens } => write!(
                f,
                "{requests} of {of} requests hit {tokens} tokens less than predicted: events of \
                 removals were lost"
            ),
        }
    }
}

fn named(name: &Option<String>) -> String {
    name.as_ref().map_or_else(|| "none".to_owned(), |name| format!("`{name}`"))
}
