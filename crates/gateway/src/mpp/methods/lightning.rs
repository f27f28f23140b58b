//! `lightning`: an invoice, and the preimage that paying it gives (mpp.md sections 10.1 and 10.2).
//!
//! A `charge` is what a token of L402 over the same invoice is: another door to one claim. A `session` is an account that is
//! opened by it. The invoice is made and checked by the desk of L402, within its budget, and is one for all that a 402
//! offers over Lightning (MPP-21, MPP-27).

use rails::lightning::{Network, bolt11};
use wire::l402::{PaymentHash, Preimage};
use wire::mpp::lightning::{
    CURRENCY, ChargeDetails, ChargePayload, ChargeRequest, SessionPayload, SessionRequest,
};
use wire::mpp::problem::LightningProblem;
use wire::mpp::{CHARGE, Problem, SESSION, payload};

use super::super::{Demand, Echo, Listed, Making, Offer, Proven, refused};
use crate::admission::Brings;
use crate::challenge::Through;
use crate::config::{FixedPrice, MppMethod, RoutePrice};
use crate::lightning::{self, Act, Door, Made, NoInvoice, Paid, What};
use crate::payments::Spends;
use crate::payouts;
use crate::refusal::{Code, Refusal};
use crate::till;

const MSAT_PER_SAT: u64 = 1000;
/// A unit of a session: what a satoshi buys. Tokens cost less than any satoshi.
const UNIT_TYPE: &str = "sat";

/// A charge, or a session, by the invoice of this 402.
pub(super) async fn offers(demand: &Demand<'_>, intent: &'static str) -> Making {
    if intent == SESSION && !has_sessions(demand) {
        return Making::Offers(Vec::new());
    }
    match lightning::invoice(demand.gate, demand.arrived, demand.ask).await {
        Ok(made) => Making::Offers(offer(demand, intent, &made).into_iter().collect()),
        Err(NoInvoice::NotWanted) => Making::Offers(Vec::new()),
        Err(NoInvoice::Spent(wait)) => Making::Spent(wait),
        Err(NoInvoice::Out) => Making::Out,
    }
}

/// What a catalogue says of [`offers`]: an invoice is for a call, so none is made for it, and what one will ask for follows
/// the price of a bitcoin.
pub(super) fn listed(demand: &Demand<'_>, intent: &'static str) -> Option<Listed> {
    let snapshot = &demand.arrived.snapshot;
    let mut tills = snapshot.tills.iter().filter(|till| demand.ask.through.includes(till));
    let till = tills.find(|till| till.method == till::Method::Lightning)?;
    let network = snapshot.config.rails.l402.as_ref().filter(|_| snapshot.lightning.is_some())?.network;
    let is_offered = name_of(network).is_some()
        && (intent == CHARGE || has_sessions(demand))
        && till.ceiling_max().is_none_or(|most| demand.ask.deposit(till) <= most);
    is_offered.then(|| Listed::new(MppMethod::Lightning, intent, Some(CURRENCY.to_owned()), None))
}

/// What is left of a session goes back: so there are none where nothing does. Nor is a balance sold for itself.
fn has_sessions(demand: &Demand<'_>) -> bool {
    let l402 = demand.arrived.snapshot.config.rails.l402.as_ref();
    demand.ask.through == Through::All && l402.is_some_and(|l402| l402.refunds.is_some())
}

fn offer(demand: &Demand<'_>, intent: &'static str, made: &Made) -> Option<Offer> {
    let snapshot = &demand.arrived.snapshot;
    // The desk makes it of whole satoshi wherever this method is taken; a node may not.
    let sats = (made.amount_msat / MSAT_PER_SAT).to_string();
    let is_whole = made.amount_msat.is_multiple_of(MSAT_PER_SAT);
    let network = snapshot.config.rails.l402.as_ref().filter(|_| is_whole)?.network;
    let payment_hash = wire::hex::encode(&made.payment_hash);
    let request = if intent == CHARGE {
        payload::canonical(&ChargeRequest {
            amount: sats,
            currency: CURRENCY.to_owned(),
            description: None,
            external_id: None,
            method_details: ChargeDetails {
                invoice: made.bolt11.clone(),
                payment_hash: Some(payment_hash),
                network: Some(name_of(network)?.to_owned()),
            },
        })
    } else {
        let idle = snapshot.mpp.as_ref()?.rules.sessions.idle;
        payload::canonical(&SessionRequest {
            amount: "1".to_owned(),
            currency: CURRENCY.to_owned(),
            unit_type: Some(UNIT_TYPE.to_owned()),
            deposit_invoice: Some(made.bolt11.clone()),
            payment_hash,
            deposit_amount: Some(sats),
            idle_timeout: Some(idle.as_secs().to_string()),
        })
    };
    let expires_at_s = Some(made.expires_at_s);
    Some(Offer { method: MppMethod::Lightning, intent, request, expires_at_s, credit: Some(made.credit) })
}

