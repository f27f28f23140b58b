//! `evm`/`charge`: a transfer of a token, signed for one challenge. By EIP-3009, where the token itself lets anybody send what
//! was signed: then the facilitators of x402 do. By Permit2, where the challenge says who sends it: then that is us.
//!
//! Either has the deposit key that it has in x402, so it funds once whichever door it comes through (MPP-23).

use proof::mpp::evm::{self as charge, ChargeError};
use proof::mpp::permit::{self, PermitError};
use serde_json::{Map, Value};
use wire::mpp::evm::{ChargeDetails, ChargePayload, ChargeRequest, Permit2};
use wire::mpp::{CHARGE, Credential, Problem, payload};
use wire::x402::{Address, ExactPayload, contracts};

use super::super::{Demand, Echo, Offer, Proven, refused};
use crate::admission::Brings;
use crate::config::MppMethod;
use crate::payments::{self, Verified};
use crate::refusal::Refusal;
use crate::till::{self, Method, Named, Till};

/// The types of credential that are taken. The others bind a payment to no challenge.
const AUTHORIZATION: &str = "authorization";
const PERMIT2: &str = "permit2";

/// What a payer signed.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) payload: SignedPayload,
    /// CAIP-2.
    pub(crate) network: String,
}

/// The same, by what moves the money.
#[derive(Clone, Debug)]
pub(crate) enum SignedPayload {
    /// EIP-3009, as a facilitator reads it.
    Transfer(ExactPayload),
    /// Permit2, and who says that he pays.
    Permit { source: Option<String>, payload: Box<Permit2> },
}

impl Signed {
    /// What a facilitator is shown of it, if one is.
    pub(crate) const fn transfer(&self) -> Option<&ExactPayload> {
        match &self.payload {
            SignedPayload::Transfer(payload) => Some(payload),
            SignedPayload::Permit { .. } => None,
        }
    }
}

/// The ways to pay in one token.
struct Ways<'a> {
    /// The first of them.
    any: &'a Till,
    token: Address,
    pay_to: Address,
    chain_id: u64,
    by_transfer: Option<&'a Till>,
    /// With who sends permits.
    by_permit: Option<(&'a Till, Address)>,
}

impl<'a> Ways<'a> {
    /// The one way that a till is; none for what is no transfer of a token to us.
    fn of(till: &'a Till) -> Option<Self> {
        let (token, pay_to, by_transfer, by_permit) = match &till.method {
            Method::Transfer { token, pay_to } => (token, pay_to, Some(till), None),
            Method::Submitted { token, pay_to, spender } => (token, pay_to, None, Some((till, *spender))),
            Method::Test { .. }
            | Method::Permit2 { .. }
            | Method::Upto { .. }
            | Method::Channel { .. }
            | Method::Solana { .. }
            | Method::Lightning
            | Method::Cashu => return None,
        };
        let (token, pay_to, chain_id) = (*token.contract(), *pay_to, token.chain_id());
        Some(Self { any: till, token, pay_to, chain_id, by_transfer, by_permit })
    }

    fn is_same_token(&self, other: &Self) -> bool {
        (self.chain_id, self.token) == (other.chain_id, other.token)
    }

    fn offer(&self, demand: &Demand<'_>) -> Option<Offer> {
        let till = self.any;
        let amount = till.atomic_up(demand.ask.deposit(till))?;
        let request = match self.by_permit {
            // The till has that written already, but for the amount.
            None => till.evm_charge(amount)?,
            Some(_) => payload::canonical(&self.request(&amount.to_string())),
        };
        Some(Offer { method: MppMethod::Evm, intent: CHARGE, request, expires_at_s: None, credit: None })
    }

    fn request(&self, amount: &str) -> ChargeRequest {
        // What needs neither an approval of the payer's nor gas of ours stands first.
        let types = [self.by_transfer.map(|_| AUTHORIZATION), self.by_permit.map(|_| PERMIT2)];
        ChargeRequest {
            amount: amount.to_owned(),
            currency: self.token.to_string(),
            recipient: self.pay_to.to_string(),
            description: None,
            external_id: None,
            method_details: ChargeDetails {
                chain_id: self.chain_id,
                credential_types: Some(types.into_iter().flatten().map(str::to_owned).collect()),
                decimals: u8::try_from(self.any.unit().decimals).ok(),
                permit2_address: self.by_permit.map(|_| contracts::PERMIT2.to_string()),
                spender: self.by_permit.map(|(_, spender)| spender.to_string()),
                splits: None,
            },
        }
    }
}

