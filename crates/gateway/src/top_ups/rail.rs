//! What a rail that sells balance by order can be asked: the one place that knows which there are.

use std::time::Duration;

use money::Asset;
use rails::alipay::{Alipay, Order, Outcome};
use wire::alipay::{Fen, NOTICE_AGAIN, NOTICE_TAKEN, OwnNumber, TradeStatus};

use crate::snapshot::Snapshot;

/// Families of rails, as orders name them.
pub(crate) const FAMILIES: [&str; 1] = ["alipay"];

/// A rail that is configured.
#[derive(Clone, Copy)]
pub(crate) enum Rail<'s> {
    /// QR codes of Alipay's Open Platform, in yuan.
    Alipay {
        /// The app.
        app: &'s Alipay,
        /// What payers are shown.
        subject: &'s str,
    },
}

/// What came of asking for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// What the payer scans.
    Qr(String),
    /// The rail does not make it.
    Refused,
    /// It is made or not; nobody has its code.
    Unknown,
}

/// How an order stands at its rail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// Paid.
    Paid(RailPayment),
    /// Scanned, and not paid.
    Payable,
    /// Nobody has scanned it.
    Absent,
    /// Nobody paid, and nobody can any more.
    Over,
    /// The rail did not say.
    Unknown,
}

/// Money that a rail says it has for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RailPayment {
    /// What the rail calls it (RAIL-9).
    pub(crate) reference: String,
    pub(crate) currency: Asset,
    /// In its minor unit.
    pub(crate) minor: u64,
}

/// What a notice of a rail tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notified {
    /// That an order was paid; none: not one of ours.
    Paid(Option<[u8; 16]>, RailPayment),
    /// Of nothing that came in: that an order waits or is over, that something went back.
    NotPaid,
    /// It is not believed. Whether the rail is to take that for an answer.
    Refused { is_final: bool },
}

/// What a rail says of a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The money has gone back.
    Moved,
    /// Not yet.
    Accepted,
    /// It has not and will not: why.
    Refused(String),
    /// The rail did not say.
    Unknown,
}

impl<'s> Rail<'s> {
    /// The rail of this family, as it is configured now.
    pub(crate) fn named(snapshot: &'s Snapshot, family: &str) -> Option<Self> {
        match family {
            "alipay" => {
                let (app, config) = (snapshot.alipay.as_ref()?, snapshot.config.rails.alipay.as_ref()?);
                Some(Self::Alipay { app, subject: &config.subject })
            }
            _ => None,
        }
    }

