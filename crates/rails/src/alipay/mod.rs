//! Alipay's Open Platform: top-ups by QR code, in yuan (`specs/alipay.md`).
//!
//! Every call names what it is about by a number of ours, so the same call again is the same trade or the same refund.
//! Whatever comes back counts only once Alipay's signature over its raw bytes is genuine; else the outcome is unknown.

mod outcome;

use std::time::{Duration, SystemTime};

use ::http::Method as Verb;
use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use bytes::Bytes;
use wire::alipay::{
    Answer, Close, Fen, Method, Notice, NoticeError, OwnNumber, Precreate, Qr, Query, Refund, RefundQuery,
    Refunded, Request, Said, SignedNotice, Trade,
};

pub use outcome::{NoVerdict, Outcome};

use crate::dial::{Dialer, Origin};
use crate::http::ANSWER_BYTES_MAX;
use crate::rsa2::{SigningKey, VerifyingKey};
use crate::{Exchange, ExchangeError};

/// Most keys of Alipay that are believed at the same time: the new one beside the old one (RAIL-19).
pub const PLATFORM_KEYS_MAX: usize = 4;

/// An app at Alipay, and how it is reached.
#[derive(Clone, Debug)]
pub struct Alipay {
    /// Where the gateway is.
    pub origin: Origin,
    /// `/gateway.do`
    pub path: String,
    /// Who asks.
    pub app_id: String,
    /// Who is paid.
    pub seller_id: String,
    /// What signs our calls.
    pub key: SigningKey,
    /// What verifies Alipay's answers and notices: any of these.
    pub platform_keys: Vec<VerifyingKey>,
    /// Where Alipay sends its notices; none where trades are only asked about.
    pub notify_url: Option<String>,
    /// Opens connections.
    pub dialer: Dialer,
    /// For one call, all of it.
    pub time_max: Duration,
}

/// A trade that somebody is to pay.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Our number of it; never used for another sum.
    pub out_trade_no: &'a OwnNumber,
    /// What is to be paid.
    pub fen: Fen,
    /// What the payer is shown.
    pub subject: &'a str,
    /// How much longer it may be paid; the code lives as long, in whole minutes.
    pub payable: Duration,
}

/// Why bytes are no notice for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeRefused {
    /// Not a signed notice at all.
    #[error("no notice: {0}")]
    Malformed(NoticeError),
    /// Signed by nobody whom we believe.
    #[error("the signature is not Alipay's")]
    Forged,
    /// Genuine, and not of a trade as we know them.
    #[error("a genuine notice that cannot be read: {0}")]
    Unreadable(NoticeError),
    /// Genuine, and of another app or another seller (RAIL-5).
    #[error("a genuine notice of another merchant")]
    Foreign,
}

impl NoticeRefused {
    /// Whether it would be the same if it came again. It helps only where what came was damaged, or is checked by a key
    /// that we do not have yet (RAIL-11).
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Malformed(_) | Self::Forged => false,
            Self::Unreadable(_) | Self::Foreign => true,
        }
    }
}

impl Alipay {
    /// Makes the code of a trade. Asked again with the same number it is the same trade.
    ///
    /// # Errors
    /// None: what is not known is [`Outcome::Unknown`]. It is asked again with the same number.
    ///
    /// # Cancel safety
    /// Dropped midway, the trade may have been made: so with every call here.
    pub async fn precreate(&self, order: &Order<'_>) -> Outcome<Qr> {
        let Order { out_trade_no, fen, subject, payable } = *order;
        let content = Precreate { out_trade_no, fen, subject, payable }.json();
        self.call(Method::Precreate, &content, |answer| answer.precreated(out_trade_no)).await
    }

    /// How a trade stands. A refusal that [`wire::alipay::Refusal::is_no_such_trade`] says that nobody has scanned its
    /// code so far.
    pub async fn query(&self, out_trade_no: &OwnNumber) -> Outcome<Trade> {
        self.call(Method::Query, &Query(out_trade_no).json(), |answer| answer.queried(out_trade_no)).await
    }

    /// Makes sure that nobody pays a trade any more. Alipay refuses for a trade that is paid, and for one that does not
    /// exist because nobody has scanned its code; that code can still be paid until its time is over.
    pub async fn close(&self, out_trade_no: &OwnNumber) -> Outcome<()> {
        self.call(Method::Close, &Close(out_trade_no).json(), |answer| answer.closed(out_trade_no)).await
    }

