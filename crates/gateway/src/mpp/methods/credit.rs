//! `credit`/`session`, ours: a credit key in a credential of this scheme, so that its clients can spend one (mpp.md
//! section 10.9). It deposits nothing; what the key may is the key's.

use serde_json::Value;
use wire::credit_key::Mode;
use wire::mpp::credit::{SessionDetails, SessionPayload, SessionRequest};
use wire::mpp::{Credential, Problem, SESSION, payload};

use super::super::{Demand, Echo, Offer, Proven, refused};
use crate::challenge::Through;
use crate::config::MppMethod;
use crate::payer::usual_asset;
use crate::refusal::Refusal;

/// The worst case of this call, in the unit of accounts.
pub(super) fn offer(demand: &Demand<'_>) -> Option<Offer> {
    // A balance is not sold for itself.
    if demand.ask.through != Through::All {
        return None;
    }
    let desk = demand.arrived.snapshot.mpp.as_ref()?;
    Some(Offer {
        method: MppMethod::Credit,
        intent: SESSION,
        request: desk.credit.fill(&[&demand.ask.ceiling.units().to_string()]),
        expires_at_s: None,
        credit: None,
    })
}

/// What is asked of a key's account.
pub(in crate::mpp) fn request(mode: Mode, public_url: &str, amount: &str) -> SessionRequest {
    let asset = usual_asset(mode);
    SessionRequest {
        amount: amount.to_owned(),
        currency: "usd".to_owned(),
        method_details: SessionDetails {
            decimals: u8::try_from(asset.exponent()).unwrap_or(u8::MAX),
            asset: asset.name().to_owned(),
            account: None,
            top_up_url: Some(format!("{public_url}/farthing/topup")),
        },
    }
}

/// The key in a credential; none where it is one of another method.
pub(crate) fn key(credential: &Credential) -> Option<&str> {
    let is_ours = credential.challenge.method == MppMethod::Credit.name();
    is_ours.then(|| credential.payload.get("token").and_then(Value::as_str))?
}

/// Whether there is a key: whether it is good has been asked by then.
pub(super) fn verify(echo: &Echo) -> Result<Proven, Refusal> {
    let payload: Result<SessionPayload, _> = payload::read(&echo.payload);
    payload.map(|_| Proven::Opens).map_err(|_| {
        let detail = "The payload has no credit key.";
        refused(Problem::MalformedCredential, "payload", detail)
    })
}
