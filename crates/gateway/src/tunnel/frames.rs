//! Where the frames of a WebSocket begin and end (RFC 6455 section 5.2), so that a close frame of ours can stand between two
//! of them. What is in them is not looked at.

/// A head: two bytes, up to eight of length, four of mask.
const HEAD_BYTES_MAX: usize = 14;
const CLOSE: u8 = 0x8;
const MASKED: u8 = 0x80;

/// Follows one direction.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    /// What is left of the payload.
    payload: u64,
    closed: bool,
}

impl Frames {
    /// So much has gone on.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let most = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= most as u64;
                bytes = &bytes[most..];
                continue;
            }
            let (first, rest) = (bytes[0], &bytes[1..]);
            bytes = rest;
            self.head[self.head_bytes] = first;
            self.head_bytes += 1;
            if let Some(payload) = self.payload_of_head() {
                self.closed |= self.head[0] & 0x0f == CLOSE;
                self.payload = payload;
                self.head_bytes = 0;
            }
        }
    }

    /// Its length, once the head is whole.
    fn payload_of_head(&self) -> Option<u64> {
        let [_, second, ..] = self.head;
        if self.head_bytes < 2 {
            return None;
        }
        let short = second & !MASKED;
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes = if second & MASKED == 0 { 0 } else { 4 };
        if self.head_bytes < 2 + length_bytes + mask_bytes {
            return None;
        }
        let length = &self.head[2..2 + length_bytes];
        let long = length.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
        Some(if length_bytes == 0 { u64::from(short) } else { long })
    }

    /// Whether the next byte begins a frame, and no close frame has gone: one of ours may stand here.
    pub(super) const fn may_close(&self) -> bool {
        self.head_bytes == 0 && self.payload == 0 && !self.closed
    }

    /// Whether a close frame has gone.
    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }
}

/// A close frame with a code; masked for a server, who may take no other.
pub(super) fn close(code: u16, mask: Option<[u8; 4]>) -> Vec<u8> {
    let code = code.to_be_bytes();
    match mask {
        None => [&[0x80 | CLOSE, 2][..], &code].concat(),
        Some(mask) => {
            [&[0x80 | CLOSE, MASKED | 2][..], &mask, &[code[0] ^ mask[0], code[1] ^ mask[1]]].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, close};

    #[test]
    fn ws_6_a_close_frame_may_stand_between_frames_only() {
        let small = [&[0x81, 5][..], b"hello"].concat();
        let masked = [&[0x82, 0x83, 1, 2, 3, 4][..], b"abc"].concat();
        let medium = [&[0x82, 126, 1, 0][..], &[b'x'; 256]].concat();
        let long = [&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4][..], &[b'x'; 65_536]].concat();
        let empty = vec![0x89, 0];
        for frame in [&small, &masked, &medium, &long, &empty] {
            for size in [1, 2, 3, 7, 100, frame.len()] {
                let mut frames = Frames::default();
                let mut gone = 0;
                for piece in frame.chunks(size) {
                    frames.follow(piece);
                    gone += piece.len();
                    assert_eq!(frames.may_close(), gone == frame.len(), "{gone} of {}", frame.len());
                }
            }
        }
        let mut frames = Frames::default();
        frames.follow(&[small.clone(), empty, medium].concat());
        assert!(frames.may_close());
        for frame in [close(1008, None), close(1001, Some([9, 8, 7, 6]))] {
            let mut frames = Frames::default();
            frames.follow(&frame);
            assert!(frames.is_closed() && !frames.may_close());
        }
        assert_eq!(close(1008, None), [0x88, 2, 3, 240]);
    }
}
