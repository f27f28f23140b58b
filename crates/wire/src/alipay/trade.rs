//! What answers tell of trades and refunds.

use serde::Deserialize;

use super::{Answer, Fen, OwnNumber, Said};

/// Longest text of a code.
const QR_BYTES_MAX: usize = 512;
/// Longest number that Alipay gives a trade.
const TRADE_NO_BYTES_MAX: usize = 64;

/// What a payer scans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qr {
    /// `https://qr.alipay.com/...`: to be drawn, and never fetched by us.
    pub code: String,
}

/// A trade as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trade {
    /// Alipay's number: what a payment is known by, once for all (RAIL-9).
    pub trade_no: String,
    /// Where it stands.
    pub status: TradeStatus,
    /// What it is about in all.
    pub fen: Fen,
}

/// Where a trade stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeStatus {
    /// Scanned, and not paid.
    WaitBuyerPay,
    /// Never paid, or all of it went back.
    Closed,
    /// Paid; part of it may have gone back.
    Success,
    /// Paid, and too long ago for refunds.
    Finished,
}

impl TradeStatus {
    /// Reads `TRADE_SUCCESS`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "WAIT_BUYER_PAY" => Some(Self::WaitBuyerPay),
            "TRADE_CLOSED" => Some(Self::Closed),
            "TRADE_SUCCESS" => Some(Self::Success),
            "TRADE_FINISHED" => Some(Self::Finished),
            _ => None,
        }
    }

    /// Whether the money is there: the only states that credit.
    #[must_use]
    pub const fn is_paid(self) -> bool {
        match self {
            Self::Success | Self::Finished => true,
            Self::WaitBuyerPay | Self::Closed => false,
        }
    }
}

/// A refund as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refunded {
    /// Whether the money has gone back. If not, it may be under way: to be asked about again, under the same number.
    pub moved: bool,
    /// The sum of this refund, where the answer names it.
    pub fen: Option<Fen>,
}

#[derive(Deserialize)]
struct PrecreateAnswer {
    out_trade_no: String,
    qr_code: String,
}

#[derive(Deserialize)]
struct QueryAnswer {
    out_trade_no: String,
    trade_no: String,
    trade_status: String,
    total_amount: String,
}

#[derive(Deserialize)]
struct CloseAnswer {
    out_trade_no: String,
}

#[derive(Deserialize)]
struct RefundAnswer {
    out_trade_no: String,
    #[serde(default)]
    fund_change: String,
}

#[derive(Deserialize)]
struct RefundQueryAnswer {
    #[serde(default)]
    out_trade_no: Option<String>,
    #[serde(default)]
    out_request_no: Option<String>,
    #[serde(default)]
    refund_amount: Option<String>,
    #[serde(default)]
    refund_status: Option<String>,
}

/// What the answers to our calls say, each of which must be about what was asked for.
impl Answer<'_> {
    /// Of [`super::Precreate`].
    #[must_use]
    pub fn precreated(&self, asked: &OwnNumber) -> Said<Qr> {
        self.said(|answer: PrecreateAnswer| {
            let code = answer.qr_code;
            let is_code = code.starts_with("https://")
                && code.len() <= QR_BYTES_MAX
                && code.bytes().all(|byte| byte.is_ascii_graphic());
            (answer.out_trade_no == asked.as_str() && is_code).then_some(Qr { code })
        })
    }

    /// Of [`super::Query`].
    #[must_use]
    pub fn queried(&self, asked: &OwnNumber) -> Said<Trade> {
        self.said(|answer: QueryAnswer| {
            if answer.out_trade_no != asked.as_str() {
                return None;
            }
            Some(Trade {
                trade_no: trade_no(answer.trade_no)?,
                status: TradeStatus::parse(&answer.trade_status)?,
                fen: Fen::parse(&answer.total_amount).ok()?,
            })
        })
    }

    /// Of [`super::Close`].
    #[must_use]
    pub fn closed(&self, asked: &OwnNumber) -> Said<()> {
        self.said(|answer: CloseAnswer| (answer.out_trade_no == asked.as_str()).then_some(()))
    }

    /// Of [`super::Refund`]. That it is accepted does not say that money has moved; the sum that the answer names is of
    /// all refunds of the trade and so none of this one's.
    #[must_use]
    pub fn refunded(&self, asked: &OwnNumber) -> Said<Refunded> {
        self.said(|answer: RefundAnswer| {
            let moved = answer.fund_change == "Y";
            (answer.out_trade_no == asked.as_str()).then_some(Refunded { moved, fen: None })
        })
    }

    /// Of [`super::RefundQuery`]. An answer without a status is of a refund that did not move, or not yet.
    #[must_use]
    pub fn refund_queried(&self, trade: &OwnNumber, refund: &OwnNumber) -> Said<Refunded> {
        self.said(|answer: RefundQueryAnswer| {
            let moved = answer.refund_status.as_deref() == Some("REFUND_SUCCESS");
            let is = |told: Option<&str>, asked: &OwnNumber| told.map(|told| told == asked.as_str());
            let named =
                [is(answer.out_trade_no.as_deref(), trade), is(answer.out_request_no.as_deref(), refund)];
            // What has not moved need not be named, but may be no other; what has is named in full.
            if named.contains(&Some(false)) || (moved && named.contains(&None)) {
                return None;
            }
            let fen = match answer.refund_amount {
                Some(text) => Some(Fen::parse(&text).ok()?),
                None => None,
            };
            Some(Refunded { moved, fen })
        })
    }
}

/// It goes into keys, logs and receipts.
pub(super) fn trade_no(text: String) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let is_number = (1..=TRADE_NO_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits);
    is_number.then_some(text)
}