/// One challenge for each token, of those that somebody settles now.
pub(super) fn offers(demand: &Demand<'_>) -> Vec<Offer> {
    let facilitators = demand.arrived.snapshot.facilitators.as_ref();
    let tills = tills(demand).filter(|till| demand.gate.directory.offered(till, facilitators).is_some());
    ways(tills).iter().filter_map(|ways| ways.offer(demand)).collect()
}

/// What is asked for through a till that takes transfers; none of any other.
pub(crate) fn request(till: &Till, amount: &str) -> Option<ChargeRequest> {
    Ways::of(till).filter(|ways| ways.by_transfer.is_some()).map(|ways| ways.request(amount))
}

fn tills<'a>(demand: &Demand<'a>) -> impl Iterator<Item = &'a Till> {
    let ask = demand.ask;
    demand.arrived.snapshot.tills.iter().filter(move |till| ask.through.includes(till))
}

/// The ways of each token together, in the order of the tills.
fn ways<'a>(tills: impl Iterator<Item = &'a Till>) -> Vec<Ways<'a>> {
    let mut all: Vec<Ways<'a>> = Vec::new();
    for way in tills.filter_map(Ways::of) {
        match all.iter_mut().find(|known| known.is_same_token(&way)) {
            Some(known) => {
                known.by_transfer = known.by_transfer.or(way.by_transfer);
                known.by_permit = known.by_permit.or(way.by_permit);
            }
            None => all.push(way),
        }
    }
    all
}

/// Checks what was signed: the challenge still asks for what this route demands, and the token would take it.
pub(super) fn verify(demand: &Demand<'_>, echo: &Echo) -> Result<Proven, Refusal> {
    let invalid = |reason| {
        let detail = "The challenge does not ask for what this request demands.";
        refused(Problem::InvalidChallenge, reason, detail)
    };
    let request: ChargeRequest = payload::read(&echo.request).map_err(|_| invalid("request"))?;
    let ChargeDetails { chain_id, spender, .. } = request.method_details;
    let currency: Address = request.currency.parse().map_err(|_| invalid("currency"))?;
    let all = ways(tills(demand));
    let is_asked = |ways: &&Ways<'_>| ways.chain_id == chain_id && ways.token == currency;
    let ways = all.iter().find(is_asked).ok_or_else(|| invalid("currency"))?;
    if request.recipient.parse() != Ok(ways.pay_to) {
        return Err(invalid("recipient"));
    }
    // Never less than is demanded by now; what is more stays on the payer's account.
    let amount: u128 = request.amount.parse().map_err(|_| invalid("amount"))?;
    let demanded = ways.any.atomic_up(demand.ask.deposit(ways.any));
    if demanded.is_none_or(|demanded| amount < demanded) {
        return Err(invalid("amount"));
    }
    let network = format!("eip155:{chain_id}");
    let signed = signed(&echo.payload, echo.source.as_deref(), network)?;
    let now_s = demand.arrived.now.seconds();
    let verified = match (&signed.payload, ways.by_transfer, ways.by_permit) {
        (SignedPayload::Transfer(_), Some(till), _) => transferred(till, amount, echo, signed, now_s),
        (SignedPayload::Permit { .. }, _, Some((till, ours))) => {
            // Whoever was to send it when it was signed is who can: a key that was changed since is another.
            let named = spender.as_deref().and_then(|text| text.parse().ok());
            if named != Some(ours) {
                return Err(invalid("spender"));
            }
            permitted(till, amount, echo, signed, now_s)
        }
        (SignedPayload::Transfer(_) | SignedPayload::Permit { .. }, _, _) => Err(other_type()),
    }?;
    Ok(Proven::Brings(Brings::Payment(Box::new(verified))))
}

