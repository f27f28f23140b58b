//! The methods, one file each: what is asked for, and whether a payload pays for it. Which there are is `MppMethod`.

pub(super) mod card;
pub(super) mod credit;
pub(super) mod evm;
mod lightning;
pub(super) mod stripe;
mod vouchers;

use serde_json::{Map, Value};
use wire::mpp::{CHARGE, Credential, SESSION};

use super::{Demand, Desk, Echo, Listed, Making, Proven};
use crate::config::MppMethod;
use crate::refusal::Refusal;

/// What a method is paid by, in the order of its offers.
pub(super) const fn intents(method: MppMethod) -> &'static [&'static str] {
    match method {
        MppMethod::Evm | MppMethod::Stripe | MppMethod::Card => &[CHARGE],
        MppMethod::Lightning => &[CHARGE, SESSION],
        MppMethod::Credit | MppMethod::Tempo | MppMethod::Solana => &[SESSION],
    }
}

/// What this route asks for by a method and an intent of it.
pub(super) async fn offers(demand: &Demand<'_>, method: MppMethod, intent: &'static str) -> Making {
    Making::Offers(match method {
        MppMethod::Lightning => return lightning::offers(demand, intent).await,
        MppMethod::Evm => evm::offers(demand),
        MppMethod::Credit => credit::offer(demand).into_iter().collect(),
        MppMethod::Tempo | MppMethod::Solana => vouchers::offer(demand, method).await.into_iter().collect(),
        MppMethod::Stripe => stripe::offer(demand).into_iter().collect(),
        MppMethod::Card => card::offer(demand).into_iter().collect(),
    })
}

/// What a catalogue says that this method and intent ask for. What has to be made for a payer is not made for it.
pub(super) async fn listed(demand: &Demand<'_>, method: MppMethod, intent: &'static str) -> Vec<Listed> {
    match method {
        MppMethod::Lightning => lightning::listed(demand, intent).into_iter().collect(),
        MppMethod::Evm
        | MppMethod::Credit
        | MppMethod::Tempo
        | MppMethod::Solana
        | MppMethod::Stripe
        | MppMethod::Card => match offers(demand, method, intent).await {
            Making::Offers(offers) => offers.iter().map(Listed::of).collect(),
            Making::Spent(_) | Making::Out => Vec::new(),
        },
    }
}

/// Whether a credential is worth nothing once its challenge has ended. A session goes on for longer than that
/// (MPP-13.5).
pub(super) fn is_timed(method: MppMethod, intent: &str, payload: &Map<String, Value>) -> bool {
    match method {
        // A payment over Lightning that is in stays in: it looks for itself.
        MppMethod::Credit | MppMethod::Lightning => false,
        // What moves money on a chain answers a challenge of now; a voucher goes on from where its channel stands.
        MppMethod::Tempo | MppMethod::Solana => {
            matches!(payload.get("action").and_then(Value::as_str), Some("open" | "topUp"))
        }
        MppMethod::Evm | MppMethod::Stripe | MppMethod::Card => intent == CHARGE,
    }
}

/// Whether a credential pays for what is demanded now.
///
/// # Errors
/// Nothing was claimed.
pub(super) fn verify(demand: &Demand<'_>, echo: &Echo) -> Result<Proven, Refusal> {
    match echo.method {
        MppMethod::Evm => evm::verify(demand, echo),
        MppMethod::Credit => credit::verify(echo),
        MppMethod::Lightning => lightning::verify(demand, echo),
        MppMethod::Tempo | MppMethod::Solana => vouchers::verify(demand, echo),
        MppMethod::Stripe => stripe::verify(demand, echo),
        MppMethod::Card => card::verify(demand, echo),
    }
}

/// What became of a public proof that was shown before, whatever is wrong with its challenge by now. None: nobody has
/// seen it.
///
/// # Errors
/// It was shown for another request: a proven replay gets no challenge.
pub(super) fn seen(
    demand: &Demand<'_>,
    desk: &Desk,
    credential: &Credential,
) -> Result<Option<Proven>, Refusal> {
    match desk.method(&credential.challenge.method) {
        Some(MppMethod::Evm) => evm::seen(demand, credential),
        Some(MppMethod::Stripe) => stripe::seen(demand, credential),
        Some(MppMethod::Card) => card::seen(demand, credential),
        Some(MppMethod::Credit | MppMethod::Lightning | MppMethod::Tempo | MppMethod::Solana) | None => {
            Ok(None)
        }
    }
}
