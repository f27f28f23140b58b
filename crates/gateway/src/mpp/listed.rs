//! What catalogues say of our offers (mpp.md section 13): from the same methods as the challenges, so that the two cannot
//! differ. Advice only: the 402 decides.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Demand, Offer, methods};
use crate::call::Arrived;
use crate::challenge::Ask;
use crate::config::MppMethod;
use crate::gate::Gate;

/// One offer, without what is only for one payer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) method: &'static str,
    pub(crate) intent: &'static str,
    pub(crate) currency: Option<String>,
    /// Digits, in the unit of the challenge; none where a call decides it.
    pub(crate) amount: Option<String>,
}

impl Listed {
    pub(super) const fn new(
        method: MppMethod,
        intent: &'static str,
        currency: Option<String>,
        amount: Option<String>,
    ) -> Self {
        Self { method: method.name(), intent, currency, amount }
    }

    pub(super) fn of(offer: &Offer) -> Self {
        let request: Map<String, Value> = serde_json::from_str(&offer.request).unwrap_or_default();
        let text = |name: &str| text_of(&request, name);
        Self::new(offer.method, offer.intent, text("currency"), text("amount"))
    }
}

fn text_of(request: &Map<String, Value>, name: &str) -> Option<String> {
    request.get(name)?.as_str().map(str::to_owned)
}

/// The offers that an unpaid request like `ask` would be given, in their order.
pub(crate) async fn listed(gate: &Arc<Gate>, arrived: &Arrived, ask: &Ask<'_>) -> Vec<Listed> {
    let Some(desk) = &arrived.snapshot.mpp else { return Vec::new() };
    let demand = Demand { gate, arrived, ask };
    let mut all = Vec::new();
    for method in &desk.rules.methods {
        for intent in methods::intents(*method) {
            all.extend(methods::listed(&demand, *method, intent).await);
        }
    }
    all
}