fn transferred(
    till: &Till,
    amount: u128,
    echo: &Echo,
    signed: Signed,
    now_s: u64,
) -> Result<Verified, Refusal> {
    let (Some(till::Offer::Exact(offer)), Some(transfer)) =
        (till.offer_of(amount, &Named::Nobody, None), signed.transfer())
    else {
        return Err(other_type());
    };
    let payment = charge::verify(&offer, &echo.challenge, echo.source.as_deref(), transfer, now_s);
    let payment = payment.map_err(charge_refusal)?;
    payments::of_charge(till.clone(), offer, payment, signed)
}

fn permitted(
    till: &Till,
    amount: u128,
    echo: &Echo,
    signed: Signed,
    now_s: u64,
) -> Result<Verified, Refusal> {
    let (Some(offer), SignedPayload::Permit { source, payload }) = (till.charge_of(amount), &signed.payload)
    else {
        return Err(other_type());
    };
    let charge = permit::verify(&offer, &echo.challenge, source.as_deref(), payload, now_s);
    let charge = charge.map_err(permit_refusal)?;
    payments::of_permit(till.clone(), offer, charge, signed)
}

/// What was signed; the payload says what kind it is.
fn signed(members: &Map<String, Value>, source: Option<&str>, network: String) -> Result<Signed, Refusal> {
    let payload = payload::read(members).map_err(|_| {
        let detail = "The payload is none of this method.";
        refused(Problem::MalformedCredential, "payload", detail)
    })?;
    let payload = match payload {
        ChargePayload::Authorization(signed) => SignedPayload::Transfer(signed.into()),
        ChargePayload::Permit2(payload) => {
            SignedPayload::Permit { source: source.map(str::to_owned), payload: Box::new(payload) }
        }
        ChargePayload::Transaction { .. } | ChargePayload::Hash { .. } => return Err(other_type()),
    };
    Ok(Signed { payload, network })
}

fn other_type() -> Refusal {
    let detail = "Of this method only credentials of the types are taken that the challenge names.";
    refused(Problem::VerificationFailed, "credential_type", detail)
}

/// What became of a payment that was shown before.
pub(super) fn seen(demand: &Demand<'_>, credential: &Credential) -> Result<Option<Proven>, Refusal> {
    // Only to find it: what is found was checked when it came first.
    let request = credential.challenge.request_object().ok();
    let request = request.and_then(|request| payload::read::<ChargeRequest>(&request).ok());
    let Some(request) = request else { return Ok(None) };
    let network = format!("eip155:{}", request.method_details.chain_id);
    let signed = signed(&credential.payload, credential.source.as_deref(), network);
    let Ok(signed) = signed else { return Ok(None) };
    let (gate, snapshot) = (demand.gate, &demand.arrived.snapshot);
    let verified = payments::charged_before(gate, snapshot, signed, demand.ask.fingerprint())?;
    Ok(verified.map(|verified| Proven::Brings(Brings::Payment(Box::new(verified)))))
}

fn charge_refusal(error: ChargeError) -> Refusal {
    match error {
        ChargeError::Nonce => {
            let detail = "The authorization was signed for another challenge.";
            refused(Problem::VerificationFailed, error.reason(), detail)
        }
        ChargeError::Source => {
            let detail = "The source is not the account that signed.";
            refused(Problem::VerificationFailed, error.reason(), detail)
        }
        ChargeError::Terms(terms) => payments::transfer_refusal(terms),
    }
}

fn permit_refusal(error: PermitError) -> Refusal {
    match error {
        PermitError::Witness => {
            let detail = "The permit was signed for another challenge.";
            refused(Problem::VerificationFailed, error.reason(), detail)
        }
        PermitError::NoSource => {
            let detail = "A permit does not say who pays: name him in source.";
            refused(Problem::MalformedCredential, error.reason(), detail)
        }
        PermitError::Source => {
            let detail = "The source is not the account that signed.";
            refused(Problem::VerificationFailed, error.reason(), detail)
        }
        PermitError::Terms(terms) => payments::transfer_refusal(terms),
    }
}
