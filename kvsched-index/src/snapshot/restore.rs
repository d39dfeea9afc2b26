use super::{MAGIC, RECORD, SECTION, SECTION_HEAD, VERSION, checksum};
use crate::{GroupError, GroupRule, Holder, Holdings, Repeat, StoreError};
use kvsched_core::{BlockHash, EndpointId, EngineHash, Group, Tier};

/// Most blocks that a snapshot is taken at its word for, before they come: 75 MB of room.
const EXPECTED: usize = 1 << 22;

/// Builds an index from a snapshot's bytes, handed over in pieces of any size.
///
/// It takes an empty index and gives it back filled: bytes that turn out to be wrong cost that
/// index, never one in use. Keeps at most one section of 128 KiB besides.
///
/// ```
/// use kvsched_core::{BlockHash, EndpointId};
/// use kvsched_index::{Holder, Index, Repeat, SnapshotReader};
///
/// let mut index = Index::builder().build()?;
/// let device = Holder::device(EndpointId(0));
/// index.store(device, None, &[1, 2].map(BlockHash), Repeat::Known)?;
///
/// let mut reader = SnapshotReader::new(Index::builder().build()?);
/// let mut read = Ok(());
/// index.write_snapshot(b"pod-a", |piece| {
///     if read.is_ok() {
///         read = reader.push(piece);
///     }
/// });
/// read?;
/// let restored = reader.finish()?;
/// assert_eq!(restored.note, b"pod-a");
/// assert!(restored.index.holds(device, BlockHash(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SnapshotReader<H> {
    index: H,
    note: Vec<u8>,
    /// What came and is not yet a whole section.
    waiting: Vec<u8>,
    sections: u64,
    /// Where `waiting` begins in the snapshot.
    offset: u64,
    state: State,
    run: Run,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Begin,
    Head,
    Sections,
    End,
}

/// The blocks that names and holders speak of.
#[derive(Debug, Default)]
struct Run {
    parent: Option<BlockHash>,
    hashes: Vec<BlockHash>,
    names: Vec<(u16, EngineHash)>,
    /// Who holds them, of blocks in no order.
    loose: Option<Holder>,
}

/// What a snapshot held.
#[derive(Debug)]
#[non_exhaustive]
pub struct Restored<H> {
    /// The index, filled.
    pub index: H,
    /// What the writer wrote down besides.
    pub note: Vec<u8>,
}

/// Why bytes are not a snapshot, or not one for this index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// They begin as no snapshot does.
    #[error("not a kvsched snapshot")]
    Foreign,
    /// A later kvsched wrote it.
    #[error("snapshot version {version}; this kvsched reads version {VERSION}")]
    Version {
        /// The version.
        version: u32,
    },
    /// The index counts in other blocks.
    #[error("a snapshot of blocks of {snapshot} tokens for an index of blocks of {index}")]
    BlockSize {
        /// Tokens a block of the snapshot.
        snapshot: u32,
        /// Tokens a block of the index.
        index: u32,
    },
    /// Bytes have changed since they were written.
    #[error("byte {offset}: the section does not have the checksum it was written with")]
    Checksum {
        /// Where the section begins.
        offset: u64,
    },
    /// Bytes that nobody wrote so.
    #[error("byte {offset}: a malformed section")]
    Malformed {
        /// Where the section begins.
        offset: u64,
    },
    /// There must be more.
    #[error("the snapshot ends at byte {offset}, before its end")]
    Truncated {
        /// Where it ends.
        offset: u64,
    },
    /// There must not be more.
    #[error("byte {offset}: something follows the end")]
    Trailing {
        /// Where the snapshot ends.
        offset: u64,
    },
    /// The index refused a group's rule.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The index refused blocks.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a body was refused: an error, or it is malformed.
struct Refused(Option<SnapshotError>);

impl<E: Into<SnapshotError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(Some(error.into()))
    }
}

const MALFORMED: Refused = Refused(None);

