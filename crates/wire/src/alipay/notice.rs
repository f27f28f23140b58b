//! What Alipay tells of a trade on its own: a form at our `notify_url`, signed.

use super::trade::trade_no;
use super::{Fen, FenError, OwnNumber, SIGN_TYPE, TradeStatus, signed_text};
use crate::form::{self, FormError};

/// Largest notice that is read at all (RAIL-7).
pub const NOTICE_BYTES_MAX: usize = 64 * 1024;
/// Most fields of one.
const FIELDS_MAX: usize = 128;
/// What only notices of refunds have.
const REFUND_MARKS: [&str; 3] = ["refund_fee", "gmt_refund", "out_biz_no"];

/// A notice taken apart. Nothing in it is believed before its signature is.
#[derive(Clone, Debug)]
pub struct SignedNotice {
    fields: Vec<(String, String)>,
}

/// What a genuine notice tells. That it is genuine does not say that it credits: whose it is, which order it is of, its
/// state, that it is of no refund and its sum are looked at by whoever has the order (RAIL-5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Of which app.
    pub app_id: String,
    /// Who is paid.
    pub seller_id: String,
    /// Our number of the trade.
    pub out_trade_no: OwnNumber,
    /// Alipay's.
    pub trade_no: String,
    /// Where the trade stands.
    pub status: TradeStatus,
    /// What the trade is about in all.
    pub fen: Fen,
    /// What only notices of refunds have. Such a notice repeats `TRADE_SUCCESS` and never credits.
    pub refund: Option<RefundMark>,
}

/// What a notice of a refund tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundMark {
    /// Our number of the refund, where it stands there and is one of ours.
    pub out_request_no: Option<OwnNumber>,
    /// All that has gone back of the trade so far, not in this refund alone.
    pub total: Option<Fen>,
}

/// Why bytes are no notice. Holds no part of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// Longer than [`NOTICE_BYTES_MAX`].
    #[error("longer than {NOTICE_BYTES_MAX} bytes")]
    TooLong,
    /// Not a form.
    #[error("{0}")]
    Form(#[from] FormError),
    /// `sign_type` is not `RSA2`: the algorithm is pinned (RAIL-3).
    #[error("sign_type is not {SIGN_TYPE}")]
    Algorithm,
    /// Nothing to verify.
    #[error("not signed")]
    Unsigned,
    /// A field that a notice of a trade has is absent, or is not what it has to be.
    #[error("{0} is absent or not what it has to be")]
    Field(&'static str),
    /// The sum.
    #[error("total_amount is {0}")]
    Amount(#[from] FenError),
}

impl SignedNotice {
    /// Takes a notice apart: values are decoded once.
    ///
    /// # Errors
    /// [`NoticeError`]
    pub fn read(body: &[u8]) -> Result<Self, NoticeError> {
        if body.len() > NOTICE_BYTES_MAX {
            return Err(NoticeError::TooLong);
        }
        let notice = Self { fields: form::decode(body, FIELDS_MAX)? };
        if notice.field("sign_type") != Some(SIGN_TYPE) {
            return Err(NoticeError::Algorithm);
        }
        if notice.sign().is_empty() {
            return Err(NoticeError::Unsigned);
        }
        Ok(notice)
    }

    /// What the signature is over: all but `sign` and `sign_type`, what is empty too (reference item 24).
    #[must_use]
    pub fn string_to_verify(&self) -> String {
        let fields = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        signed_text(fields.filter(|(name, _)| !matches!(*name, "sign" | "sign_type")))
    }

    /// The signature, base64.
    #[must_use]
    pub fn sign(&self) -> &str {
        self.field("sign").unwrap_or_default()
    }

    /// What it tells, once its signature is genuine.
    ///
    /// # Errors
    /// [`NoticeError::Field`], [`NoticeError::Amount`]: genuine, and no notice of a trade that we could read.
    pub fn open(&self) -> Result<Notice, NoticeError> {
        let text = |name: &'static str| self.field(name).ok_or(NoticeError::Field(name));
        let field = NoticeError::Field;
        Ok(Notice {
            app_id: text("app_id")?.to_owned(),
            seller_id: text("seller_id")?.to_owned(),
            out_trade_no: OwnNumber::new(text("out_trade_no")?).ok_or(field("out_trade_no"))?,
            trade_no: trade_no(text("trade_no")?.to_owned()).ok_or(field("trade_no"))?,
            status: TradeStatus::parse(text("trade_status")?).ok_or(field("trade_status"))?,
            fen: Fen::parse(text("total_amount")?)?,
            refund: self.refund(),
        })
    }

    fn refund(&self) -> Option<RefundMark> {
        REFUND_MARKS.iter().any(|name| self.field(name).is_some()).then(|| RefundMark {
            out_request_no: self.field("out_biz_no").and_then(OwnNumber::new),
            total: self.field("refund_fee").and_then(|text| Fen::parse(text).ok()),
        })
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