/// The network as this method calls it; none of one that it has no name for.
const fn name_of(network: Network) -> Option<&'static str> {
    match network {
        Network::Mainnet => Some("mainnet"),
        Network::Regtest => Some("regtest"),
        Network::Signet => Some("signet"),
        Network::Testnet => None,
    }
}

/// Whether the preimage opens the invoice of the challenge. Whether its payment was shown before is found out when it is
/// brought in.
pub(super) fn verify(demand: &Demand<'_>, echo: &Echo) -> Result<Proven, Refusal> {
    if echo.challenge.intent == SESSION { session(demand, echo) } else { charge(demand, echo) }
}

fn charge(demand: &Demand<'_>, echo: &Echo) -> Result<Proven, Refusal> {
    let malformed = || {
        let detail = "The payload is no preimage: 64 lower-case hexadecimal digits.";
        refused(Problem::MalformedCredential, "payload", detail)
    };
    let ChargePayload { preimage } = payload::read(&echo.payload).map_err(|_| malformed())?;
    let preimage = read(&preimage).ok_or_else(malformed)?;
    let request: ChargeRequest = payload::read(&echo.request).map_err(|_| changed())?;
    let paid = paid(demand, echo, &request.method_details.invoice)?;
    if preimage.payment_hash() != PaymentHash(paid.payment_hash) {
        let detail = "The preimage does not open the invoice of this challenge.";
        return Err(refused(Problem::VerificationFailed, "preimage_mismatch", detail));
    }
    in_time(demand, echo, &paid, Problem::PaymentExpired)?;
    let spends = if is_single(demand) { Spends::OnceCharged } else { Spends::Again };
    Ok(Proven::Brings(Brings::Lightning(Box::new(Door::Challenge(paid)), spends)))
}

fn session(demand: &Demand<'_>, echo: &Echo) -> Result<Proven, Refusal> {
    let malformed = || {
        let detail = "The payload is no action of a session.";
        refused(Problem::Lightning(LightningProblem::MalformedCredential), "payload", detail)
    };
    let action: SessionPayload = payload::read(&echo.payload).map_err(|_| malformed())?;
    let preimage = |text: &str| read(text).ok_or_else(malformed);
    let id = |text: &str| PaymentHash::parse(text).map(|hash| hash.0).map_err(|_| malformed());
    let holds = |preimage: &Preimage, hash: &[u8; 32]| {
        let detail = "The preimage does not open the payment hash.";
        let opens = preimage.payment_hash() == PaymentHash(*hash);
        let wrong =
            || refused(Problem::Lightning(LightningProblem::InvalidPreimage), "preimage_mismatch", detail);
        opens.then_some(()).ok_or_else(wrong)
    };
    let challenge_id = echo.challenge.id.clone();
    let act = |what| {
        Ok(Proven::Brings(Brings::LightningSession(Box::new(Act {
            challenge_id: challenge_id.clone(),
            what,
        }))))
    };
    match action {
        SessionPayload::Open { preimage: text, return_invoice } => {
            let (preimage, paid) = (preimage(&text)?, deposit(demand, echo)?);
            holds(&preimage, &paid.payment_hash)?;
            in_time(demand, echo, &paid, Problem::Lightning(LightningProblem::ChallengeExpired))?;
            if !takes_back(demand, &return_invoice) {
                let detail =
                    "The return invoice is none of this network that leaves its amount open and can be paid.";
                let problem = Problem::Lightning(LightningProblem::InvalidReturnInvoice);
                return Err(refused(problem, "return_invoice", detail));
            }
            act(What::Open { paid, return_invoice })
        }
        SessionPayload::TopUp { session_id, top_up_preimage } => {
            let (id, preimage, paid) =
                (id(&session_id)?, preimage(&top_up_preimage)?, deposit(demand, echo)?);
            holds(&preimage, &paid.payment_hash)?;
            in_time(demand, echo, &paid, Problem::Lightning(LightningProblem::ChallengeExpired))?;
            act(What::TopUp { id, paid })
        }
        SessionPayload::Bearer { session_id, preimage: text } => {
            let (id, preimage) = (id(&session_id)?, preimage(&text)?);
            holds(&preimage, &id)?;
            let snapshot = &demand.arrived.snapshot;
            let payer = lightning::bearer(demand.gate, snapshot, &id, &echo.challenge.id)?;
            Ok(Proven::Draws(Box::new(payer)))
        }
        SessionPayload::Close { session_id, preimage: text } => {
            let (id, preimage) = (id(&session_id)?, preimage(&text)?);
            holds(&preimage, &id)?;
            act(What::Close { id })
        }
    }
}