    /// Sends part of a paid trade back. Accepted is not moved: until [`Refunded::moved`], [`Alipay::refund_query`] tells
    /// (RAIL-18).
    pub async fn refund(
        &self,
        out_trade_no: &OwnNumber,
        out_request_no: &OwnNumber,
        fen: Fen,
        reason: &str,
    ) -> Outcome<Refunded> {
        let content = Refund { out_trade_no, out_request_no, fen, reason }.json();
        self.call(Method::Refund, &content, |answer| answer.refunded(out_trade_no)).await
    }

    /// How a refund stands; of any use from ten seconds after it was asked for.
    pub async fn refund_query(
        &self,
        out_trade_no: &OwnNumber,
        out_request_no: &OwnNumber,
    ) -> Outcome<Refunded> {
        let content = RefundQuery { out_trade_no, out_request_no }.json();
        self.call(Method::RefundQuery, &content, |answer| answer.refund_queried(out_trade_no, out_request_no))
            .await
    }

    /// Reads a notice: the signature over the bytes that came first, then whose it is (RAIL-1, RAIL-2, RAIL-5, RAIL-7).
    /// Which order it is of, and whether it credits, is for whoever has the orders.
    ///
    /// # Errors
    /// [`NoticeRefused`]
    pub fn notice(&self, body: &[u8]) -> Result<Notice, NoticeRefused> {
        let notice = SignedNotice::read(body).map_err(NoticeRefused::Malformed)?;
        if !self.is_alipays(&notice.string_to_verify(), notice.sign()) {
            return Err(NoticeRefused::Forged);
        }
        let notice = notice.open().map_err(NoticeRefused::Unreadable)?;
        if notice.app_id != self.app_id || notice.seller_id != self.seller_id {
            return Err(NoticeRefused::Foreign);
        }
        Ok(notice)
    }

    fn is_alipays(&self, text: &str, sign: &str) -> bool {
        self.platform_keys.iter().any(|key| key.verifies(text, sign))
    }

    async fn call<T>(
        &self,
        method: Method,
        content: &str,
        read: impl FnOnce(&Answer<'_>) -> Said<T>,
    ) -> Outcome<T> {
        let called = tokio::time::timeout(self.time_max, self.exchange(method, content));
        let outcome = match called.await {
            Ok(Ok(body)) => self.judged(method, &body, read),
            Ok(Err(why)) => Outcome::Unknown(why),
            Err(_) => Outcome::Unknown(NoVerdict::NoAnswer),
        };
        if let Outcome::Unknown(why) = &outcome {
            why.log(method);
        }
        outcome
    }

    /// The body of an answer, whoever it is from.
    async fn exchange(&self, method: Method, content: &str) -> Result<Bytes, NoVerdict> {
        let body = self.body(method, content).ok_or(NoVerdict::NotSent)?;
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded;charset=utf-8"),
        );
        let exchange = Exchange {
            origin: &self.origin,
            method: Verb::POST,
            path: &self.path,
            body: body.into(),
            time_max: self.time_max,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        match exchange.run_with(headers, &self.dialer).await {
            Ok(answer) if answer.status == 200 => Ok(answer.body),
            Ok(answer) => Err(NoVerdict::Status(answer.status)),
            Err(ExchangeError::NotSent) => Err(NoVerdict::NotSent),
            Err(ExchangeError::Lost) => Err(NoVerdict::NoAnswer),
        }
    }

    /// What is sent, signed. None where the system has no randomness or no sensible time.
    fn body(&self, method: Method, content: &str) -> Option<String> {
        let notify_url = match method {
            Method::Precreate => self.notify_url.as_deref(),
            Method::Query | Method::Close | Method::Refund | Method::RefundQuery => None,
        };
        let request = Request { app_id: &self.app_id, method, now_s: now_s(), notify_url, content };
        let params = request.params()?;
        let sign = self.key.sign(&params.string_to_sign())?;
        Some(params.form(&sign))
    }

    /// Signature first, meaning second (RAIL-2).
    fn judged<T>(
        &self,
        method: Method,
        body: &[u8],
        read: impl FnOnce(&Answer<'_>) -> Said<T>,
    ) -> Outcome<T> {
        let Ok(text) = std::str::from_utf8(body) else { return Outcome::Unknown(NoVerdict::Forged) };
        let answer = match Answer::read(text, method) {
            Ok(answer) => answer,
            Err(why) => return Outcome::Unknown(NoVerdict::Malformed(why)),
        };
        if !self.is_alipays(answer.signed, &answer.sign) {
            return Outcome::Unknown(NoVerdict::Forged);
        }
        match read(&answer) {
            Said::Done(value) => Outcome::Decided(value),
            Said::Refused(refusal) => Outcome::Refused(refusal),
            Said::TurnedAway(why) => Outcome::Unknown(NoVerdict::TurnedAway(why)),
            Said::Unknown => Outcome::Unknown(NoVerdict::Undecided),
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
