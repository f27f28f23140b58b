//! The operator's key in an upstream's answer: a debug page or an error that repeats what it was sent. The
//! answer is cut off before any of the key comes down (SEC-31).

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

/// A shorter key is a placeholder, such as local servers take, and may stand in any text.
const KEY_BYTES_MIN: usize = 16;
/// In a conversation so few bytes of a key tell nothing, and waiting might never end.
const TALK_BYTES_MIN: usize = 8;

/// Finds one key. `Debug` hides it.
#[derive(Clone)]
pub(crate) struct KeySearch(Arc<Finder<'static>>);

/// The key was in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeySeen;

/// Follows one answer. What may be the beginning of the key waits for the next piece.
#[derive(Debug)]
pub(crate) struct KeyWatch {
    search: KeySearch,
    held: Bytes,
    /// How many bytes of a possible key have gone on: none, unless the other side waits for each piece.
    gone: usize,
    /// A beginning that is shorter goes on.
    held_bytes_min: usize,
}

impl KeySearch {
    /// `None` for a key too short to look for.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        (key.len() >= KEY_BYTES_MIN).then(|| Self(Arc::new(Finder::new(key).into_owned())))
    }

    pub(crate) fn finds(&self, text: &[u8]) -> bool {
        self.0.find(text).is_some()
    }

    pub(crate) fn watch(&self) -> KeyWatch {
        KeyWatch { search: self.clone(), held: Bytes::new(), gone: 0, held_bytes_min: 1 }
    }

    /// The same for a conversation: what ends in a letter or two of the key must not wait for an answer to it.
    pub(crate) fn watch_talk(&self) -> KeyWatch {
        KeyWatch { held_bytes_min: TALK_BYTES_MIN, ..self.watch() }
    }

    /// Where a beginning of the key stands at the end of `text`; the length of `text` where none does.
    fn beginning_at_end(&self, text: &[u8]) -> usize {
        let key = self.0.needle();
        let from = text.len().saturating_sub(key.len().saturating_sub(1));
        let tail = text.get(from..).unwrap_or_default();
        let starts = key.first().map(|first| memchr::memchr_iter(*first, tail)).into_iter().flatten();
        let mut begins = starts.filter(|at| tail.get(*at..).is_some_and(|rest| key.starts_with(rest)));
        begins.next().map_or(text.len(), |at| from + at)
    }
}

impl KeyWatch {
    /// What of the answer may go on after `chunk` has come.
    ///
    /// # Errors
    /// [`KeySeen`]: nothing more may go on.
    pub(crate) fn pass(&mut self, chunk: Bytes) -> Result<Bytes, KeySeen> {
        let mut text = chunk;
        let before = self.gone + self.held.len();
        if before > 0 {
            let mut joined = BytesMut::with_capacity(before + text.len());
            joined.extend_from_slice(self.search.0.needle().get(..self.gone).unwrap_or_default());
            joined.extend_from_slice(&std::mem::take(&mut self.held));
            joined.extend_from_slice(&text);
            text = joined.freeze();
        }
        if self.search.finds(&text) {
            return Err(KeySeen);
        }
        let begins = self.search.beginning_at_end(&text);
        let gone = std::mem::take(&mut self.gone);
        if text.len() - begins >= self.held_bytes_min {
            self.gone = gone.saturating_sub(begins);
            self.held = text.split_off(begins.max(gone));
        } else {
            self.gone = text.len() - begins;
        }
        let _ = text.split_to(gone.min(text.len()));
        Ok(text)
    }

    /// Whether the key stands in a text beside the answer's body.
    pub(crate) const fn search(&self) -> &KeySearch {
        &self.search
    }

    /// What was held back: the answer ended, so it was no key.
    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held)
    }
}

