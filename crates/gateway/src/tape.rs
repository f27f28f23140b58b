//! The answer of a call as it went out, for whoever asks for it again.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::replays::{Answer, Head};

const REPLAYED: HeaderName = HeaderName::from_static("farthing-replayed");

/// What a copy that comes in pieces grows by at least.
const GROWTH_BYTES: usize = 512;

/// A copy of an answer while it is small enough. All of it are bytes of its own: a piece kept by reference would keep all that
/// came in the same read, 8 KiB for an event of 170 bytes, for as long as the stream is open.
pub(crate) struct Tape {
    head: Head,
    /// None when it has become too large.
    body: Option<Vec<u8>>,
    bytes_max: usize,
}

impl Tape {
    /// Of an answer that is not remembered, only that it was given.
    pub(crate) fn without_body(status: StatusCode, headers: &HeaderMap) -> Self {
        Self { head: kept(status, headers), body: None, bytes_max: 0 }
    }

    pub(crate) fn new(status: StatusCode, headers: &HeaderMap, bytes_max: usize) -> Self {
        Self { head: kept(status, headers), body: Some(Vec::new()), bytes_max }
    }

    pub(crate) fn take(&mut self, added: &[Bytes]) {
        let Some(body) = &mut self.body else { return };
        for piece in added {
            if body.len() + piece.len() > self.bytes_max {
                self.body = None;
                return;
            }
            if !body.is_empty() && body.capacity() - body.len() < piece.len() {
                // Doubled, a third of what open streams keep would be room for nothing.
                body.reserve_exact(piece.len().max(body.len() / 4).max(GROWTH_BYTES));
            }
            body.extend_from_slice(piece);
        }
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// The whole of it. None when it is not all here.
    pub(crate) fn answer(self) -> Option<Answer> {
        let mut body = self.body?;
        body.shrink_to_fit();
        Some(Answer { head: self.head, body: Bytes::from(body) })
    }
}

/// A head as whoever asks again gets it. It has no trailers.
fn kept(status: StatusCode, headers: &HeaderMap) -> Head {
    let mut head = Head::copy(status, headers, |name| ![header::TRAILER, REPLAYED].contains(name));
    head.push(&REPLAYED, &HeaderValue::from_static("true"));
    head
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::Tape;

    fn taped(bytes_max: usize, pieces: &[&'static str]) -> Option<Bytes> {
        let mut tape = Tape::new(StatusCode::OK, &HeaderMap::new(), bytes_max);
        for piece in pieces {
            tape.take(&[Bytes::from_static(piece.as_bytes())]);
        }
        tape.answer().map(|answer| answer.body)
    }

    #[test]
    fn an_answer_is_whole_or_not_there() {
        for (bytes_max, pieces, answer) in [
            (5, &["ab", "", "cde"][..], Some("abcde")),
            (4, &["ab", "", "cde"], None),
            // What comes behind a gap would fit again.
            (4, &["ab", "cde", "f"], None),
            (0, &[], Some("")),
        ] {
            assert_eq!(taped(bytes_max, pieces), answer.map(Bytes::from), "{bytes_max}");
        }
        let mut unkept = Tape::without_body(StatusCode::OK, &HeaderMap::new());
        unkept.take(&[Bytes::new()]);
        assert!(unkept.answer().is_none());
    }

    /// PERF-36: nothing of what was read stays with a stream that is open.
    #[test]
    fn a_tape_holds_on_to_nothing_that_was_read() {
        let mut read = BytesMut::with_capacity(8192);
        read.extend_from_slice(b"secretevent");
        let (value, event) = (read.split_to(6).freeze(), read.split_to(5).freeze());
        let mut head = HeaderMap::new();
        let mut sensitive = HeaderValue::from_maybe_shared(value).unwrap();
        sensitive.set_sensitive(true);
        head.insert("a", sensitive);
        head.insert("farthing-key", HeaderValue::from_static("fk_test_a"));
        let mut tape = Tape::new(StatusCode::OK, &head, 100);
        drop(head);
        tape.take(std::slice::from_ref(&event));
        drop(event);
        // The buffer is nobody else's: its whole room is there again.
        assert!(read.try_reclaim(8192));
        let headers = tape.head().headers();
        assert!(headers["a"].is_sensitive());
        assert!(!headers.contains_key("farthing-key"));
        assert_eq!(headers["farthing-replayed"], "true");
        assert_eq!(tape.answer().unwrap().body, "event");
    }
}
