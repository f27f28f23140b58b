//! What is left in a payment channel, for its payer: the same 402 as everywhere, and a refund in place of a call
//! (X402-22). Stock clients ask with `GET` and without a body.

use std::sync::Arc;

use http::Response;
use money::Amount;

use crate::admission;
use crate::body::GateBody;
use crate::call::{Arrived, Worker};
use crate::challenge::{Ask, Through, challenge};
use crate::identity::Content;
use crate::payments::{self, Arrival, Delivery};
use crate::refusal::{Code, Money, Refusal};
use crate::serving::refunded;

/// What the offers ask for: nothing is charged, and an offer of nothing would be none.
const TOKEN_PRICE: Amount = Amount::from_units(1);

/// Gives back what is left in a channel.
pub(super) async fn refund(worker: &Worker, arrived: &Arrived) -> Result<Response<GateBody>, Refusal> {
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    let slot = admission::slot(gate, snapshot)?;
    let ask = Ask::of_endpoint(arrived, TOKEN_PRICE, Through::Channels, "refund");
    let unpaid = async |refusal| challenge(gate, arrived, &ask, refusal).await;
    let presented = admission::credentials(worker, arrived)?;
    let payer = admission::key_payer(worker, arrived, &presented, Content::Unread)?;
    let Some(payment) = presented.payment else {
        if presented.malformed {
            return Err(unpaid(admission::undecodable()).await);
        }
        let detail = "Send a refund request of your channel to have back what is left in it.";
        return Err(unpaid(Refusal::new(Code::PaymentRequired, detail)).await);
    };
    let fingerprint = *ask.fingerprint();
    let verified = admission::verify(worker, arrived, payment, &ask).await?;
    if !verified.asks_for_refund() {
        return Err(Refusal::new(Code::BadRequest, "Nothing is sold here: only refunds are made."));
    }
    let delivery = Delivery { payer, fingerprint, asked: None, for_call: false, now: arrived.now };
    let (in_gate, in_snapshot) = (Arc::clone(gate), Arc::clone(snapshot));
    // A client that hangs up must not stop it halfway.
    let task = tokio::task::spawn_local(async move {
        let _slot = slot;
        match payments::receive(&in_gate, &in_snapshot, verified, delivery).await? {
            Arrival::Refunded(headers) => Ok(refunded(headers)),
            Arrival::Deposited(_) | Arrival::Promised(_) | Arrival::Answered(_) | Arrival::Done(_) => {
                Err(Refusal::new(Code::Internal, "A refund became something else."))
            }
        }
    });
    let cut = |_| Refusal::new(Code::Internal, "The refund was cut short.").money(Money::Unknown);
    let ended: Result<_, Refusal> = task.await.map_err(cut)?;
    match ended {
        Err(refusal) if refusal.lacks_offers() => Err(unpaid(refusal).await),
        ended => ended,
    }
}
