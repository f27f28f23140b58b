//! gRPC through the gateway: which metadata goes up and comes down, how a call ended, and the trailers it ends with.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use meter::{End, Metered, Terminal};
use wire::l402::grpc::{GRPC_MESSAGE, GRPC_STATUS, PAYMENT_REQUIRED};

use super::KeySearch;
use crate::config::metadata::is_custom;

/// Fields of gRPC itself that go up ...
const UP: [&str; 3] = ["grpc-timeout", "grpc-encoding", "grpc-accept-encoding"];
/// ... and come down at the head.
const DOWN: [&str; 2] = ["grpc-encoding", "grpc-accept-encoding"];
const DETAILS: &str = "grpc-status-details-bin";
/// Longest text of a status that comes down, and of a field of the application's own; how many there may be.
const TEXT_BYTES_MAX: usize = 4096;
const CUSTOM_BYTES_MAX: usize = 1024;
const CUSTOM_MAX: usize = 16;

const OK: &[u8] = b"0";
const UNKNOWN: &str = "2";
const DEADLINE_EXCEEDED: &str = "4";
const RESOURCE_EXHAUSTED: &str = "8";
const INTERNAL: &str = "13";
const UNAVAILABLE: &str = "14";

/// What the upstream has said of how a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Unsaid,
    Good,
    Failed,
}

/// The end of a gRPC call.
#[derive(Debug)]
pub(crate) struct GrpcEnd {
    verdict: Verdict,
    trailers: HeaderMap,
}

/// The upstream's own key stands in the trailers (SEC-31).
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyTold;

/// Why a call breaks off here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokenBy {
    /// The upstream ended without a status.
    Nothing,
    /// It broke off, or fell silent.
    Upstream,
    /// What is held for is used up, or the request is larger than what is taken.
    Bound,
    /// Its time is over.
    Time,
    /// What came must not go on.
    Gateway,
}

/// Adds what of a client's metadata goes up, besides what goes up of every request. `own` are the names that the operator lets
/// pass.
pub(crate) fn add_metadata(headers: &mut HeaderMap, client: &HeaderMap, own: &[HeaderName]) {
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.remove(header::ACCEPT_ENCODING);
    pass(headers, client, &UP);
    pass_own(headers, client, own);
}

/// Adds what of the upstream's head comes down, besides what comes down of every answer.
pub(crate) fn add_head(headers: &mut HeaderMap, upstream: &HeaderMap, own: &[HeaderName]) {
    pass(headers, upstream, &DOWN);
    pass_own(headers, upstream, own);
}

