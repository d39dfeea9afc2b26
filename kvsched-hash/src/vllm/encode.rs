//! What the two serialisations have in common.

/// Writes the values of a block's hash input, one after the other.
pub(crate) trait Encode {
    /// Begins a new input at the message's start.
    fn start(&mut self, out: &mut Message<'_>);
    /// Ends it.
    fn finish(&mut self, out: &mut Message<'_>);
    /// Begins a tuple of `len` values.
    fn open_tuple(&mut self, out: &mut Message<'_>, len: usize);
    /// Ends a tuple of `len` values.
    fn close_tuple(&mut self, out: &mut Message<'_>, len: usize);
    /// A run of small ints.
    fn tokens(&mut self, out: &mut Message<'_>, tokens: &[u32]);
    fn none(&mut self, out: &mut Message<'_>);
    fn int(&mut self, out: &mut Message<'_>, n: i64);
    /// A digest that is a Python int.
    fn big_uint(&mut self, out: &mut Message<'_>, big_endian: &[u8]);
    fn bytes(&mut self, out: &mut Message<'_>, bytes: &[u8]);
    fn text(&mut self, out: &mut Message<'_>, text: &str);
    /// A literal of the engine's source, which Python keeps as one object.
    fn tag(&mut self, out: &mut Message<'_>, tag: &'static str);
}

/// A message under construction, in a buffer that was measured to hold it.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

/// Bytes behind a message that [`Message::put_front`] may touch.
pub(crate) const SLACK: usize = 8;

impl<'a> Message<'a> {
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        self.buffer
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends the first `len` of eight bytes, with one store.
    #[inline]
    pub(crate) fn put_front(&mut self, bytes: [u8; 8], len: usize) {
        self.buffer[self.len..self.len + 8].copy_from_slice(&bytes);
        self.len += len;
    }

    /// Overwrites eight bytes at `at`.
    pub(crate) fn patch(&mut self, at: usize, bytes: [u8; 8]) {
        self.buffer[at..at + 8].copy_from_slice(&bytes);
    }

    /// Takes `len` bytes at `at` out, moving what follows.
    pub(crate) fn cut(&mut self, at: usize, len: usize) {
        self.buffer.copy_within(at + len..self.len, at);
        self.len -= len;
    }
}
