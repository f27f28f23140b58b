//! A payment by our node: ordered once, and its end told only where it is certain.

use std::time::Duration;

use wire::l402::{PaymentHash, Preimage};

use super::port::{NodeError, Outgoing, Sent};

/// How long a node may look for a way.
pub(super) const PAY_S: u64 = 60;
/// How long its answer is waited for.
pub(super) const PAY_TIME_MAX: Duration = Duration::from_secs(PAY_S + 15);

/// What the node is to pay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    pub bolt11: &'a str,
    pub payment_hash: [u8; 32],
    pub amount_msat: u64,
    /// Whether the invoice leaves the amount to the payer: then the node has to be told.
    pub leaves_amount: bool,
    pub max_fee_msat: u64,
}

/// What came of an order.
#[derive(Debug)]
pub(super) enum Ordered {
    /// Nothing was sent to the node, for this reason.
    Never(String),
    /// It says that it paid.
    Paid { preimage: Preimage, fee_msat: u64 },
    /// It says no, or that it did so before: what it knows of the payment tells which.
    Answered(String),
    /// No whole answer.
    Lost,
}

impl Ordered {
    /// How an order ended that no answer was read of.
    pub(super) fn of(error: NodeError) -> Self {
        match error {
            NodeError::NotAsked => Self::Never("the node cannot be reached".to_owned()),
            NodeError::Refused(reason) => Self::Answered(reason),
            NodeError::Lost | NodeError::Lied(_) => Self::Lost,
        }
    }

    /// What may be said for certain. `known` is what the node knows of the payment afterwards, where that was asked.
    pub(super) fn end(self, payment_hash: &[u8; 32], known: Option<Result<Outgoing, NodeError>>) -> Sent {
        match (self, known) {
            (Self::Never(reason), _) => Sent::Failed(reason),
            (Self::Paid { preimage, fee_msat }, _)
            | (Self::Answered(_) | Self::Lost, Some(Ok(Outgoing::Paid { preimage, fee_msat }))) => {
                proven(preimage, payment_hash, fee_msat)
            }
            (Self::Answered(reason), Some(Ok(Outgoing::Failed(_) | Outgoing::Absent))) => {
                Sent::Failed(reason)
            }
            (Self::Answered(_), Some(Ok(Outgoing::UnderWay) | Err(_)) | None) => Sent::Unknown,
            // The order may still be on its way, whatever the node knows by now.
            (Self::Lost, _) => Sent::Unknown,
        }
    }

    /// Whether the node has to be asked what it knows.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Answered(_) | Self::Lost)
    }
}

impl Outgoing {
    /// The same, if a payment is proved: one that only claims to have arrived may be anything.
    pub(super) fn proven(self, payment_hash: &[u8; 32]) -> Self {
        match self {
            Self::Paid { preimage, .. } if preimage.payment_hash() != PaymentHash(*payment_hash) => {
                Self::UnderWay
            }
            Self::Paid { .. } | Self::Failed(_) | Self::UnderWay | Self::Absent => self,
        }
    }
}

/// A node that says paid without the preimage has proved nothing.
fn proven(preimage: Preimage, payment_hash: &[u8; 32], fee_msat: u64) -> Sent {
    if preimage.payment_hash() == PaymentHash(*payment_hash) {
        Sent::Paid { preimage, fee_msat }
    } else {
        Sent::Unknown
    }
}

#[cfg(test)]
mod tests {
    use wire::l402::Preimage;

    use super::{NodeError, Ordered, Outgoing, Sent};

    #[test]
    fn only_what_is_certain_is_told() {
        let good = || Preimage::new([7; 32]);
        let hash = good().payment_hash().0;
        let paid = |preimage: Preimage| Outgoing::Paid { preimage, fee_msat: 3 };
        let no = || Ordered::Answered("no".to_owned());
        let failed = || Outgoing::Failed("old".to_owned());
        for (case, ordered, known, expected) in [
            ("never sent", Ordered::Never("down".to_owned()), None, "failed"),
            ("paid", Ordered::Paid { preimage: good(), fee_msat: 3 }, None, "paid"),
            (
                "wrong preimage",
                Ordered::Paid { preimage: Preimage::new([8; 32]), fee_msat: 3 },
                None,
                "unknown",
            ),
            ("paid before", no(), Some(Ok(paid(good()))), "paid"),
            ("paid before, not proven", no(), Some(Ok(paid(Preimage::new([8; 32])))), "unknown"),
            ("refused, never begun", no(), Some(Ok(Outgoing::Absent)), "failed"),
            ("refused, and failed", no(), Some(Ok(failed())), "failed"),
            ("refused, but under way", no(), Some(Ok(Outgoing::UnderWay)), "unknown"),
            ("refused, and silent", no(), Some(Err(NodeError::Lost)), "unknown"),
            ("lost, then paid", Ordered::Lost, Some(Ok(paid(good()))), "paid"),
            ("lost, not there yet", Ordered::Lost, Some(Ok(Outgoing::Absent)), "unknown"),
            ("lost, an older one failed", Ordered::Lost, Some(Ok(failed())), "unknown"),
            ("lost, under way", Ordered::Lost, Some(Ok(Outgoing::UnderWay)), "unknown"),
            ("lost, and silent", Ordered::Lost, Some(Err(NodeError::NotAsked)), "unknown"),
        ] {
            let end = match ordered.end(&hash, known) {
                Sent::Paid { fee_msat: 3, .. } => "paid",
                Sent::Paid { .. } => "paid for another fee",
                Sent::Failed(_) => "failed",
                Sent::Unknown => "unknown",
            };
            assert_eq!(end, expected, "{case}");
        }
    }
}