/// What is left of a body.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn bytes(&mut self, n: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(MALFORMED)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        self.bytes(N)?.try_into().map_err(|_| MALFORMED)
    }

    fn u8(&mut self) -> Result<u8, Refused> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, Refused> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Refused> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Refused> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn hashes(&mut self, out: &mut Vec<BlockHash>) -> Result<(), Refused> {
        let n = usize::from(self.u16()?);
        let words = self.bytes(8 * n)?.as_chunks().0;
        out.clear();
        out.extend(words.iter().map(|w| BlockHash(u64::from_le_bytes(*w))));
        Ok(())
    }

    fn holder(&mut self) -> Result<Holder, Refused> {
        let endpoint = EndpointId(self.u16()?);
        let tier = Tier::new(self.u8()?).ok_or(MALFORMED)?;
        Ok(Holder { endpoint, tier, group: Group(self.u8()?) })
    }
}

impl<H: Holdings> SnapshotReader<H> {
    /// Fills `index`, which holds nothing yet. It may be a reference to a
    /// [`SharedIndex`](crate::SharedIndex) that nobody asks yet.
    #[must_use]
    pub fn new(index: H) -> Self {
        Self {
            index,
            note: Vec::new(),
            waiting: Vec::new(),
            sections: 0,
            offset: 0,
            state: State::Begin,
            run: Run::default(),
        }
    }

