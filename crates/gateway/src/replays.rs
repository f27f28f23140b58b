//! Answers to calls that were charged, for a client that lost its own. In memory only: no prompt and no
//! completion is written to disk (reference item 39).

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use ledger::IdHashes;

use crate::call_id::CallId;

/// How much is kept of calls that have a name (a payment or an idempotency key), how much of those that
/// only an SDK's retry may ask for, and how long.
const NAMED_BYTES_MAX: usize = 48 * 1024 * 1024;
const UNNAMED_BYTES_MAX: usize = 16 * 1024 * 1024;
const AGE_MAX: Duration = Duration::from_secs(600);
/// What an answer takes beside its head and body: its places in the tables, rounded up.
const PLACES_BYTES: usize = 320;

/// What opens a balance is given out once (reference item 38).
const KEY: HeaderName = HeaderName::from_static("farthing-key");

/// The head of an answer as it is kept, without a key: in one piece of memory and without an index, because each charged call has one and hardly
/// anybody asks again.
#[derive(Debug)]
pub(crate) struct Head {
    status: StatusCode,
    /// Per field: the lengths of name and value (u32 each, big-endian, the first with [`SENSITIVE`]), and both.
    fields: Vec<u8>,
}

/// Set in the length of a name whose value belongs into no log.
const SENSITIVE: u32 = 1 << 31;
/// What a field takes beside its name and value.
const LENGTHS_BYTES: usize = 8;
/// Room for a field that is added to those copied.
const MARK_BYTES: usize = 32;

/// A field as it is kept.
struct Field<'h> {
    name: &'h [u8],
    value: &'h [u8],
    is_sensitive: bool,
}

impl Head {
    /// A copy of what passes. None of it refers to the buffer that it was read into.
    pub(crate) fn copy(
        status: StatusCode,
        headers: &HeaderMap,
        passes: impl Fn(&HeaderName) -> bool,
    ) -> Self {
        let bytes = headers.iter().map(|(name, value)| LENGTHS_BYTES + name.as_str().len() + value.len());
        let mut head = Self { status, fields: Vec::with_capacity(bytes.sum::<usize>() + MARK_BYTES) };
        for (name, value) in headers.iter().filter(|(name, _)| *name != KEY && passes(name)) {
            head.push(name, value);
        }
        head
    }

    /// The values of a field that are text.
    pub(crate) fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.fields().filter(move |field| field.name == name.as_bytes());
        named.filter_map(|field| std::str::from_utf8(field.value).ok())
    }

    /// Adds a field.
    pub(crate) fn push(&mut self, name: &HeaderName, value: &HeaderValue) {
        let (name_bytes, value_bytes) = (name.as_str().as_bytes(), value.as_bytes());
        // No head that was read or written is nearly as long as that.
        let lengths = (u32::try_from(name_bytes.len()), u32::try_from(value_bytes.len()));
        let (Ok(name_length @ ..SENSITIVE), Ok(value_length)) = lengths else { return };
        let mark = if value.is_sensitive() { SENSITIVE } else { 0 };
        self.fields.extend((name_length | mark).to_be_bytes());
        self.fields.extend(value_length.to_be_bytes());
        self.fields.extend_from_slice(name_bytes);
        self.fields.extend_from_slice(value_bytes);
    }

    fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        let mut rest = self.fields.as_slice();
        std::iter::from_fn(move || {
            let (name_length, after) = rest.split_first_chunk()?;
            let (value_length, after) = after.split_first_chunk()?;
            let (name_length, value_length) =
                (u32::from_be_bytes(*name_length), u32::from_be_bytes(*value_length));
            let (name, after) = after.split_at_checked(usize::try_from(name_length & !SENSITIVE).ok()?)?;
            let (value, after) = after.split_at_checked(usize::try_from(value_length).ok()?)?;
            rest = after;
            Some(Field { name, value, is_sensitive: name_length & SENSITIVE != 0 })
        })
    }

    /// As whoever asks again gets them.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in self.fields() {
            let parsed = (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value));
            if let (Ok(name), Ok(mut value)) = parsed {
                value.set_sensitive(field.is_sensitive);
                headers.append(name, value);
            }
        }
        headers
    }
}

/// An answer as it is kept.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

impl Answer {
    fn bytes(&self) -> usize {
        self.body.len() + self.head.fields.len() + PLACES_BYTES
    }

    fn response(&self) -> Response<Bytes> {
        let mut response = Response::new(self.body.clone());
        *response.status_mut() = self.head.status;
        *response.headers_mut() = self.head.headers();
        response
    }
}

/// Answers of the last ten minutes, by the call that got them. At most 64 MiB; the oldest go first.
#[derive(Debug)]
pub(crate) struct Replays {
    named: Mutex<Kept>,
    unnamed: Mutex<Kept>,
}

impl Default for Replays {
    fn default() -> Self {
        Self {
            named: Mutex::new(Kept::at_most(NAMED_BYTES_MAX)),
            unnamed: Mutex::new(Kept::at_most(UNNAMED_BYTES_MAX)),
        }
    }
}

/// Whether a call can be asked for by a name of its own. Plenty of calls without one must not push out the
/// few that have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    Named,
    Unnamed,
}

impl Replays {
    /// Keeps the answer of a call for a while.
    pub(crate) fn keep(&self, call: CallId, answer: Answer, worth: Worth) {
        let kept = match worth {
            Worth::Named => &self.named,
            Worth::Unnamed => &self.unnamed,
        };
        kept.lock().unwrap_or_else(PoisonError::into_inner).keep(call, answer, Instant::now());
    }

