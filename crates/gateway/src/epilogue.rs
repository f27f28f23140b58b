//! What an answer ends with for whoever asked to be told what the call came to: trailers, and a comment that readers of
//! event streams skip (UX-11).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use ledger::AccountRef;

use crate::call_id::CallId;
use crate::charge::Sum;
use crate::clock::Now;
use crate::facts;
use crate::identity;
use crate::payer::Payer;
use crate::session::Came;

/// Names of our trailers, for the `Trailer` field of the head.
const TRAILERS: &str = "farthing-charge, farthing-balance, farthing-usage";
/// Those of a call that does not wait for its payment.
const TRAILERS_OF_A_PROMISE: &str = "farthing-charge, farthing-balance, farthing-usage, payment-response";

/// Those of a crawler's call that is metered.
const TRAILERS_OF_A_CRAWL: &str = "farthing-charge, farthing-balance, farthing-usage, crawler-charged";

/// How a client wants to be told what a call came to, besides its receipt.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Epilogue {
    /// `TE: trailers`.
    pub(crate) trailers: bool,
    /// A comment before the end of an event stream (UX-11).
    pub(crate) comment: bool,
    /// The receipt of a session, as an event there (MPP-19).
    pub(crate) receipt: bool,
}

impl Epilogue {
    /// As the heads of the request and of the answer have it. A comment or an event is only for what has a receipt.
    pub(crate) fn wanted(asked: &HeaderMap, answer: &HeaderMap, is_success: bool, payer: &Payer) -> Self {
        let is_events = is_success && is_event_stream(answer);
        let has_session = payer.session.is_some();
        // A crawler is told what was debited in any case (IDN-23).
        let is_crawler = payer.is_crawler();
        Self {
            trailers: takes_trailers(asked),
            comment: is_events && (is_crawler || takes_comment(asked)),
            receipt: is_events && has_session,
        }
    }

    /// Names the trailers in the head, where there will be any.
    pub(crate) fn announce(self, headers: &mut HeaderMap, is_promised: bool, is_crawl: bool) {
        if self.trailers {
            let names = match (is_promised, is_crawl) {
                (true, _) => TRAILERS_OF_A_PROMISE,
                (false, true) => TRAILERS_OF_A_CRAWL,
                (false, false) => TRAILERS,
            };
            headers.insert(header::TRAILER, HeaderValue::from_static(names));
        }
    }

    pub(crate) const fn is_wanted(self) -> bool {
        self.trailers || self.is_within()
    }

    /// Whether it stands within the stream, before its end.
    pub(crate) const fn is_within(self) -> bool {
        self.comment || self.receipt
    }
}

/// What a call came to, in words.
pub(crate) struct Bill {
    account: AccountRef,
    charge: String,
    /// As it was left by the charge.
    balance: String,
    usage: String,
    call: CallId,
    /// `PAYMENT-RESPONSE` of a settlement that the call did not wait for.
    result: Option<HeaderValue>,
    /// The event with the receipt of a session.
    receipt: Option<String>,
    /// `crawler-charged`, for a crawler (IDN-23).
    crawler: Option<(HeaderName, HeaderValue)>,
}

impl Bill {
    pub(crate) fn of(sum: &Sum, payer: &Payer, call: CallId) -> Self {
        let asset = payer.account.asset();
        Self {
            account: payer.account.clone(),
            charge: format!("{} {asset}", sum.captured.decimal(asset)),
            balance: format!("{} {asset}", sum.available.decimal(asset)),
            usage: facts::usage_line(sum.metered()),
            call,
            result: None,
            crawler: payer.is_crawler().then(|| identity::charged(sum.captured)),
            receipt: payer.session.as_ref().map(|session| {
                let account = &payer.account;
                session.receipt_event(Came { account, charged: sum.captured, at_s: Now::read().seconds() })
            }),
        }
    }

    /// The payment is decided, and what that brought is in the balance.
    pub(crate) fn settled(&mut self, result: HeaderValue) {
        let asset = self.account.asset();
        self.balance = format!("{} {asset}", self.account.available().decimal(asset));
        self.result = Some(result);
    }

    pub(crate) fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(4);
        for (name, value) in [
            ("farthing-charge", &self.charge),
            ("farthing-balance", &self.balance),
            ("farthing-usage", &self.usage),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                trailers.insert(name, value);
            }
        }
        trailers.extend(self.crawler.clone());
        trailers
    }

    /// What stands within the stream, before its end.
    pub(crate) fn within(&self, wanted: Epilogue) -> [Bytes; 2] {
        let comment = if wanted.comment { self.comment() } else { Bytes::new() };
        let receipt = self.receipt.clone().filter(|_| wanted.receipt);
        [comment, receipt.map(Bytes::from).unwrap_or_default()]
    }

    /// One line that every reader of event streams skips.
    fn comment(&self) -> Bytes {
        let word = |text: &str| text.replace(' ', "_");
        let mut line = format!(
            ": farthing charge={} balance={} receipt={}",
            word(&self.charge),
            word(&self.balance),
            self.call
        );
        if let Some(result) = self.result.as_ref().and_then(|result| result.to_str().ok()) {
            line.push_str(" payment-response=");
            line.push_str(result);
        }
        if let Some((name, Ok(value))) = self.crawler.as_ref().map(|(name, value)| (name, value.to_str())) {
            line.push_str(&format!("\n: {name}: {value}"));
        }
        line.push_str("\n\n");
        Bytes::from(line)
    }
}

/// Whether a stream ends with a comment that has its bill: SDKs skip it, so it is there for whoever asks (UX-11).
fn takes_comment(asked: &HeaderMap) -> bool {
    asked
        .get("farthing-stream-receipt")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"comment"))
}

fn is_event_stream(answer: &HeaderMap) -> bool {
    let kind = answer.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    let te = headers.get(header::TE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Where the event begins that ends a stream for its reader, so that what stands before it is still read: `[DONE]` of
/// `OpenAI`, `message_stop` of Anthropic. Other streams end with their last event; what stands behind it is read.
pub(crate) fn end_mark(bytes: &[u8]) -> usize {
    const MARKS: [&[u8]; 4] =
        [b"data: [DONE]", b"data:[DONE]", b"event: message_stop", b"event:message_stop"];
    let begins_line = |at: usize| at == 0 || bytes[at - 1] == b'\n';
    let is_mark = |at: &usize| begins_line(*at) && MARKS.iter().any(|mark| bytes[*at..].starts_with(mark));
    (0..bytes.len()).rev().find(is_mark).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::end_mark;

    /// UX-11: before what an SDK reads last, behind what it reads as any other event.
    #[test]
    fn where_a_stream_ends_for_its_reader() {
        for (stream, before) in [
            ("data: {}\n\ndata: [DONE]\n\n", "data: {}\n\n"),
            ("data:[DONE]\n\n", ""),
            ("event: x\ndata: {}\n\nevent: message_stop\ndata: {}\n\n", "event: x\ndata: {}\n\n"),
            ("data: \"data: [DONE]\"\n\n", "data: \"data: [DONE]\"\n\n"),
            ("event: response.completed\ndata: {}\n\n", "event: response.completed\ndata: {}\n\n"),
            ("", ""),
        ] {
            assert_eq!(&stream[..end_mark(stream.as_bytes())], before);
        }
    }
}