fn pass(headers: &mut HeaderMap, from: &HeaderMap, names: &[&'static str]) {
    for name in names {
        if let Some(value) = from.get(*name) {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
    }
}

fn pass_own(headers: &mut HeaderMap, from: &HeaderMap, own: &[HeaderName]) {
    for name in own {
        for value in from.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
}

impl GrpcEnd {
    /// Before anything but a head has come. An answer that is nothing but trailers has them there.
    pub(crate) fn of_head(head: &HeaderMap) -> Self {
        let mut end = Self { verdict: Verdict::Unsaid, trailers: HeaderMap::new() };
        if head.contains_key(GRPC_STATUS) {
            end.read(head);
        }
        end
    }

    /// The trailers have come.
    ///
    /// # Errors
    /// [`KeyTold`]: nothing of them may go on.
    pub(crate) fn take(&mut self, trailers: &HeaderMap, key: Option<&KeySearch>) -> Result<(), KeyTold> {
        let told = |value: &HeaderValue| key.is_some_and(|key| key.finds(value.as_bytes()));
        if trailers.values().any(told) {
            return Err(KeyTold);
        }
        self.read(trailers);
        Ok(())
    }

    fn read(&mut self, from: &HeaderMap) {
        self.trailers.clear();
        let Some(status) = from.get(GRPC_STATUS).filter(|status| is_status(status)) else {
            self.verdict = Verdict::Unsaid;
            return;
        };
        self.verdict = if status.as_bytes() == OK { Verdict::Good } else { Verdict::Failed };
        if speaks_of_us(status, from.get(GRPC_MESSAGE)) {
            self.trailers = status_of(UNAVAILABLE, "The upstream refused this gateway.");
            return;
        }
        self.trailers.insert(GRPC_STATUS, status.clone());
        for name in [GRPC_MESSAGE, DETAILS] {
            if let Some(value) = from.get(name).filter(|value| value.len() <= TEXT_BYTES_MAX) {
                self.trailers.insert(HeaderName::from_static(name), value.clone());
            }
        }
        let plain = |value: &HeaderValue| value.len() <= CUSTOM_BYTES_MAX && value.to_str().is_ok();
        let custom = from.iter().filter(|(name, value)| is_custom(name.as_str()) && plain(value));
        for (name, value) in custom.take(CUSTOM_MAX) {
            self.trailers.append(name.clone(), value.clone());
        }
    }

    /// What the upstream's status makes of a call that has come to its end: without `OK` it has failed.
    pub(crate) fn judge(&self, end: End, metered: &mut Metered) {
        if end == End::Eof && self.verdict != Verdict::Good {
            metered.upstream_error = true;
            metered.terminal = Terminal::Error;
        }
    }

    /// What the answer ends with; without a status where none came.
    pub(crate) fn trailers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.trailers)
    }
}

/// Completes the trailers of an answer that breaks off, or that has come without a status.
pub(crate) fn complete(trailers: &mut HeaderMap, broken: BrokenBy) {
    let (status, message) = match broken {
        BrokenBy::Nothing if trailers.contains_key(GRPC_STATUS) => return,
        BrokenBy::Nothing => (UNKNOWN, "The upstream ended without a status."),
        BrokenBy::Upstream => (UNAVAILABLE, "The upstream broke off."),
        BrokenBy::Bound => (RESOURCE_EXHAUSTED, "What is held or taken for this call is used up."),
        BrokenBy::Time => (DEADLINE_EXCEEDED, "The time of this call is over."),
        BrokenBy::Gateway => (INTERNAL, "The answer was cut off."),
    };
    trailers.extend(status_of(status, message));
    trailers.remove(DETAILS);
}

fn status_of(status: &'static str, message: &'static str) -> HeaderMap {
    HeaderMap::from_iter([
        (HeaderName::from_static(GRPC_STATUS), HeaderValue::from_static(status)),
        (HeaderName::from_static(GRPC_MESSAGE), HeaderValue::from_static(message)),
    ])
}

fn is_status(value: &HeaderValue) -> bool {
    let digits = value.as_bytes();
    (1..=2).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

/// What an upstream says of the one who asks it, it says of the operator: of his rights, his key, or his debts there. No
/// payer of ours may take it for himself, and least of all pay for it.
fn speaks_of_us(status: &HeaderValue, message: Option<&HeaderValue>) -> bool {
    let asks =
        message.is_some_and(|message| message.as_bytes().eq_ignore_ascii_case(PAYMENT_REQUIRED.as_bytes()));
    matches!(status.as_bytes(), b"7" | b"16") || (status.as_bytes() == INTERNAL.as_bytes() && asks)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use meter::{Dialect, End, Head, Meter};

    use super::{BrokenBy, GrpcEnd, KeySearch, complete};

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    fn text(trailers: &HeaderMap) -> Vec<(&str, &str)> {
        trailers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    /// GRPC-6
    #[test]
    fn which_trailers_come_down() {
        let long = "x".repeat(5000);
        let refused: &[(&str, &str)] =
            &[("grpc-status", "14"), ("grpc-message", "The upstream refused this gateway.")];
        for (came, down) in [
            (vec![("grpc-status", "0"), ("x-took-ms", "3")], &[("grpc-status", "0"), ("x-took-ms", "3")][..]),
            (
                vec![
                    ("grpc-status", "5"),
                    ("grpc-message", "no such thing"),
                    ("grpc-status-details-bin", "CAU"),
                    ("www-authenticate", "L402 macaroon"),
                    ("set-cookie", "a"),
                    ("farthing-charge", "0"),
                    ("payment-required", "a"),
                    ("trace-bin", "AA"),
                    ("authorization", "Bearer a"),
                ],
                &[
                    ("grpc-status", "5"),
                    ("grpc-message", "no such thing"),
                    ("grpc-status-details-bin", "CAU"),
                ],
            ),
            (vec![("grpc-status", "0"), ("x-long", &long)], &[("grpc-status", "0")]),
            (vec![("grpc-status", "16"), ("grpc-message", "bad key")], refused),
            (vec![("grpc-status", "7"), ("x-a", "b")], refused),
            (vec![("grpc-status", "13"), ("grpc-message", "Payment required")], refused),
            (
                vec![("grpc-status", "13"), ("grpc-message", "x")],
                &[("grpc-status", "13"), ("grpc-message", "x")],
            ),
            (vec![("x-a", "b")], &[]),
            (vec![("grpc-status", "zero")], &[]),
            (vec![("grpc-status", "000")], &[]),
        ] {
            let mut end = GrpcEnd::of_head(&HeaderMap::new());
            end.take(&map(&came), None).unwrap();
            assert_eq!(text(&end.trailers()), down, "{came:?}");
        }
        let key = KeySearch::new(b"sk-0123456789abcdef").unwrap();
        let telling = map(&[("grpc-status", "2"), ("grpc-message", "bad sk-0123456789abcdef")]);
        assert!(GrpcEnd::of_head(&HeaderMap::new()).take(&telling, Some(&key)).is_err());
    }

    /// GRPC-5
    #[test]
    fn only_a_call_that_ended_well_has_succeeded() {
        for (status, end, failed) in [
            (Some("0"), End::Eof, false),
            (Some("5"), End::Eof, true),
            (None, End::Eof, true),
            (None, End::ClientGone, false),
            (None, End::CutShort, false),
        ] {
            let trailers = map(&status.map(|status| ("grpc-status", status)).into_iter().collect::<Vec<_>>());
            let mut told = GrpcEnd::of_head(&HeaderMap::new());
            told.take(&trailers, None).unwrap();
            let head =
                Head { status: 200, content_type: None, content_encoding: None, hide_usage_chunk: false };
            let mut metered = Meter::new(Dialect::Raw, head).end(end, &mut Vec::new());
            told.judge(end, &mut metered);
            assert_eq!(metered.upstream_error, failed, "{status:?} {end:?}");
        }
    }

    #[test]
    fn what_breaks_off_has_a_status() {
        let mut good = map(&[("grpc-status", "0")]);
        complete(&mut good, BrokenBy::Nothing);
        assert_eq!(text(&good), [("grpc-status", "0")]);
        let mut none = HeaderMap::new();
        complete(&mut none, BrokenBy::Nothing);
        assert_eq!(none["grpc-status"], "2");
        complete(&mut none, BrokenBy::Bound);
        assert_eq!(none["grpc-status"], "8");
    }
}
