//! `credit`/`session`, ours: a credit key in a credential of this scheme, so that its clients can spend one (mpp.md
//! section 10.9). It deposits nothing; what the key may is the key's.

use serde_json::{Value, json};
use wire::mpp::{Credential, SESSION};

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
    let snapshot = &demand.arrived.snapshot;
    let request = json!({
        "amount": demand.ask.ceiling.units().to_string(),
        "currency": "usd",
        "methodDetails": {
            "asset": asset.name(),
            "decimals": asset.exponent(),
            "topUpUrl": format!("{}/farthing/topup", snapshot.public_url),
        },
    });
    let Value::Object(request) = request else { return None };
    Some(Offer { method: MppMethod::Credit, intent: SESSION, request, expires_at_s: None })
}

/// The key in a credential; none where it is one of another method.
pub(crate) fn key(credential: &Credential) -> Option<&str> {
    let is_ours = credential.challenge.method == MppMethod::Credit.name();
    is_ours.then(|| credential.payload.get("token").and_then(Value::as_str))?
}
