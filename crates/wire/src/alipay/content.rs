//! `biz_content`: what a call is about, as JSON.

use std::time::Duration;

use super::{Fen, Method, OwnNumber};
use crate::json_text;

/// Most letters of a subject or of a reason.
const LETTERS_MAX: usize = 256;

/// A trade that is to be paid by scanning a code.
#[derive(Clone, Copy, Debug)]
pub struct Precreate<'a> {
    /// Ours; never used for another sum.
    pub out_trade_no: &'a OwnNumber,
    /// What is to be paid.
    pub fen: Fen,
    /// What the payer is shown; cut behind 256 letters.
    pub subject: &'a str,
    /// How long it can be paid, counted from now: whole minutes, rounded up, at most 15 days.
    pub payable: Duration,
}

/// How a trade stands.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a>(pub &'a OwnNumber);

/// Nobody may pay a trade any more.
#[derive(Clone, Copy, Debug)]
pub struct Close<'a>(pub &'a OwnNumber);

/// Part of a paid trade, or all of it, back to who paid it.
#[derive(Clone, Copy, Debug)]
pub struct Refund<'a> {
    /// The trade.
    pub out_trade_no: &'a OwnNumber,
    /// The refund; never used for another sum.
    pub out_request_no: &'a OwnNumber,
    /// What is to go back.
    pub fen: Fen,
    /// What the payer is told; cut behind 256 letters.
    pub reason: &'a str,
}

/// How a refund stands.
#[derive(Clone, Copy, Debug)]
pub struct RefundQuery<'a> {
    /// The trade.
    pub out_trade_no: &'a OwnNumber,
    /// The refund.
    pub out_request_no: &'a OwnNumber,
}

impl Precreate<'_> {
    /// The call that it is for.
    pub const METHOD: Method = Method::Precreate;

    /// The JSON of it.
    #[must_use]
    pub fn json(&self) -> String {
        let minutes = minutes(self.payable);
        json_text::object(|content| {
            content.text("out_trade_no", self.out_trade_no.as_str());
            content.shown("total_amount", self.fen);
            content.text("subject", cut(self.subject));
            // The one counts from when the code is made, the other bounds the trade that its scanning makes.
            content.parts("timeout_express", &[&minutes, "m"]);
            content.parts("qr_code_timeout_express", &[&minutes, "m"]);
        })
    }
}

impl Query<'_> {
    /// The call that it is for.
    pub const METHOD: Method = Method::Query;

    /// The JSON of it.
    #[must_use]
    pub fn json(&self) -> String {
        json_text::object(|content| content.text("out_trade_no", self.0.as_str()))
    }
}

impl Close<'_> {
    /// The call that it is for.
    pub const METHOD: Method = Method::Close;

    /// The JSON of it.
    #[must_use]
    pub fn json(&self) -> String {
        json_text::object(|content| content.text("out_trade_no", self.0.as_str()))
    }
}

impl Refund<'_> {
    /// The call that it is for.
    pub const METHOD: Method = Method::Refund;

    /// The JSON of it.
    #[must_use]
    pub fn json(&self) -> String {
        json_text::object(|content| {
            content.text("out_trade_no", self.out_trade_no.as_str());
            content.shown("refund_amount", self.fen);
            content.text("out_request_no", self.out_request_no.as_str());
            content.text("refund_reason", cut(self.reason));
        })
    }
}

impl RefundQuery<'_> {
    /// The call that it is for.
    pub const METHOD: Method = Method::RefundQuery;

    /// The JSON of it.
    #[must_use]
    pub fn json(&self) -> String {
        json_text::object(|content| {
            content.text("out_trade_no", self.out_trade_no.as_str());
            content.text("out_request_no", self.out_request_no.as_str());
        })
    }
}

/// Rounded up, so that no code dies before its order does.
fn minutes(payable: Duration) -> String {
    const DAYS_15: u64 = 15 * 24 * 60;
    payable.as_secs().div_ceil(60).clamp(1, DAYS_15).to_string()
}

fn cut(text: &str) -> &str {
    text.char_indices().nth(LETTERS_MAX).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::{Close, Precreate, Query, Refund, RefundQuery};
    use crate::alipay::{Fen, OwnNumber};
    use std::time::Duration;

    #[test]
    fn contents_are_written_as_alipay_reads_them() {
        let number = OwnNumber::new("topup_1").unwrap();
        let request = OwnNumber::new("rf_1").unwrap();
        let fen = Fen::new(3600).unwrap();
        let precreate = |subject, payable| {
            Precreate { out_trade_no: &number, fen, subject, payable: Duration::from_secs(payable) }.json()
        };
        assert_eq!(
            precreate("a \"b\" 充值", 1_800),
            r#"{"out_trade_no":"topup_1","total_amount":"36.00","subject":"a \"b\" 充值","timeout_express":"30m","qr_code_timeout_express":"30m"}"#
        );
        for (seconds, minutes) in [(0, "\"1m\""), (60, "\"1m\""), (61, "\"2m\""), (u64::MAX, "\"21600m\"")] {
            assert!(precreate("x", seconds).contains(minutes), "{seconds}");
        }
        let long = "值".repeat(300);
        assert!(precreate(&long, 60).contains(&format!("\"{}\"", "值".repeat(256))));
        assert_eq!(Query(&number).json(), r#"{"out_trade_no":"topup_1"}"#);
        assert_eq!(Close(&number).json(), r#"{"out_trade_no":"topup_1"}"#);
        assert_eq!(
            Refund { out_trade_no: &number, out_request_no: &request, fen, reason: "unused" }.json(),
            r#"{"out_trade_no":"topup_1","refund_amount":"36.00","out_request_no":"rf_1","refund_reason":"unused"}"#
        );
        assert_eq!(
            RefundQuery { out_trade_no: &number, out_request_no: &request }.json(),
            r#"{"out_trade_no":"topup_1","out_request_no":"rf_1"}"#
        );
    }
}
