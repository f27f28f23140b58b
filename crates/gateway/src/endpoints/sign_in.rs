//! Sign-in without a call: a wallet asks for the terms, signs them, and gets a credit key for its balance (X402-35).

use http::{HeaderName, HeaderValue, Method, Response, header};
use serde_json::json;
use wire::x402::{header as x402, siwx, v2};

use super::{document, nothing};
use crate::admission;
use crate::body::GateBody;
use crate::call::{Arrived, Worker};
use crate::extensions::sign_in::{self, Opened};
use crate::facts;
use crate::mpp::wallet;
use crate::payments::change_key;
use crate::refusal::{Code, Refusal};

/// `GET`: fresh terms. `POST` with `SIGN-IN-WITH-X`, or with a proof for a challenge of the `Payment` scheme: the key. A
/// `POST` without either, or with one that opens nothing, gets the terms as challenges of a resource that costs nothing,
/// which stock clients answer.
pub(super) fn sign_in(worker: &Worker, arrived: &Arrived) -> Result<Response<GateBody>, Refusal> {
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    if !sign_in::is_on(snapshot) && !wallet::is_on(snapshot) {
        return Err(nothing());
    }
    let _slot = admission::slot(gate, snapshot)?;
    snapshot.limiters.admit_proof(arrived.source)?;
    snapshot.limiters.admit_unpaid(arrived.source)?;
    let url = format!("{}{}", snapshot.public_url, arrived.path);
    if arrived.head.method == Method::GET && sign_in::is_on(snapshot) {
        let challenge = sign_in::challenge(gate, snapshot, url, arrived.now);
        return Ok(document(&serde_json::to_value(challenge).unwrap_or_default(), "no-store"));
    }
    let (now, source) = (arrived.now, arrived.source);
    let opened = match (sign_in::answered(snapshot, &arrived.head.headers), wallet::signed(gate, arrived)) {
        (Some(_), Some(_)) => {
            Err(Refusal::new(Code::AmbiguousCredentials, "The request brings two proofs of a wallet."))
        }
        (Some(answer), None) => sign_in::open(gate, snapshot, source, answer, now),
        (None, Some(signed)) => sign_in::open_to(gate, snapshot, source, signed, now),
        (None, None) => {
            Err(Refusal::new(Code::PaymentRequired, "Sign the terms with the wallet that has paid here."))
        }
    };
    let Opened { payer, running: _running } =
        opened.map_err(|refusal| challenged(worker, arrived, url, refusal))?;
    let (account, asset) = (payer.account.id(), payer.account.asset());
    let failed = || Refusal::new(Code::Internal, "No key could be made.");
    let key = change_key(gate, account, arrived.now).ok_or_else(failed)?;
    let balance = gate.book.balance(&payer.account);
    let answer = json!({
        "key": key,
        "account": account.to_string(),
        "balance": facts::amount(balance.available, asset),
        "held": facts::amount(balance.held, asset),
    });
    Ok(document(&answer, "no-store"))
}

/// Nothing to pay, something to sign.
fn challenged(worker: &Worker, arrived: &Arrived, url: String, refusal: Refusal) -> Refusal {
    if !refusal.is_payable() {
        return refusal;
    }
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    let proof = wallet::challenge(gate, arrived);
    let refusal = proof.into_iter().fold(refusal, |refusal, (id, line)| {
        refusal.line(header::WWW_AUTHENTICATE, line).extension("challengeId", id)
    });
    if !sign_in::is_on(snapshot) {
        return refusal;
    }
    let challenge = sign_in::challenge(gate, snapshot, url.clone(), arrived.now);
    let extensions = json!({siwx::ID: challenge});
    let required = v2::PaymentRequired {
        x402_version: v2::VERSION,
        error: Some(refusal.code().name().to_owned()),
        resource: Some(v2::ResourceInfo { url, ..v2::ResourceInfo::default() }),
        accepts: Vec::new(),
        extensions: extensions.as_object().cloned(),
    };
    let Ok(header) = HeaderValue::from_str(&x402::encode(&required)) else { return refusal };
    refusal.header(HeaderName::from_static(x402::PAYMENT_REQUIRED), header)
}
