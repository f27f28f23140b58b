//! Balance for a payment, without a call.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use money::{Amount, Asset};
use serde_json::json;
use store::Outcome;

use crate::admission::{self, Brings};
use crate::body::GateBody;
use crate::call::{Arrived, Worker};
use crate::cashu;
use crate::challenge::{Ask, Through, challenge};
use crate::clock::Now;
use crate::extensions::offers::Notary;
use crate::facts;
use crate::idempotency;
use crate::identity::Content;
use crate::landing::write_in_background;
use crate::lightning::{self, Door};
use crate::mpp::{self, Paid, Proven};
use crate::payments::{self, Arrival, Brought, Delivery, Deposit, Ending, Joined, Spends};
use crate::refusal::{Code, Facts, Money, Refusal};
use crate::replays::{Answer, Head, Worth};

/// What it sells, to the payer and in the quote.
pub(super) const NAME: &str = "balance";
/// Deposit that a top-up asks for when its query names none, and the most it may name.
const TOP_UP_USUAL: Amount = Amount::from_units(1_000_000_000);
const TOP_UP_MAX: Amount = Amount::from_units(1_000_000_000_000);

/// Sells nothing but balance: the same 402, and the whole deposit stays.
pub(super) async fn top_up(worker: &Worker, arrived: &Arrived) -> Result<Response<GateBody>, Refusal> {
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    let slot = admission::slot(gate, snapshot)?;
    let amount = asked_amount(arrived)?;
    let ask = Ask::of_endpoint(arrived, amount, Through::Deposits, NAME);
    let unpaid = async |refusal| challenge(gate, arrived, &ask, refusal).await;
    let presented = admission::credentials(worker, arrived)?;
    let payer = admission::key_payer(worker, arrived, &presented, Content::Unread)?;
    let brings = match admission::paid_token(worker, arrived, &presented, Content::Unread) {
        Ok(Some(token)) => Some(Brings::Lightning(Box::new(Door::Token(token)), Spends::Again)),
        Ok(None) => None,
        Err(refusal) if refusal.lacks_offers() => return Err(unpaid(refusal).await),
        Err(refusal) => return Err(refusal),
    };
    let brings = match (brings, presented.payment) {
        (None, Some(payment)) => {
            let verified = admission::verify(worker, arrived, payment, &ask).await?;
            Some(Brings::Payment(Box::new(verified)))
        }
        (brings, _) => brings,
    };
    let brings = match (brings, presented.ecash) {
        (None, Some(token)) => {
            let paid = admission::ecash(worker, arrived, token, &ask).await?;
            Some(Brings::Ecash(Box::new(paid)))
        }
        (brings, _) => brings,
    };
    let (brings, told) = match (brings, presented.mpp) {
        (None, Some(Ok(credential))) => match mpp::verify(worker, arrived, *credential, &ask).await? {
            (Proven::Brings(brings), told) => (Some(brings), Some(told)),
            (Proven::Opens | Proven::Draws(_), _) => (None, None),
        },
        (None, Some(Err(error))) => return Err(unpaid(mpp::undecodable(error)).await),
        (brings, _) => (brings, None),
    };
    let Some(brings) = brings else {
        if presented.malformed {
            return Err(unpaid(admission::undecodable()).await);
        }
        let asset = snapshot.tills.first().map_or(Asset::Usd, |till| till.asset);
        let facts = Facts { need: Some((amount, asset)), ..Facts::default() };
        let detail = format!("Pay {} {asset} to add it to a balance.", amount.short(asset));
        return Err(unpaid(Refusal::new(Code::PaymentRequired, detail).facts(facts)).await);
    };
    // A proof that is in already costs whoever shows it nothing.
    let id = payer.as_ref().map_or_else(|| brings.account(), |payer| payer.account.id());
    snapshot.limiters.account(id).admit_read()?;
    let protocol = brings.protocol();
    let fingerprint = *ask.fingerprint();
    let delivery = Delivery { payer, fingerprint, asked: None, for_call: false, now: arrived.now };
    let notary = Notary::of(gate, snapshot, &arrived.target);
    let (in_gate, in_snapshot, call) = (Arc::clone(gate), Arc::clone(snapshot), arrived.call);
    // A client that hangs up must not stop a settlement halfway.
    let task = tokio::task::spawn_local(async move {
        let (gate, snapshot, _slot) = (in_gate, in_snapshot, slot);
        let arrival = match brings {
            Brings::Payment(verified) => payments::receive(&gate, &snapshot, *verified, delivery).await?,
            Brings::Ecash(paid) => cashu::receive(&gate, &snapshot, *paid, delivery).await?,
            Brings::Granted(granted) => mpp::processor::receive(&gate, &snapshot, *granted, delivery).await?,
            Brings::Lightning(door, spends) => {
                lightning::receive(&gate, &snapshot, &door, delivery, spends).await?
            }
            // They are not offered here.
            Brings::LightningSession(_) | Brings::Session(_) => {
                return Err(Refusal::new(Code::Internal, "A session is no balance."));
            }
        };
        let deposit = match arrival {
            Arrival::Answered(before) => return before.answer(&gate, "topup"),
            Arrival::Done(answer) => return Ok(*answer),
            Arrival::Deposited(deposit) => deposit,
            // Neither a promise nor a channel is offered here.
            Arrival::Promised(_) => return Err(Refusal::new(Code::Internal, "A promise is no balance.")),
            Arrival::Refunded(_) => return Err(Refusal::new(Code::Internal, "A top-up gives nothing back.")),
        };
        let account = deposit.account.clone();
        let asset = account.asset();
        let body = json!({
            "account": account.id().to_string(),
            "protocol": protocol,
            "deposited": facts::amount(told_of(&deposit), asset),
            "balance": facts::amount(gate.book.balance(&account).available, asset),
        });
        let mut response = Response::new(Bytes::from(body.to_string()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers_mut().extend(deposit.headers.clone());
        if let Some(notary) = notary {
            notary.confirm_in(response.headers_mut());
        }
        if let Some(told) = told {
            let balance = gate.book.balance(&account).available;
            let (reference, now) = (deposit.reference.clone(), Now::read());
            let paid = Paid { reference, call: None, held: None, balance, asset, session: None, now };
            told.tell(response.headers_mut(), StatusCode::OK, &paid);
        }
        let head = Head::copy(StatusCode::OK, response.headers(), |_| true);
        let headers = idempotency::headers_to_store(&head);
        if is_told_again(deposit.spends) {
            gate.replays.keep(call, Answer { head, body: response.body().clone() }, Worth::Named);
        }
        let outcome = Outcome { status: StatusCode::OK.as_u16(), headers, call: call.0 };
        let ending = Ending::of(Some(Brought::Deposit(deposit)), None, outcome);
        let Joined { write, waits, .. } = ending.join(&gate, None, Amount::ZERO);
        if let Some(end) = write {
            write_in_background(&gate, end, waits)
                .await
                .map_err(|error| payments::store_refusal(&error).money(Money::DepositKept))?;
        }
        Ok(response)
    });
    let cut = |_| Refusal::new(Code::Internal, "The top-up was cut short.").money(Money::Unknown);
    let ended = task.await.map_err(cut)?;
    let ended: Result<Response<Bytes>, Refusal> =
        ended.inspect_err(|refusal| admission::count_refused(arrived, refusal));
    match ended {
        Ok(response) => Ok(response.map(GateBody::whole)),
        Err(refusal) if refusal.lacks_offers() => Err(unpaid(refusal).await),
        Err(refusal) => Err(refusal),
    }
}

/// What a top-up has brought in. What opens its payment again and again brings it in once; of any other payment one answer
/// tells, whether the money came in with it or with a try that was cut short.
fn told_of(deposit: &Deposit) -> Amount {
    match deposit.spends {
        Spends::Again | Spends::OnceCharged if !deposit.is_new => Amount::ZERO,
        Spends::Once | Spends::OnceCharged | Spends::Again => deposit.amount,
    }
}

/// Whether the same proof is told the same again: then the answer is kept, beside those of other payers.
const fn is_told_again(spends: Spends) -> bool {
    match spends {
        Spends::Once => true,
        Spends::OnceCharged | Spends::Again => false,
    }
}

fn asked_amount(arrived: &Arrived) -> Result<Amount, Refusal> {
    let query = arrived.target.split_once('?').map_or("", |(_, query)| query);
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("amount="));
    let Some(text) = asked else { return Ok(TOP_UP_USUAL) };
    let bad = || Refusal::new(Code::BadRequest, "The amount is a decimal number of dollars, at most 1000.");
    let units = money::Decimal::parse(text).ok().and_then(|decimal| decimal.exact(9)).ok_or_else(bad)?;
    let amount = Amount::from_wide(units).map_err(|_| bad())?;
    if amount <= Amount::ZERO || amount > TOP_UP_MAX { Err(bad()) } else { Ok(amount) }
}

#[cfg(test)]
mod tests {
    use super::is_told_again;
    use crate::payments::Spends;

    /// Answers that nobody can ask for again would push out those that somebody can.
    #[test]
    fn only_what_can_be_asked_for_again_is_kept() {
        assert!(is_told_again(Spends::Once));
        assert!(!is_told_again(Spends::Again) && !is_told_again(Spends::OnceCharged));
    }
}