    pub(super) const fn family(self) -> &'static str {
        match self {
            Self::Alipay { .. } => "alipay",
        }
    }

    /// What is paid there.
    pub(super) const fn currency(self) -> Asset {
        match self {
            Self::Alipay { .. } => Asset::Cny,
        }
    }

    /// A sum as the rail takes it, in its minor unit; never rounded (FIN-5).
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn minor(self, text: &str) -> Result<u64, String> {
        match self {
            Self::Alipay { .. } => Fen::parse(text).map(Fen::get).map_err(|error| error.to_string()),
        }
    }

    /// Asks for the code of an order. Asked again it is the same order.
    pub(super) async fn make(self, id: &[u8; 16], minor: u64, payable: Duration) -> Made {
        let Self::Alipay { app, subject } = self;
        let (Some(number), Ok(fen)) = (number(id), Fen::new(minor)) else { return Made::Refused };
        match app.precreate(&Order { out_trade_no: &number, fen, subject, payable }).await {
            Outcome::Decided(qr) => Made::Qr(qr.code),
            Outcome::Refused(why) => {
                tracing::error!(code = why.sub_code, "Alipay makes no code for an order");
                Made::Refused
            }
            Outcome::Unknown(_) => Made::Unknown,
        }
    }

    /// How an order stands.
    pub(super) async fn look(self, id: &[u8; 16]) -> Stands {
        let Self::Alipay { app, .. } = self;
        let Some(number) = number(id) else { return Stands::Unknown };
        match app.query(&number).await {
            Outcome::Decided(trade) => match trade.status {
                TradeStatus::Success | TradeStatus::Finished => {
                    let (reference, minor) = (trade.trade_no, trade.fen.get());
                    Stands::Paid(RailPayment { reference, currency: self.currency(), minor })
                }
                TradeStatus::WaitBuyerPay => Stands::Payable,
                TradeStatus::Closed => Stands::Over,
            },
            Outcome::Refused(why) if why.is_no_such_trade() => Stands::Absent,
            Outcome::Refused(_) | Outcome::Unknown(_) => Stands::Unknown,
        }
    }

    /// Makes sure that nobody pays an order that was scanned. True: nobody can.
    pub(super) async fn close(self, id: &[u8; 16]) -> bool {
        let Self::Alipay { app, .. } = self;
        let Some(number) = number(id) else { return false };
        matches!(app.close(&number).await, Outcome::Decided(()))
    }

    /// Reads a notice: whether the rail has signed it, for us, comes first (RAIL-2).
    pub(super) fn notice(self, body: &[u8]) -> Notified {
        let Self::Alipay { app, .. } = self;
        match app.notice(body) {
            Ok(notice) if notice.refund.is_some() || !notice.status.is_paid() => Notified::NotPaid,
            Ok(notice) => {
                let order = wire::hex::decode_array(notice.out_trade_no.as_str()).ok();
                let (reference, minor) = (notice.trade_no, notice.fen.get());
                Notified::Paid(order, RailPayment { reference, currency: self.currency(), minor })
            }
            Err(why) => {
                tracing::warn!(%why, "a notice of Alipay's is not believed");
                Notified::Refused { is_final: why.is_final() }
            }
        }
    }

    /// What a notice is answered with: that it was taken, or that it is to come again.
    pub(super) const fn word(self, is_taken: bool) -> &'static str {
        match self {
            Self::Alipay { .. } if is_taken => NOTICE_TAKEN,
            Self::Alipay { .. } => NOTICE_AGAIN,
        }
    }

    /// Sends part of what an order has brought back to who paid it. Asked again it is the same refund.
    pub(super) async fn refund(self, order: &[u8; 16], id: &[u8; 16], minor: u64) -> Told {
        let Self::Alipay { app, .. } = self;
        let (Some(trade), Some(number), Ok(fen)) = (number(order), number(id), Fen::new(minor)) else {
            return Told::Refused("the sum cannot be moved".to_owned());
        };
        told(app.refund(&trade, &number, fen, "refund of unused credit").await, minor)
    }

    /// How a refund stands.
    pub(super) async fn refund_look(self, order: &[u8; 16], id: &[u8; 16], minor: u64) -> Told {
        let Self::Alipay { app, .. } = self;
        let (Some(trade), Some(number)) = (number(order), number(id)) else { return Told::Unknown };
        told(app.refund_query(&trade, &number).await, minor)
    }
}

/// Accepted is not moved (FIN-35), and another sum is not this refund.
fn told(outcome: Outcome<wire::alipay::Refunded>, minor: u64) -> Told {
    match outcome {
        Outcome::Decided(refunded) if !refunded.moved => Told::Accepted,
        Outcome::Decided(refunded) if refunded.fen.is_some_and(|fen| fen.get() != minor) => {
            tracing::error!(minor, "ALARM: Alipay says that it has refunded another sum");
            Told::Unknown
        }
        Outcome::Decided(_) => Told::Moved,
        Outcome::Refused(why) => Told::Refused(why.sub_code),
        Outcome::Unknown(_) => Told::Unknown,
    }
}

/// What orders and refunds are called there: hex digits.
fn number(id: &[u8; 16]) -> Option<OwnNumber> {
    OwnNumber::new(wire::hex::encode(id))
}
