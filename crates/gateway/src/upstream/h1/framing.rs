//! Where the body of an answer ends (RFC 9112 section 6). No socket: bytes come in whatever pieces they come.

/// What of a body may be no body, in bytes: extensions of chunks, one behind the other, and trailers, which nobody is told.
const ASIDE_BYTES_MAX: usize = 16 * 1024;

/// How the end of a body is known.
#[derive(Debug)]
pub(super) enum Framing {
    /// So many bytes are left.
    Length(u64),
    Chunked(Chunks),
    /// The connection ends with it.
    Close,
}

/// The chunks of a body.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    expects: Expects,
    aside_bytes: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expects {
    /// The first digit of a length.
    #[default]
    Digit,
    /// More digits of it, or what ends it.
    Size(u64),
    /// An extension of a chunk that is so long, up to the end of its line.
    Extension(u64),
    /// The second half of the line's end.
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// A line of trailers, or the empty one behind them.
    Trailer,
    /// The rest of such a line.
    TrailerRest,
    TrailerLf,
    LastLf,
    Nothing,
}

/// Why a body has no end that could be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unframed {
    /// A chunk whose length is none.
    #[error("a chunk has no length")]
    Size,
    /// A chunk that goes on behind its end, or a line that ends in half.
    #[error("a chunk does not end where it should")]
    End,
    /// More than is read of what nobody is told.
    #[error("extensions and trailers of more than {ASIDE_BYTES_MAX} bytes")]
    Aside,
}

impl Framing {
    /// Whether all of the body has come. Of one that its connection ends nobody knows before that.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.expects == Expects::Nothing,
            Self::Close => false,
        }
    }

    /// Bytes that are left, where that is known.
    pub(super) const fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::Close => None,
        }
    }

    /// Takes what has come, and adds to `body` what of it is body. What it leaves of `input` stands behind the answer.
    pub(super) fn take(&mut self, input: &mut &[u8], body: &mut Vec<u8>) -> Result<(), Unframed> {
        match self {
            Self::Length(left) => *left -= moved(*left, input, body),
            Self::Chunked(chunks) => chunks.take(input, body)?,
            Self::Close => body.extend_from_slice(std::mem::take(input)),
        }
        Ok(())
    }
}

/// Moves up to `most` bytes. How many it were.
fn moved(most: u64, input: &mut &[u8], body: &mut Vec<u8>) -> u64 {
    let count = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
    let (now, rest) = input.split_at(count);
    body.extend_from_slice(now);
    *input = rest;
    count as u64
}

impl Chunks {
    fn take(&mut self, input: &mut &[u8], body: &mut Vec<u8>) -> Result<(), Unframed> {
        while self.expects != Expects::Nothing {
            if let Expects::Data(left) = self.expects {
                let left = left - moved(left, input, body);
                self.expects = if left == 0 { Expects::DataCr } else { Expects::Data(left) };
            }
            let Some((byte, rest)) = input.split_first() else { break };
            *input = rest;
            self.expects = self.behind(*byte)?;
        }
        Ok(())
    }

    /// What comes behind `byte`.
    fn behind(&mut self, byte: u8) -> Result<Expects, Unframed> {
        use Expects as E;
        Ok(match (self.expects, byte) {
            (E::Digit, _) => E::Size(digit(byte)?),
            (E::Size(size), b'\r') | (E::Extension(size), b'\r') => E::SizeLf(size),
            (E::Size(size), b';' | b' ' | b'\t') => E::Extension(size),
            (E::Size(size), _) if size >> 60 == 0 => E::Size(size << 4 | digit(byte)?),
            (E::Size(_), _) => return Err(Unframed::Size),
            (E::Extension(_) | E::Trailer | E::TrailerRest, b'\n') => return Err(Unframed::End),
            (E::Extension(size), _) => self.aside(E::Extension(size))?,
            (E::SizeLf(0), b'\n') => E::Trailer,
            (E::SizeLf(size), b'\n') => E::Data(size),
            (E::DataCr, b'\r') => E::DataLf,
            (E::DataLf, b'\n') => E::Digit,
            (E::Trailer, b'\r') => E::LastLf,
            (E::TrailerRest, b'\r') => E::TrailerLf,
            (E::Trailer | E::TrailerRest, _) => self.aside(E::TrailerRest)?,
            (E::TrailerLf, b'\n') => E::Trailer,
            (E::LastLf, b'\n') | (E::Nothing, _) => E::Nothing,
            (E::SizeLf(_) | E::Data(_) | E::DataCr | E::DataLf | E::TrailerLf | E::LastLf, _) => {
                return Err(Unframed::End);
            }
        })
    }

