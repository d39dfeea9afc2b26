//! SHA-256 over a message that already lies in a buffer with room for its padding.

use sha2::block_api::compress256;

/// FIPS 180-4, section 5.3.3.
const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The longest padding: a one bit, zeros, and the length as eight bytes.
pub(crate) const PADDING: usize = 72;

/// Pads the message in the first `len` bytes of `buffer`, whose rest is overwritten, and returns
/// its length with the padding.
///
/// # Panics
///
/// If fewer than [`PADDING`] bytes follow the message.
#[inline]
pub(crate) fn pad(buffer: &mut [u8], len: usize) -> usize {
    // All that padding can be is cleared, because a fixed number of bytes takes no call.
    let padding = &mut buffer[len..len + PADDING];
    padding.copy_from_slice(&[0; PADDING]);
    padding[0] = 0x80;
    let end = (len + 9).next_multiple_of(64);
    buffer[end - 8..end].copy_from_slice(&(len as u64 * 8).to_be_bytes());
    end
}

/// The state after a padded message.
#[inline]
pub(crate) fn of_padded(message: &[u8]) -> [u32; 8] {
    let mut state = START;
    compress256(&mut state, message.as_chunks().0);
    state
}

/// The digest of bytes that lie elsewhere.
pub(crate) fn of(data: &[u8]) -> [u8; 32] {
    of_two(&[0; 0], data)
}

/// The digest of `head`, of at most 32 bytes, and then `data`.
pub(crate) fn of_two<const N: usize>(head: &[u8; N], data: &[u8]) -> [u8; 32] {
    const { assert!(N <= 32) };
    let mut state = START;
    let mut first = [0; 64];
    let (front, data_left) = data.split_at(data.len().min(64 - N));
    first[..N].copy_from_slice(head);
    first[N..N + front.len()].copy_from_slice(front);
    let (blocks, rest) = data_left.as_chunks();
    let mut tail = [0; 128];
    let filled = if N + front.len() == 64 {
        compress256(&mut state, &[first]);
        compress256(&mut state, blocks);
        tail[..rest.len()].copy_from_slice(rest);
        rest.len()
    } else {
        tail[..64].copy_from_slice(&first);
        N + front.len()
    };
    tail[filled] = 0x80;
    let end = (filled + 9).next_multiple_of(64);
    tail[end - 8..end].copy_from_slice(&((N + data.len()) as u64 * 8).to_be_bytes());
    compress256(&mut state, tail[..end].as_chunks().0);
    to_bytes(state)
}

/// The state as a digest.
#[inline]
pub(crate) fn to_bytes(state: [u32; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, word) in bytes.chunks_exact_mut(4).zip(state) {
        to.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn both_ways_equal_the_plain_hash_at_every_length() {
        let data: Vec<u8> = (0..300u32).map(|i| (i * 7 + 3) as u8).collect();
        for len in 0..=data.len() {
            let want: [u8; 32] = Sha256::digest(&data[..len]).into();
            assert_eq!(of(&data[..len]), want, "{len} bytes");
            if let Some((head, rest)) = data[..len].split_first_chunk::<32>() {
                assert_eq!(of_two(head, rest), want, "32 and {} bytes", rest.len());
            }
            // What lay behind the message must not matter.
            let mut buffer = vec![0xee; len + PADDING];
            buffer[..len].copy_from_slice(&data[..len]);
            let end = pad(&mut buffer, len);
            assert_eq!(to_bytes(of_padded(&buffer[..end])), want, "{len} bytes in place");
        }
    }
}