    /// The answer of a call, while it is kept.
    pub(crate) fn find(&self, call: CallId) -> Option<Response<Bytes>> {
        let now = Instant::now();
        [&self.named, &self.unnamed].into_iter().find_map(|kept| {
            let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.find(call, now)
        })
    }

    /// Lets go of what is too old, also when no new answer comes.
    pub(crate) fn forget_old(&self) {
        for kept in [&self.named, &self.unnamed] {
            kept.lock().unwrap_or_else(PoisonError::into_inner).make_room(Instant::now());
        }
    }
}

#[derive(Debug)]
struct Kept {
    answers: HashMap<CallId, (Instant, Answer), IdHashes>,
    oldest_first: VecDeque<CallId>,
    bytes: usize,
    bytes_max: usize,
}

impl Kept {
    fn at_most(bytes_max: usize) -> Self {
        Self { answers: HashMap::default(), oldest_first: VecDeque::new(), bytes: 0, bytes_max }
    }

    fn keep(&mut self, call: CallId, answer: Answer, now: Instant) {
        // A call has one answer.
        if self.answers.contains_key(&call) {
            return;
        }
        self.bytes += answer.bytes();
        self.answers.insert(call, (now, answer));
        self.oldest_first.push_back(call);
        self.make_room(now);
    }

    fn make_room(&mut self, now: Instant) {
        while let Some(call) = self.oldest_first.front() {
            let Some((since, answer)) = self.answers.get(call) else { return };
            if self.bytes <= self.bytes_max && now.saturating_duration_since(*since) < AGE_MAX {
                return;
            }
            self.bytes -= answer.bytes();
            self.answers.remove(call);
            self.oldest_first.pop_front();
        }
    }

    fn find(&self, call: CallId, now: Instant) -> Option<Response<Bytes>> {
        let (since, answer) = self.answers.get(&call)?;
        (now.saturating_duration_since(*since) < AGE_MAX).then(|| answer.response())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::{AGE_MAX, Answer, Head, Kept, NAMED_BYTES_MAX, Replays, UNNAMED_BYTES_MAX, Worth};
    use crate::call_id::CallId;

    fn answer(bytes: usize) -> Answer {
        let head = Head::copy(StatusCode::OK, &HeaderMap::new(), |_| true);
        Answer { head, body: Bytes::from(vec![0; bytes]) }
    }

    #[test]
    fn a_head_comes_back_as_it_was() {
        let mut headers = HeaderMap::new();
        let mut sensitive = HeaderValue::from_static("told");
        sensitive.set_sensitive(true);
        for (name, value) in [
            ("content-type", HeaderValue::from_static("text/plain")),
            ("x-own", HeaderValue::from_static("")),
            ("x-own", HeaderValue::from_bytes(b"caf\xe9").unwrap()),
            ("set-cookie", sensitive),
        ] {
            headers.append(name, value);
        }
        let head = Head::copy(StatusCode::ACCEPTED, &headers, |_| true);
        assert_eq!(head.headers(), headers);
        assert!(
            head.headers()["set-cookie"].is_sensitive() && !head.headers()["content-type"].is_sensitive()
        );
        assert_eq!(head.texts("x-own").collect::<Vec<_>>(), [""]);
        let opened = HeaderMap::from_iter([(super::KEY, HeaderValue::from_static("fk_test_a"))]);
        assert!(Head::copy(StatusCode::OK, &opened, |_| true).headers().is_empty());
    }

    /// MTR-41.
    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let replays = Replays::default();
        for at in 0..49 {
            replays.keep(CallId([at; 16]), answer(1024 * 1024), Worth::Named);
        }
        assert!(replays.find(CallId([0; 16])).is_none());
        assert!(replays.find(CallId([48; 16])).is_some());
        // Calls without a name have a room of their own.
        for at in 100..120 {
            replays.keep(CallId([at; 16]), answer(1024 * 1024), Worth::Unnamed);
        }
        assert!(replays.find(CallId([100; 16])).is_none());
        assert!(replays.find(CallId([119; 16])).is_some() && replays.find(CallId([48; 16])).is_some());
        assert_eq!(NAMED_BYTES_MAX + UNNAMED_BYTES_MAX, 64 * 1024 * 1024);
    }

    #[test]
    fn many_small_answers_are_bounded_too() {
        let mut kept = Kept::at_most(1024 * 1024);
        let now = Instant::now();
        for at in 0..10_000_u16 {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&at.to_be_bytes());
            kept.keep(CallId(id), answer(1), now);
        }
        assert!(kept.answers.len() <= 4096 && kept.oldest_first.len() == kept.answers.len());
    }

    #[test]
    fn after_ten_minutes_they_are_gone() {
        let mut kept = Kept::at_most(1024 * 1024);
        let (call, now) = (CallId([1; 16]), Instant::now());
        kept.keep(call, answer(5), now);
        let almost = now + AGE_MAX - Duration::from_secs(1);
        kept.make_room(almost);
        assert!(kept.find(call, almost).is_some() && kept.find(call, now + AGE_MAX).is_none());
        kept.make_room(now + AGE_MAX);
        assert_eq!((kept.bytes, kept.answers.len(), kept.oldest_first.len()), (0, 0, 0));
    }
}