    fn aside(&mut self, next: Expects) -> Result<Expects, Unframed> {
        self.aside_bytes += 1;
        if self.aside_bytes > ASIDE_BYTES_MAX { Err(Unframed::Aside) } else { Ok(next) }
    }
}

fn digit(byte: u8) -> Result<u64, Unframed> {
    char::from(byte).to_digit(16).map(u64::from).ok_or(Unframed::Size)
}

#[cfg(test)]
mod tests {
    use super::{ASIDE_BYTES_MAX, Chunks, Framing, Unframed};

    /// The body, what stands behind it, and whether its end was found, of input in pieces of so many bytes.
    fn read(mut framing: Framing, input: &[u8], piece: usize) -> Result<(String, usize, bool), Unframed> {
        let (mut body, mut behind) = (Vec::new(), 0);
        for mut piece in input.chunks(piece) {
            framing.take(&mut piece, &mut body)?;
            behind += piece.len();
        }
        Ok((String::from_utf8(body).unwrap(), behind, framing.is_over()))
    }

    #[test]
    fn chunks_table() {
        let found = |body: &str, behind, is_over| Ok((body.to_owned(), behind, is_over));
        let aside = |bytes: usize| "x".repeat(bytes);
        for (what, input, expected) in [
            ("two", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n".to_owned(), found("hello world", 0, true)),
            ("none", "0\r\n\r\n".into(), found("", 0, true)),
            (
                "large and small digits",
                "A\r\n0123456789\r\na\r\n0123456789\r\n00\r\n\r\n".into(),
                found("01234567890123456789", 0, true),
            ),
            ("more behind it", "1\r\nx\r\n0\r\n\r\nHTTP/1.1 200".into(), found("x", 12, true)),
            ("extensions", "1;a=\"b\"\r\nx\r\n1 ;c\r\ny\r\n0;d\r\n\r\n".into(), found("xy", 0, true)),
            ("trailers", "1\r\nx\r\n0\r\na: b\r\nc: d\r\n\r\n".into(), found("x", 0, true)),
            ("cut in a chunk", "5\r\nhel".into(), found("hel", 0, false)),
            ("cut behind one", "1\r\nx\r\n".into(), found("x", 0, false)),
            ("cut in the last line", "1\r\nx\r\n0\r\n\r".into(), found("x", 0, false)),
            ("no digits", "\r\nx".into(), Err(Unframed::Size)),
            ("not hexadecimal", "5\r\nhello\r\nzz\r\n".into(), Err(Unframed::Size)),
            ("signed", "+5\r\nhello\r\n".into(), Err(Unframed::Size)),
            ("prefixed", "0x5\r\nhello\r\n".into(), Err(Unframed::Size)),
            ("largest", "ffffffffffffffff\r\nx".into(), found("x", 0, false)),
            ("too large", "10000000000000000\r\nx".into(), Err(Unframed::Size)),
            ("longer than it says", "1\r\nxy\r\n0\r\n\r\n".into(), Err(Unframed::End)),
            ("bare line feeds", "1\nx\n0\n\n".into(), Err(Unframed::Size)),
            ("one behind an extension", "1;a\nx\r\n".into(), Err(Unframed::End)),
            ("one in trailers", "0\r\na: b\n\r\n".into(), Err(Unframed::End)),
            ("half a line's end", "1\r\nx\rx".into(), Err(Unframed::End)),
            ("as much aside as may be", format!("0;{}\r\n\r\n", aside(ASIDE_BYTES_MAX)), found("", 0, true)),
            ("more aside", format!("0;{}\r\n\r\n", aside(ASIDE_BYTES_MAX + 1)), Err(Unframed::Aside)),
            ("more aside, a bit each time", "1;a\r\nx\r\n".repeat(ASIDE_BYTES_MAX + 1), Err(Unframed::Aside)),
            ("more trailers", format!("0\r\n{}\r\n\r\n", aside(ASIDE_BYTES_MAX + 1)), Err(Unframed::Aside)),
        ] {
            for piece in [1, 2, 3, 7, input.len()] {
                let read = read(Framing::Chunked(Chunks::default()), input.as_bytes(), piece);
                assert_eq!(read, expected, "{what}, in pieces of {piece}");
            }
        }
    }

    #[test]
    fn lengths_and_ends_of_connections() {
        for piece in [1, 3, 8] {
            let read = |framing| read(framing, b"12345678", piece).unwrap();
            assert_eq!(read(Framing::Length(5)), ("12345".to_owned(), 3, true));
            assert_eq!(read(Framing::Length(8)), ("12345678".to_owned(), 0, true));
            assert_eq!(read(Framing::Length(9)), ("12345678".to_owned(), 0, false));
            assert_eq!(read(Framing::Length(0)), (String::new(), 8, true));
            assert_eq!(read(Framing::Close), ("12345678".to_owned(), 0, false));
        }
    }
}
