//! `tempo`/`session` and `solana`/`session`: vouchers on a payment channel. What becomes of them is [`super::super::session`].

use super::super::{Demand, Echo, Offer, Proven, refused};
use crate::admission::Brings;
use crate::challenge::Through;
use crate::config::MppMethod;
use crate::refusal::Refusal;
use wire::mpp::Problem;

/// The challenge of a session; none for what no session can buy (a balance, a refund), or while none can be opened.
pub(super) async fn offer(demand: &Demand<'_>, method: MppMethod) -> Option<Offer> {
    let terms = demand.arrived.snapshot.mpp.as_ref()?.session(method)?;
    match demand.ask.through {
        Through::All | Through::Sessions => terms.offer(demand).await,
        Through::Deposits | Through::Channels => None,
    }
}

/// Whether a credential is one of a channel that pays us, and its voucher genuine.
pub(super) fn verify(demand: &Demand<'_>, echo: &Echo) -> Result<Proven, Refusal> {
    let terms = demand.arrived.snapshot.mpp.as_ref().and_then(|desk| desk.session(echo.method));
    let terms = terms.ok_or_else(|| {
        let detail = "Payments by this method are not taken here.";
        refused(Problem::MethodUnsupported, "method_unsupported", detail)
    })?;
    let presented = terms.read(demand.gate, echo)?;
    // From here on its payer is told where the channel stands, whatever comes of it.
    if let Some(shown) = presented.shown() {
        let _ = demand.arrived.session.set(shown);
    }
    // A call is not a place for what is about the channel alone, and what sells none is no place for a call's voucher.
    if demand.ask.through == Through::All && !presented.may_pay() {
        let detail = "This is about a session alone: send it without anything to buy.";
        return Err(refused(Problem::BadRequest, "no_payment", detail));
    }
    Ok(Proven::Brings(Brings::Session(Box::new(presented))))
}