    /// The next bytes.
    ///
    /// # Errors
    ///
    /// If they are not, or no longer, what a snapshot has there. The reader is of no further use
    /// then.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), SnapshotError> {
        while !bytes.is_empty() {
            let needed = self.needed()?;
            let (piece, rest) = bytes.split_at(bytes.len().min(needed - self.waiting.len()));
            self.waiting.extend(piece);
            bytes = rest;
            // The length is only known once the head is there.
            if self.waiting.len() == self.needed()? {
                let section = std::mem::take(&mut self.waiting);
                self.section(&section)?;
                self.offset += section.len() as u64;
                self.waiting = section;
                self.waiting.clear();
            }
        }
        Ok(())
    }

    /// The index, once all bytes have been pushed.
    ///
    /// # Errors
    ///
    /// If some are missing.
    pub fn finish(self) -> Result<Restored<H>, SnapshotError> {
        let offset = self.offset + self.waiting.len() as u64;
        match self.state {
            State::End => Ok(Restored { index: self.index, note: self.note }),
            _ => Err(SnapshotError::Truncated { offset }),
        }
    }

    /// How many bytes the part that `waiting` begins takes.
    fn needed(&self) -> Result<usize, SnapshotError> {
        match self.state {
            State::Begin => Ok(MAGIC.len() + 4),
            State::End => Err(SnapshotError::Trailing { offset: self.offset }),
            State::Head | State::Sections => {
                let Some(len) = self.waiting.get(1..5) else { return Ok(SECTION_HEAD) };
                let len = len.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b));
                if len > SECTION + RECORD {
                    return Err(SnapshotError::Malformed { offset: self.offset });
                }
                Ok(SECTION_HEAD + len)
            }
        }
    }

    fn section(&mut self, section: &[u8]) -> Result<(), SnapshotError> {
        if self.state == State::Begin {
            let version = section.strip_prefix(MAGIC).ok_or(SnapshotError::Foreign)?;
            let version = version.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b));
            if version != VERSION {
                return Err(SnapshotError::Version { version });
            }
            self.state = State::Head;
            return Ok(());
        }
        let (head, body) = section.split_at(SECTION_HEAD);
        let kind = head[0];
        if head[5..] != checksum(kind, body).to_le_bytes() {
            return Err(SnapshotError::Checksum { offset: self.offset });
        }
        let offset = self.offset;
        let read = self.body(kind, Body(body));
        self.sections += 1;
        read.map_err(|Refused(error)| error.unwrap_or(SnapshotError::Malformed { offset }))
    }

    fn body(&mut self, kind: u8, mut body: Body<'_>) -> Result<(), Refused> {
        match (self.state, kind) {
            (State::Head, b'H') => {
                let (snapshot, index) = (body.u32()?, self.index.block_size());
                if snapshot != index {
                    return Err(SnapshotError::BlockSize { snapshot, index }.into());
                }
                let blocks = usize::try_from(body.u64()?).unwrap_or(usize::MAX);
                self.index.expect(blocks.min(EXPECTED));
                self.state = State::Sections;
            }
            (State::Sections, b'O') => self.note.extend(std::mem::take(&mut body.0)),
            (State::Sections, b'G') => {
                while !body.0.is_empty() {
                    self.group(&mut body)?;
                }
            }
            (State::Sections, b'R') => {
                while !body.0.is_empty() {
                    self.record(&mut body)?;
                }
            }
            (State::Sections, b'C') => {
                while !body.0.is_empty() {
                    let holder = body.holder()?;
                    let (hash, copies) = (BlockHash(body.u64()?), body.u8()?);
                    if !self.index.holds(holder, hash) {
                        return Err(MALFORMED);
                    }
                    for _ in 0..copies {
                        self.index.store(holder, None, &[hash], Repeat::Copy)?;
                    }
                }
            }
            (State::Sections, b'E') => {
                if body.u64()? != self.sections {
                    return Err(MALFORMED);
                }
                self.state = State::End;
            }
            _ => return Err(MALFORMED),
        }
        if body.0.is_empty() { Ok(()) } else { Err(MALFORMED) }
    }

    fn group(&mut self, body: &mut Body<'_>) -> Result<(), Refused> {
        let endpoint = EndpointId(body.u16()?);
        let group = Group(body.u8()?);
        let (rule, tokens, block_size) = (body.u8()?, body.u32()?, body.u32()?);
        let rule = match rule {
            0 => GroupRule::Full,
            1 => GroupRule::SlidingWindow { tokens },
            2 => GroupRule::ChunkedLocal { tokens },
            3 => GroupRule::Recurrent,
            4 => GroupRule::Ignored,
            _ => return Err(MALFORMED),
        };
        Ok(self.index.set_group(endpoint, group, rule, block_size)?)
    }

    fn record(&mut self, body: &mut Body<'_>) -> Result<(), Refused> {
        match body.u8()? {
            kind @ (b'r' | b'p') => {
                let run = &mut self.run;
                run.parent = if kind == b'p' { Some(BlockHash(body.u64()?)) } else { None };
                run.loose = None;
                run.names.clear();
                body.hashes(&mut run.hashes)?;
            }
            b'l' => {
                let holder = body.holder()?;
                self.run.loose = Some(holder);
                self.run.names.clear();
                body.hashes(&mut self.run.hashes)?;
                self.index.store(holder, None, &self.run.hashes, Repeat::Known)?;
            }
            b'n' => {
                let (offset, name) = (body.u16()?, EngineHash(body.u64()?));
                let hash = *self.run.hashes.get(usize::from(offset)).ok_or(MALFORMED)?;
                match self.run.loose {
                    Some(holder) => {
                        self.index.store_mapped(holder, None, &[name], &[hash], Repeat::Known)?;
                    }
                    None => self.run.names.push((offset, name)),
                }
            }
            b'w' => {
                let (holder, end) = (body.holder()?, body.u16()?);
                self.hold(holder, 0, end)?;
            }
            b'h' => {
                let holder = body.holder()?;
                for _ in 0..body.u16()? {
                    let (first, end) = (body.u16()?, body.u16()?);
                    self.hold(holder, first, end)?;
                }
            }
            _ => return Err(MALFORMED),
        }
        Ok(())
    }

    /// `holder` holds blocks `first..end` of the run.
    fn hold(&mut self, holder: Holder, first: u16, end: u16) -> Result<(), Refused> {
        let run = &mut self.run;
        let stretch = usize::from(first)..usize::from(end);
        let hashes = run.hashes.get(stretch).filter(|h| !h.is_empty()).ok_or(MALFORMED)?;
        let parent = match first.checked_sub(1) {
            None => run.parent,
            Some(before) => Some(run.hashes[usize::from(before)]),
        };
        self.index.store(holder, parent, hashes, Repeat::Known)?;
        // A name is told with the first holder of its block.
        for (offset, name) in run.names.extract_if(.., |(at, _)| (first..end).contains(at)) {
            let at = usize::from(offset);
            let before = at.checked_sub(1).map_or(run.parent, |b| Some(run.hashes[b]));
            self.index.store_mapped(
                holder,
                before,
                &[name],
                &run.hashes[at..=at],
                Repeat::Known,
            )?;
        }
        Ok(())
    }
}
