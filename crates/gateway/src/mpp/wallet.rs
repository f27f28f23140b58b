//! A wallet shows itself to a client of this scheme: `tempo`/`charge` for nothing, at the place where wallets sign in
//! (mpp.md section 10.4). It opens what the wallet has paid here before; on a route it would be taken for a payment.

use std::sync::Arc;

use http::HeaderValue;
use money::Amount;
use proof::siwx::{SignedIn, Wallet};
use sha2::{Digest as _, Sha256};
use wire::credit_key::Mode;
use wire::mpp::tempo::{CHAIN_ID, ChargeDetails, ChargePayload, ChargeRequest, METHOD, TEST_CHAIN_ID};
use wire::mpp::{CHARGE, Credential, Problem, payload};

use super::offers::Binding;
use super::{Demand, Echo, Offer, refused, undecodable};
use crate::call::Arrived;
use crate::challenge::{Ask, Through};
use crate::config::{MppMethod, Network};
use crate::gate::Gate;
use crate::keys::Keys;
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;

/// The token that wallets of Tempo know; none of it is asked for.
const TOKEN: &str = "0x20c0000000000000000000000000000000000000";
const PLACE: &str = "sign-in";

/// Whether wallets can show themselves: those that pay here on a chain of their kind.
pub(crate) fn is_on(snapshot: &Snapshot) -> bool {
    let mut networks = snapshot.config.rails.x402.iter().flat_map(|x402| &x402.networks);
    snapshot.mpp.is_some() && networks.any(|network| matches!(network, Network::Evm(_)))
}

/// The chain that a proof is written for; nothing of it is asked.
const fn chain_id(keys: &Keys) -> u64 {
    match keys.mode {
        Mode::Live => CHAIN_ID,
        Mode::Test => TEST_CHAIN_ID,
    }
}

/// What is to be signed: the id and the line of a challenge.
pub(crate) fn challenge(gate: &Arc<Gate>, arrived: &Arrived) -> Option<(String, HeaderValue)> {
    let desk = arrived.snapshot.mpp.as_ref().filter(|_| is_on(&arrived.snapshot))?;
    let request = ChargeRequest {
        amount: "0".to_owned(),
        currency: TOKEN.to_owned(),
        recipient: None,
        method_details: Some(ChargeDetails { chain_id: Some(chain_id(&gate.keys)) }),
    };
    let request = payload::canonical(&request);
    let offer = Offer { method: MppMethod::Tempo, intent: CHARGE, request, expires_at_s: None, credit: None };
    let ask = ask(gate, arrived);
    Binding::of(Demand { gate, arrived, ask: &ask }, desk).bound(offer)
}

/// The wallet that has answered such a challenge. None: the request answers none.
///
/// # Errors
/// What is wrong with the answer; nothing was used up.
pub(crate) fn signed(gate: &Arc<Gate>, arrived: &Arrived) -> Option<Result<SignedIn, Refusal>> {
    if !is_on(&arrived.snapshot) {
        return None;
    }
    let headers = &arrived.head.headers;
    let found = Credential::read(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    let credential = found.map_err(undecodable).transpose()?;
    Some(credential.and_then(|credential| verify(gate, arrived, &credential)))
}

fn verify(gate: &Arc<Gate>, arrived: &Arrived, credential: &Credential) -> Result<SignedIn, Refusal> {
    let not_taken = |detail| refused(Problem::MethodUnsupported, "method_unsupported", detail);
    let desk = arrived.snapshot.mpp.as_ref().ok_or_else(|| not_taken("No wallet signs in this way."))?;
    if (credential.challenge.method.as_str(), credential.challenge.intent.as_str()) != (METHOD, CHARGE) {
        return Err(not_taken("Here a wallet signs in, and nothing is paid."));
    }
    let ask = ask(gate, arrived);
    let demand = Demand { gate, arrived, ask: &ask };
    let echo = Echo::by(MppMethod::Tempo, &demand, desk, credential)?;
    if echo.is_late {
        let detail = "The challenge that this credential answers has expired.";
        return Err(refused(Problem::PaymentExpired, "expired", detail));
    }
    // Which proofs were used is known as long as this process lives, and no longer.
    if echo.prices != gate.sign_ins.process {
        let detail = "The challenge was made before this gateway started.";
        return Err(refused(Problem::InvalidChallenge, "process", detail));
    }
    let payload = payload::read(&echo.payload).ok();
    let Some(ChargePayload::Proof { signature }) = payload else {
        let detail = "The payload is no proof of a wallet.";
        return Err(refused(Problem::MalformedCredential, "payload", detail));
    };
    let (challenge, chain_id) = (&echo.challenge, chain_id(&gate.keys));
    let account = proof::mpp::wallet::verify(challenge, chain_id, echo.source.as_deref(), &signature);
    let account = account.map_err(|_| {
        refused(
            Problem::VerificationFailed,
            "signature",
            "The proof was not signed by its source for this challenge.",
        )
    })?;
    Ok(SignedIn {
        wallet: Wallet::Evm(account),
        network: format!("eip155:{chain_id}"),
        // One challenge opens once, whoever answers it.
        nonce: Sha256::digest(&challenge.id).into(),
        nonce_until_s: echo.expires_at_s,
    })
}

fn ask<'a>(gate: &'a Gate, arrived: &'a Arrived) -> Ask<'a> {
    let ask = Ask::of_endpoint(arrived, Amount::ZERO, Through::Deposits, PLACE);
    Ask { tariff: &gate.sign_ins.process, ..ask }
}
