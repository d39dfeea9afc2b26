//! The frames around a payload: topics, sequence numbers, replays.

/// What a topic of the form `kv@endpoint@model` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic<'a> {
    /// The endpoint, as whoever configured the engine named it.
    pub endpoint: &'a str,
    /// The model; it may hold further `@`.
    pub model: &'a str,
}

impl<'a> Topic<'a> {
    /// Reads llm-d's form of topic, `kv@endpoint@model`; `None` for any other.
    ///
    /// ```
    /// use kvsched_index::events::Topic;
    /// let topic = Topic::parse("kv@10.0.0.7:8000@meta-llama/Llama-3.1-8B").expect("of that form");
    /// assert_eq!((topic.endpoint, topic.model), ("10.0.0.7:8000", "meta-llama/Llama-3.1-8B"));
    /// assert_eq!(Topic::parse("kv-events"), None);
    /// ```
    #[must_use]
    pub fn parse(topic: &'a str) -> Option<Self> {
        let (endpoint, model) = topic.strip_prefix("kv@")?.split_once('@')?;
        (!endpoint.is_empty() && !model.is_empty()).then_some(Self { endpoint, model })
    }
}

/// One message that answers a replay request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayMessage<'a> {
    /// A batch that was published before.
    Batch {
        /// Its sequence number.
        sequence: u64,
        /// Its payload.
        payload: &'a [u8],
    },
    /// There are no more.
    End,
}

/// By this number engines end a replay; no batch has it.
pub(super) const END: u64 = u64::MAX;

impl<'a> ReplayMessage<'a> {
    /// The message of that number: a batch, or with `u64::MAX`, by which engines end a replay, the
    /// end.
    ///
    /// ```
    /// use kvsched_index::events::ReplayMessage;
    /// let batch = ReplayMessage::Batch { sequence: 5, payload: b"payload" };
    /// assert_eq!(ReplayMessage::numbered(5, b"payload"), batch);
    /// assert_eq!(ReplayMessage::numbered(u64::MAX, b""), ReplayMessage::End);
    /// ```
    #[must_use]
    pub const fn numbered(sequence: u64, payload: &'a [u8]) -> Self {
        match sequence {
            END => Self::End,
            sequence => Self::Batch { sequence, payload },
        }
    }
}

/// Frames that are no answer to a replay request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// There must be a sequence number and a payload.
    #[error("{frames} frames; a message has 2 at least")]
    TooFew {
        /// How many there are.
        frames: usize,
    },
    /// A sequence number has eight bytes.
    #[error("a sequence number of {bytes} bytes, not 8")]
    Sequence {
        /// How many it has.
        bytes: usize,
    },
}

/// Reads a published or a replayed message from its back, where every vLLM and SGLang has the
/// sequence number and the payload: what stands before (identity, delimiter, topic since
/// vLLM 0.26) differs by version and by socket type.
///
/// ```
/// use kvsched_index::events::{ReplayMessage, replay_message};
/// let seq = 5u64.to_be_bytes();
/// let old = replay_message(&[b"", &seq, b"payload"])?;
/// let new = replay_message(&[b"", b"topic", &seq, b"payload"])?;
/// assert_eq!(old, ReplayMessage::Batch { sequence: 5, payload: b"payload" });
/// assert_eq!(old, new);
/// assert_eq!(replay_message(&[b"", &[0xff; 8], b""])?, ReplayMessage::End);
/// # Ok::<(), kvsched_index::events::FrameError>(())
/// ```
///
/// # Errors
///
/// If the frames are not of this form.
pub fn replay_message<'a>(frames: &[&'a [u8]]) -> Result<ReplayMessage<'a>, FrameError> {
    let [.., sequence, payload] = frames else {
        return Err(FrameError::TooFew { frames: frames.len() });
    };
    let bytes = FrameError::Sequence { bytes: sequence.len() };
    let sequence = u64::from_be_bytes((*sequence).try_into().map_err(|_| bytes)?);
    Ok(ReplayMessage::numbered(sequence, payload))
}

/// The frames that ask a ROUTER socket for a replay from `sequence` on, as a DEALER sends them;
/// a REQ socket sends the second alone and sees only the first answer.
#[must_use]
pub fn replay_request(sequence: u64) -> [Vec<u8>; 2] {
    [Vec::new(), sequence.to_be_bytes().to_vec()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_of_llm_ds_form_or_of_none() {
        let parts = |topic| Topic::parse(topic).map(|t| (t.endpoint, t.model));
        assert_eq!(parts("kv@pod-1@org/model@rev"), Some(("pod-1", "org/model@rev")));
        assert_eq!(parts("kv@[::1]:8000@m"), Some(("[::1]:8000", "m")));
        for topic in ["", "kv@", "kv@pod", "kv@pod@", "kv@@model", "KV@pod@model", "kv-pod@model"] {
            assert_eq!(parts(topic), None, "{topic}");
        }
    }

    #[test]
    fn a_request_reads_as_its_sequence() {
        assert_eq!(replay_request(258), [vec![], vec![0, 0, 0, 0, 0, 0, 1, 2]]);
    }
}
