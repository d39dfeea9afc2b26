use kvsched_ffi::Str;
use std::ptr::null;

/// Numbers and bytes out of the input, which ends in zeros.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    pub fn number(&mut self) -> u64 {
        match self.byte() % 4 {
            0 => u64::from(self.byte() % 4),
            1 => u64::from(self.byte()) << 8,
            2 => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
            _ => u64::MAX - u64::from(self.byte() % 2),
        }
    }

    pub fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    pub fn text(&mut self) -> Str {
        let bytes = self.bytes();
        let data = if self.byte() % 8 == 0 { null() } else { bytes.as_ptr() };
        Str { data, len: if data.is_null() { 0 } else { bytes.len() } }
    }

    pub fn tokens(&mut self) -> Vec<u32> {
        let step = u32::from(self.byte() % 3);
        (0..u32::from(self.byte())).map(|i| i * step).collect()
    }

    pub fn hashes(&mut self) -> Vec<u64> {
        let first = self.number() % 64;
        (0..u64::from(self.byte() % 16)).map(|i| first + i).collect()
    }

    /// The handle, or one of another kind, or NULL.
    pub fn handle<T, U>(&mut self, right: *mut T, wrong: *mut U) -> *const T {
        match self.byte() % 16 {
            0 => null(),
            1 => wrong.cast(),
            _ => right,
        }
    }
}