/// Lower case only, as the method has it.
fn read(preimage: &str) -> Option<Preimage> {
    let is_lower = !preimage.bytes().any(|byte| byte.is_ascii_uppercase());
    Preimage::parse(preimage).ok().filter(|_| is_lower)
}

fn changed() -> Refusal {
    refused(Problem::InvalidChallenge, "request", "The challenge does not ask for what this method does.")
}

/// The payment that the invoice of a session's challenge asks for.
fn deposit(demand: &Demand<'_>, echo: &Echo) -> Result<Paid, Refusal> {
    let request: SessionRequest = payload::read(&echo.request).map_err(|_| changed())?;
    paid(demand, echo, &request.deposit_invoice.ok_or_else(changed)?)
}

/// What paying this invoice has bought. The challenge is ours, so what stands in it we wrote.
fn paid(demand: &Demand<'_>, echo: &Echo, invoice: &str) -> Result<Paid, Refusal> {
    let invoice = bolt11::decode(invoice).map_err(|_| changed())?;
    let asset = crate::payer::usual_asset(demand.gate.keys.mode);
    let (Some(amount_msat), Some(credit)) = (invoice.amount_msat, echo.credit) else { return Err(changed()) };
    let expires_at_s = echo.challenge.expires_at_s().ok_or_else(changed)?;
    let rules = demand.arrived.snapshot.config.rails.l402.as_ref().ok_or_else(changed)?;
    let paid = Paid {
        payment_hash: invoice.payment_hash,
        asset,
        credit,
        amount_msat,
        until_s: Paid::until_s(expires_at_s, rules.claim_window),
    };
    if demand.gate.is_revoked([&paid.account().0]) {
        return Err(Refusal::new(Code::ProofInvalid, "This payment has been revoked."));
    }
    Ok(paid)
}

/// A payment that is shown for the first time has to be shown in time; one that is in stays in.
fn in_time(demand: &Demand<'_>, echo: &Echo, paid: &Paid, late: Problem) -> Result<(), Refusal> {
    if !echo.is_late {
        return Ok(());
    }
    let known = demand.gate.store.reader().payment(&paid.key());
    match known.map_err(|error| crate::payments::store_refusal(&error))? {
        Some(_) => Ok(()),
        None => Err(refused(late, "expired", "The challenge that this credential answers has expired.")),
    }
}

/// Whether a payment buys one call here.
fn is_single(demand: &Demand<'_>) -> bool {
    let snapshot = &demand.arrived.snapshot;
    let rules = snapshot.config.rails.l402.as_ref();
    rules.is_some_and(|rules| rules.fixed_price == FixedPrice::Single)
        && demand.ask.route(snapshot).is_some_and(|route| matches!(route.price, RoutePrice::PerCall(_)))
}

fn takes_back(demand: &Demand<'_>, invoice: &str) -> bool {
    let rules = demand.arrived.snapshot.config.rails.l402.as_ref();
    rules.is_some_and(|rules| payouts::takes_back(invoice, rules.network, demand.arrived.now.seconds()))
}
