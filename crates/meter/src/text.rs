//! The beginning of what an answer says, kept so that its tokens can be counted if no report comes.

use memchr::memchr;

/// Bytes that are kept. Of a longer answer this is the sample; a third of what an open stream may take (PERF-10).
const BYTES_MAX: usize = 8 * 1024;

/// How a string of an answer is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tap {
    /// Not at all.
    #[default]
    Not,
    /// As a piece of the answer.
    Piece,
    /// As the whole of it, unless it came in pieces before.
    Whole,
}

/// Text of an answer, as UTF-8 but for a character that is cut at the end. `Debug` shows its size only: nobody's
/// words belong into a log.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OutputText {
    bytes: Vec<u8>,
    in_pieces: bool,
}

impl OutputText {
    /// What was kept.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn push(&mut self, tap: Tap, piece: &[u8]) {
        match tap {
            // Says nothing, and so not that more comes in pieces.
            _ if piece.is_empty() => return,
            Tap::Not => return,
            Tap::Whole if self.in_pieces => return,
            Tap::Whole => {}
            Tap::Piece => self.in_pieces = true,
        }
        let room = BYTES_MAX.saturating_sub(self.bytes.len());
        if room == 0 {
            return;
        }
        let kept = piece.get(..room).unwrap_or(piece);
        if self.bytes.len() + kept.len() > self.bytes.capacity() {
            // Never more room than may be used.
            let wanted = (self.bytes.len() * 2 + kept.len()).clamp(256, BYTES_MAX);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(kept);
    }

    /// A piece as it stands in JSON, without escapes by number.
    pub(crate) fn push_escaped(&mut self, mut raw: &[u8]) {
        while let Some(at) = memchr(b'\\', raw) {
            let (plain, rest) = raw.split_at(at);
            self.push(Tap::Piece, plain);
            let [_, escape, after @ ..] = rest else { return };
            let byte = match escape {
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                other => *other,
            };
            self.push(Tap::Piece, &[byte]);
            raw = after;
        }
        self.push(Tap::Piece, raw);
    }

    /// How much there is, to come back to.
    pub(crate) const fn mark(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn back_to(&mut self, mark: usize) {
        self.bytes.truncate(mark);
    }

    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

impl std::fmt::Debug for OutputText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OutputText({} bytes, hidden)", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{OutputText, Tap};

    /// Servers begin with an empty piece; what they then say as a whole is what was said (reference item 25).
    #[test]
    fn an_empty_piece_says_nothing() {
        let mut text = OutputText::default();
        text.push_escaped(b"");
        text.push(Tap::Piece, b"");
        text.push(Tap::Whole, b"all of it");
        assert_eq!(text.bytes(), b"all of it");
        text.push(Tap::Piece, b", and more");
        text.push(Tap::Whole, b"all of it, and more");
        assert_eq!(text.bytes(), b"all of it, and more");
    }
}
