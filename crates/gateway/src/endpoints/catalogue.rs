//! What is sold here, as catalogues are told it: from the table of routes and from what a 402 would offer.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use money::{Amount, Asset};

use super::{llms, openapi};
use crate::call::Arrived;
use crate::challenge::{Ask, Through};
use crate::config::{PathPattern, Route, RoutePrice};
use crate::exchange::Exchange;
use crate::gate::Gate;
use crate::mpp::{self, Listed};
use crate::selling;
use crate::snapshot::Snapshot;
use crate::till;

/// How long a rendering is used: facilitators come and go, and prices have their hours.
const LIFE_MS: u64 = 60_000;

/// Both documents, rendered once a minute, whoever asks.
pub(crate) struct Catalogue {
    minute: u64,
    pub(super) openapi: Bytes,
    pub(super) llms: Bytes,
}

/// What a route sells to one method.
pub(super) struct Operation<'s> {
    pub(super) route: &'s Route,
    pub(super) method: &'s Method,
    /// With `{path}` for what is below a prefix.
    pub(super) path: String,
    pub(super) exchange: Exchange,
    /// Challenges of the `Payment` scheme.
    pub(super) offers: Vec<Listed>,
    /// For people.
    pub(super) price: String,
}

/// Stands for what is below a prefix.
pub(super) const REST: &str = "path";

impl Catalogue {
    pub(super) async fn of(gate: &Arc<Gate>, arrived: &Arrived) -> Arc<Self> {
        let snapshot = &arrived.snapshot;
        let minute = arrived.now.millis() / LIFE_MS;
        if let Some(known) = snapshot.catalogue.load_full().filter(|known| known.minute == minute) {
            return known;
        }
        let mut operations = Vec::new();
        for route in &snapshot.config.routes {
            for method in &route.methods {
                operations.push(Operation::of(gate, arrived, route, method).await);
            }
        }
        let top_up = Method::POST;
        let top_up = Ask::named(&top_up, super::TOP_UP, Amount::ZERO, Through::Deposits, super::top_up::NAME);
        let top_up = without_amounts(mpp::listed(gate, arrived, &top_up).await);
        let catalogue = Arc::new(Self {
            minute,
            openapi: openapi::render(snapshot, &operations, &top_up).to_string().into(),
            llms: llms::render(snapshot, &operations).into(),
        });
        snapshot.catalogue.store(Some(Arc::clone(&catalogue)));
        catalogue
    }
}

impl<'s> Operation<'s> {
    async fn of(gate: &Arc<Gate>, arrived: &'s Arrived, route: &'s Route, method: &'s Method) -> Self {
        let (path, target) = match &route.path {
            PathPattern::Exact(path) => (path.clone(), path.clone()),
            PathPattern::Below(prefix) => (format!("{prefix}{{{REST}}}"), format!("{prefix}{REST}")),
        };
        let exchange = Exchange::of(route);
        let fee = match &route.price {
            RoutePrice::PerCall(fee) => Some(*fee),
            RoutePrice::ByModel | RoutePrice::Units(_) | RoutePrice::Free => None,
        };
        let ask = Ask::named(method, &target, fee.unwrap_or(Amount::ZERO), Through::All, &route.name);
        // gRPC's clients look for L402 only, and are told nothing else.
        let is_told = route.price != RoutePrice::Free && exchange != Exchange::Grpc;
        let offers = if is_told { mpp::listed(gate, arrived, &ask).await } else { Vec::new() };
        let offers = if fee.is_some() { offers } else { without_amounts(offers) };
        Self { route, method, path, exchange, offers, price: price(&route.price) }
    }

    pub(super) fn is_free(&self) -> bool {
        self.route.price == RoutePrice::Free
    }
}

/// What a call comes to is seen when it is made.
fn without_amounts(mut offers: Vec<Listed>) -> Vec<Listed> {
    for offer in &mut offers {
        offer.amount = None;
    }
    offers
}

fn price(price: &RoutePrice) -> String {
    let lines = match price {
        RoutePrice::ByModel => return "metered, by the price of the model".to_owned(),
        RoutePrice::Free => return "free".to_owned(),
        RoutePrice::PerCall(fee) => return format!("{} USD a call", fee.short(Asset::Usd)),
        RoutePrice::Units(price) => selling::unit_lines(price),
    };
    let text = |line: &serde_json::Value| {
        let word = |name: &str| line[name].as_str().unwrap_or_default().replace('_', " ");
        match line["bucket"].as_str() {
            Some("at_least") => format!("at least {} USD", word("amount")),
            Some("call") | None => format!("{} USD a call", word("amount")),
            Some(_) => format!("{} USD a {}", word("amount"), word("bucket")),
        }
    };
    lines.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Who is told what in a 402, by the names that clients know.
pub(super) fn protocols(snapshot: &Snapshot) -> Vec<&'static str> {
    use till::Method as By;
    let takes = |known: fn(&By) -> bool| snapshot.tills.iter().any(|till| known(&till.method));
    let by_x402 = |method: &By| match method {
        By::Test { .. }
        | By::Transfer { .. }
        | By::Permit2 { .. }
        | By::Upto { .. }
        | By::Channel { .. }
        | By::Solana { .. } => true,
        By::Submitted { .. } | By::Lightning | By::Cashu => false,
    };
    let all = [
        ("L402", takes(|method| matches!(method, By::Lightning))),
        ("Payment (MPP)", snapshot.mpp.is_some()),
        ("x402", takes(by_x402)),
        ("X-Cashu", takes(|method| matches!(method, By::Cashu))),
    ];
    all.into_iter().filter_map(|(name, is_taken)| is_taken.then_some(name)).collect()
}
