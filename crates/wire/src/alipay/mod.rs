//! Alipay's Open Platform, gateway v2: QR pay in yuan (rails.md section 4).
//!
//! ```text
//! POST /gateway.do   app_id, method, charset, sign_type, timestamp, version, notify_url, biz_content, sign   (a form)
//! 200  {"alipay_trade_precreate_response":{"code":"10000", ...},"sign":"<base64>"}
//! POST <notify_url>  out_trade_no, trade_no, trade_status, total_amount, ..., sign, sign_type                (a form)
//! ```
//! What is signed is text that somebody else wrote: here it is cut out or put together, never written anew (RAIL-1).
//! Whether a signature is genuine is decided in `rails::rsa2`. Rule numbers are those of `specs/alipay.md`.

mod answer;
mod content;
mod fen;
mod notice;
mod number;
mod request;
mod trade;

pub use answer::{Answer, AnswerError, Refusal, Said, TurnedAway};
pub use content::{Close, Precreate, Query, Refund, RefundQuery};
pub use fen::{Fen, FenError};
pub use notice::{NOTICE_BYTES_MAX, Notice, NoticeError, RefundMark, SignedNotice};
pub use number::OwnNumber;
pub use request::{Params, Request};
pub use trade::{Qr, Refunded, Trade, TradeStatus};

/// The one algorithm that is asked for and believed: SHA256withRSA (RAIL-3).
pub const SIGN_TYPE: &str = "RSA2";
/// The reply that ends the resending of a notice: these bytes and no others.
pub const NOTICE_TAKEN: &str = "success";
/// The reply that asks for the notice again.
pub const NOTICE_AGAIN: &str = "failure";

/// The calls that we make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Makes the QR code of a trade.
    Precreate,
    /// How a trade stands.
    Query,
    /// Nobody may pay a trade any more.
    Close,
    /// Part of a paid trade back to who paid it.
    Refund,
    /// How a refund stands.
    RefundQuery,
}

impl Method {
    /// Its name in a request.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Precreate => "alipay.trade.precreate",
            Self::Query => "alipay.trade.query",
            Self::Close => "alipay.trade.close",
            Self::Refund => "alipay.trade.refund",
            Self::RefundQuery => "alipay.trade.fastpay.refund.query",
        }
    }

    /// The member of an answer that is about it.
    #[must_use]
    pub const fn answer(self) -> &'static str {
        match self {
            Self::Precreate => "alipay_trade_precreate_response",
            Self::Query => "alipay_trade_query_response",
            Self::Close => "alipay_trade_close_response",
            Self::Refund => "alipay_trade_refund_response",
            Self::RefundQuery => "alipay_trade_fastpay_refund_query_response",
        }
    }
}

/// The text that a signature is over: sorted by name, values as they are, joined with `=` and `&`.
fn signed_text<'t>(fields: impl Iterator<Item = (&'t str, &'t str)>) -> String {
    let mut fields: Vec<(&str, &str)> = fields.collect();
    fields.sort_unstable();
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        text.push_str(value);
    }
    text
}

#[cfg(test)]
mod tests;
