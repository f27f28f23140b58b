//! `credit`/`session`, ours: a credit key in a credential of this scheme, so that its clients can spend one (mpp.md
//! section 10.9). It deposits nothing; what the key may is the key's.

use serde_json::Value;
use wire::mpp::credit::{SessionDetails, SessionRequest};
use wire::mpp::{Credential, SESSION, payload};

use super::super::{Demand, Offer};
use crate::challenge::Through;
use crate::config::MppMethod;
use crate::payer::usual_asset;

/// The worst case of this call, in the unit of accounts.
pub(super) fn offer(demand: &Demand<'_>) -> Option<Offer> {
    // A balance is not sold for itself.
    if demand.ask.through != Through::All {
        return None;
    }
    let asset = usual_asset(demand.gate.keys.mode);
    let request = SessionRequest {
        amount: demand.ask.ceiling.units().to_string(),
        currency: "usd".to_owned(),
        method_details: SessionDetails {
            decimals: u8::try_from(asset.exponent()).ok()?,
            asset: asset.name().to_owned(),
            account: None,
            top_up_url: Some(format!("{}/farthing/topup", demand.arrived.snapshot.public_url)),
        },
    };
    Some(Offer {
        method: MppMethod::Credit,
        intent: SESSION,
        request: payload::write(&request),
        expires_at_s: None,
        credit: None,
    })
}

/// The key in a credential; none where it is one of another method.
pub(crate) fn key(credential: &Credential) -> Option<&str> {
    let is_ours = credential.challenge.method == MppMethod::Credit.name();
    is_ours.then(|| credential.payload.get("token").and_then(Value::as_str))?
}