impl fmt::Debug for KeySearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySearch({} bytes, hidden)", self.0.needle().len())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{KeySearch, KeySeen};

    const KEY: &[u8] = b"sk-sk-0123456789";

    /// What comes down of an answer in pieces, and whether it was cut.
    fn through(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut watch = KeySearch::new(KEY).unwrap().watch();
        let mut down = Vec::new();
        for piece in pieces {
            match watch.pass(Bytes::copy_from_slice(piece)) {
                Ok(bytes) => down.extend_from_slice(&bytes),
                Err(KeySeen) => return (down, true),
            }
        }
        down.extend_from_slice(&watch.rest());
        (down, false)
    }

    #[test]
    fn sec_31_no_byte_of_the_key_comes_down_wherever_it_is_cut() {
        let text = [b"before sk-s ".as_slice(), KEY, b" after"].concat();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let (down, cut) = through(&[&text[..first], &text[first..second], &text[second..]]);
                assert!(cut);
                assert!(b"before sk-s ".starts_with(&down), "{}", String::from_utf8_lossy(&down));
            }
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(through(&bytes), (b"before sk-s ".to_vec(), true));
    }

    #[test]
    fn everything_else_comes_down_whole() {
        for text in ["", "sk-", "sk-sk-sk-012345678", "data: s\n\nsk-sk-0123456788", "sssssssk-sk-"] {
            for size in 1..=text.len().max(1) {
                let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
                assert_eq!(through(&pieces), (text.as_bytes().to_vec(), false), "{text} by {size}");
            }
        }
    }

    #[test]
    fn only_the_beginning_of_a_key_waits() {
        let mut watch = KeySearch::new(KEY).unwrap().watch();
        assert_eq!(watch.pass(Bytes::from_static(b"data: x\n\n")).unwrap(), "data: x\n\n");
        assert_eq!(watch.pass(Bytes::from_static(b"ask")).unwrap(), "a");
        assert_eq!(watch.pass(Bytes::from_static(b" me")).unwrap(), "sk me");
    }

    /// In a conversation a few letters of the key go on, and never the whole of it.
    #[test]
    fn sec_31_a_conversation_waits_for_no_letter() {
        let talk = |pieces: &[&[u8]]| {
            let mut watch = KeySearch::new(KEY).unwrap().watch_talk();
            let mut down = Vec::new();
            for piece in pieces {
                match watch.pass(Bytes::copy_from_slice(piece)) {
                    Ok(bytes) => down.push(String::from_utf8(bytes.to_vec()).unwrap()),
                    Err(KeySeen) => return (down, true),
                }
            }
            down.push(String::from_utf8(watch.rest().to_vec()).unwrap());
            (down, false)
        };
        let all = |down: &[&str], cut| (down.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), cut);
        assert_eq!(talk(&[b"ask", b" me"]), all(&["ask", " me", ""], false));
        assert_eq!(talk(&[b"ask-sk-", b" me"]), all(&["ask-sk-", " me", ""], false));
        assert_eq!(talk(&[b"ask-sk-01", b" me"]), all(&["a", "sk-sk-01 me", ""], false));
        for first in 0..=KEY.len() {
            for second in first..=KEY.len() {
                let (down, cut) = talk(&[&KEY[..first], &KEY[first..second], &KEY[second..]]);
                assert!(cut, "{first} {second}");
                assert!(down.concat().len() < super::TALK_BYTES_MIN, "{down:?}");
            }
        }
        let bytes: Vec<&[u8]> = KEY.chunks(1).collect();
        assert_eq!(talk(&bytes).0.concat(), "sk-sk-0");
        let near = b"sk-sk-sk-012345678 sssk-sk-012345678";
        for size in 1..=near.len() {
            let pieces: Vec<&[u8]> = near.chunks(size).collect();
            let (down, cut) = talk(&pieces);
            assert_eq!((down.concat().as_bytes(), cut), (&near[..], false), "by {size}");
        }
    }

    #[test]
    fn a_placeholder_is_not_looked_for_and_no_key_is_shown() {
        assert!(KeySearch::new(b"ollama").is_none());
        assert_eq!(format!("{:?}", KeySearch::new(KEY).unwrap()), "KeySearch(16 bytes, hidden)");
    }
}
