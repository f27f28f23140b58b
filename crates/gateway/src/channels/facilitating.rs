//! Asking facilitators to settle what we wrote ourselves: claims, settlements, refunds.

use bytes::Bytes;
use rails::facilitator::{Expected, Facilitators};
use rails::{Settlement, Unclear};
use wire::x402::facilitator::SettleRequest;

use crate::facilitators;
use crate::gate::Gate;
use crate::snapshot::Snapshot;

/// Asks one facilitator after the other, as long as the one before surely did nothing.
pub(super) async fn settle(gate: &Gate, all: &Facilitators, request: &SettleRequest) -> Settlement {
    let (Some(expected), Ok(body)) = (Expected::of(request), serde_json::to_vec(request)) else {
        return Settlement::NotSent;
    };
    let body = Bytes::from(body);
    for facilitator in gate.directory.candidates(all, request, &expected.network) {
        let outcome = facilitators::settle(gate, all, facilitator, body.clone(), &expected).await;
        if outcome != Settlement::NotSent {
            return outcome;
        }
    }
    Settlement::NotSent
}

/// Sends what was written down to the one that it was written down for.
pub(super) async fn resend(snapshot: &Snapshot, facilitator: &str, request: &str) -> Settlement {
    let unclear = || Settlement::Unknown(Unclear::default());
    let Some(all) = &snapshot.facilitators else { return unclear() };
    let Some(facilitator) = all.named(facilitator) else {
        tracing::error!(facilitator, "a facilitator that is to be asked again has left the configuration");
        return unclear();
    };
    let asked: Option<SettleRequest> = serde_json::from_str(request).ok();
    let Some(expected) = asked.and_then(|asked| Expected::of(&asked)) else { return unclear() };
    all.settle(facilitator, Bytes::from(request.to_owned()), &expected).await
}

/// The word in metrics.
pub(super) const fn word(outcome: &Settlement) -> &'static str {
    match outcome {
        Settlement::Settled(_) => "settled",
        Settlement::Refused(_) => "refused",
        Settlement::NotSent => "not_sent",
        Settlement::Unknown(_) => "unknown",
    }
}
