//! Counters for `/metrics` (UX-23): bounded labels, no payer, no model of the caller's choosing.

use std::borrow::Cow;
use std::hash::Hash;
use std::sync::OnceLock;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::config::Route;
use crate::refusal::Code;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    route: Cow<'static, str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProofLabels {
    protocol: &'static str,
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SettlementLabels {
    rail: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuestionLabels {
    facilitator: String,
    question: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InvoiceLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FacilitatorLabels {
    facilitator: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AssetLabels {
    asset: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EstimateLabels {
    route: String,
    model: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    upstream: String,
}

/// A counter of something so frequent that it is not looked up by its labels each time. It is on the page from its first count on,
/// as others are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(OnceLock<Counter>);

impl Kept {
    fn count<L: Clone + Eq + Hash>(&self, family: &Family<L, Counter>, labels: impl FnOnce() -> L) {
        self.0.get_or_init(|| family.get_or_create_owned(&labels())).inc();
    }
}

/// All counters of this process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    unpaid: Kept,
    good_keys: Kept,
    requests: Family<CallLabels, Counter>,
    proofs: Family<ProofLabels, Counter>,
    settlements: Family<SettlementLabels, Counter>,
    facilitators: Family<QuestionLabels, Counter>,
    invoices: Family<InvoiceLabels, Counter>,
    invoices_open: Gauge,
    invoices_paid: Counter,
    invoices_paid_msat: Counter,
    facilitators_asked: Family<FacilitatorLabels, Gauge>,
    facilitator_seconds: Family<FacilitatorLabels, Histogram, fn() -> Histogram>,
    charged: Family<AssetLabels, Counter>,
    overrun: Family<AssetLabels, Counter>,
    estimated: Family<EstimateLabels, Counter>,
    out_of_credit: Family<UpstreamLabels, Counter>,
    holds_open: Gauge,
    intents: Gauge,
    intents_stuck: Gauge,
    debtors: Gauge,
    payouts: Gauge,
    orders: Gauge,
    refunds: Gauge,
    holds_expired: Counter,
    connections: Gauge,
    upstream_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("farthing");
        let metrics = Self {
            unpaid: Kept::default(),
            good_keys: Kept::default(),
            requests: Family::default(),
            proofs: Family::default(),
            settlements: Family::default(),
            facilitators: Family::default(),
            invoices: Family::default(),
            invoices_open: Gauge::default(),
            invoices_paid: Counter::default(),
            invoices_paid_msat: Counter::default(),
            facilitators_asked: Family::default(),
            facilitator_seconds: Family::new_with_constructor(latency),
            charged: Family::default(),
            overrun: Family::default(),
            estimated: Family::default(),
            out_of_credit: Family::default(),
            holds_open: Gauge::default(),
            intents: Gauge::default(),
            intents_stuck: Gauge::default(),
            debtors: Gauge::default(),
            payouts: Gauge::default(),
            orders: Gauge::default(),
            refunds: Gauge::default(),
            holds_expired: Counter::default(),
            connections: Gauge::default(),
            upstream_seconds: latency(),
            registry: Registry::default(),
        };
        registry.register("requests", "Requests by route and outcome", metrics.requests.clone());
        registry.register("proof", "Payment proofs and keys by verdict", metrics.proofs.clone());
        registry.register("settlements", "Settlements by rail and state", metrics.settlements.clone());
        registry.register(
            "facilitator_answers",
            "Questions to a facilitator by what came of them",
            metrics.facilitators.clone(),
        );
        registry.register(
            "facilitator_asked",
            "1 where a facilitator is asked, 0 while it is left alone because it fails",
            metrics.facilitators_asked.clone(),
        );
        registry.register(
            "facilitator_seconds",
            "Time to a facilitator's answer, or to none",
            metrics.facilitator_seconds.clone(),
        );
        registry.register(
            "invoices",
            "Invoices for challenges by what came of them",
            metrics.invoices.clone(),
        );
        registry.register("invoices_open", "Invoices that can still be paid", metrics.invoices_open.clone());
        registry.register("invoices_paid", "Invoices that the node got paid", metrics.invoices_paid.clone());
        registry.register(
            "invoices_paid_msat",
            "What the node got for them, millisatoshi",
            metrics.invoices_paid_msat.clone(),
        );
        registry.register("charge_nano", "Captured, in ledger units", metrics.charged.clone());
        registry.register("overrun_loss_nano", "Used beyond what the payer had", metrics.overrun.clone());
        registry.register(
            "usage_estimated",
            "Charges without a provider's report",
            metrics.estimated.clone(),
        );
        registry.register(
            "upstream_out_of_credit",
            "Answers that say that the operator's credit at an upstream is used up",
            metrics.out_of_credit.clone(),
        );
        registry.register("holds_open", "Holds without an end yet", metrics.holds_open.clone());
        registry.register(
            "holds_expired",
            "Holds that were ended by their deadline",
            metrics.holds_expired.clone(),
        );
        registry.register("intents_open", "Payments that no rail has decided yet", metrics.intents.clone());
        registry.register(
            "intents_need_operator",
            "Payments that no rail can decide any more",
            metrics.intents_stuck.clone(),
        );
        registry.register(
            "debtors",
            "Payers who owe for calls whose payments were refused",
            metrics.debtors.clone(),
        );
        registry.register(
            "payouts_open",
            "Refunds over Lightning that are not decided",
            metrics.payouts.clone(),
        );
        registry.register("orders_open", "Orders that can still be paid", metrics.orders.clone());
        registry.register(
            "order_refunds_open",
            "Refunds of orders that were approved and not decided by their rail",
            metrics.refunds.clone(),
        );
        registry.register("connections", "Open client connections", metrics.connections.clone());
        registry.register(
            "upstream_seconds",
            "Time to the head of the upstream's answer",
            metrics.upstream_seconds.clone(),
        );
        Self { registry, ..metrics }
    }
}

fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 18))
}

impl Metrics {
    /// A request was answered.
    pub(crate) fn request(&self, route: &str, outcome: &'static str) {
        self.requests.get_or_create(&CallLabels { route: route.to_owned().into(), outcome }).inc();
    }

    /// A request was served.
    pub(crate) fn served(&self, route: &Route) {
        let labels = || CallLabels { route: route.name.clone().into(), outcome: "served" };
        route.served.count(&self.requests, labels);
    }

    /// A request was refused.
    pub(crate) fn refused(&self, code: Code) {
        let labels = || CallLabels { route: Cow::Borrowed("refused"), outcome: code.name() };
        if code == Code::PaymentRequired {
            self.unpaid.count(&self.requests, labels);
        } else {
            self.requests.get_or_create(&labels()).inc();
        }
    }

    /// A credential was checked.
    pub(crate) fn proof(&self, protocol: &'static str, verdict: &'static str) {
        self.proofs.get_or_create(&ProofLabels { protocol, verdict }).inc();
    }

    /// A credit key was checked and is good.
    pub(crate) fn good_key(&self) {
        self.good_keys.count(&self.proofs, || ProofLabels { protocol: "key", verdict: "good" });
    }

    /// A rail answered.
    pub(crate) fn settlement(&self, rail: &str, state: &'static str) {
        self.settlements.get_or_create(&SettlementLabels { rail: rail.to_owned(), state }).inc();
    }

    /// A challenge was to have an invoice.
    pub(crate) fn invoice(&self, outcome: &'static str) {
        self.invoices.get_or_create(&InvoiceLabels { outcome }).inc();
    }

    /// So many invoices can still be paid.
    pub(crate) fn invoices_open(&self, count: usize) {
        self.invoices_open.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The node got so much for an invoice.
    pub(crate) fn invoice_paid(&self, msat: u64) {
        self.invoices_paid.inc();
        self.invoices_paid_msat.inc_by(msat);
    }

    /// A facilitator was asked something. Its name is that of the configuration.
    pub(crate) fn facilitator(&self, name: &str, question: &'static str, outcome: &'static str) {
        let labels = QuestionLabels { facilitator: name.to_owned(), question, outcome };
        self.facilitators.get_or_create(&labels).inc();
    }

    /// How long a facilitator took to answer, or not to.
    pub(crate) fn facilitator_took(&self, name: &str, seconds: f64) {
        let labels = FacilitatorLabels { facilitator: name.to_owned() };
        self.facilitator_seconds.get_or_create(&labels).observe(seconds);
    }

    /// Whether a facilitator is asked at all.
    pub(crate) fn facilitator_is_asked(&self, name: &str, is_asked: bool) {
        let labels = FacilitatorLabels { facilitator: name.to_owned() };
        self.facilitators_asked.get_or_create(&labels).set(i64::from(is_asked));
    }

    /// A call was charged.
    pub(crate) fn charge(&self, asset: &'static str, captured: u64, overrun: u64) {
        self.charged.get_or_create(&AssetLabels { asset }).inc_by(captured);
        if overrun > 0 {
            self.overrun.get_or_create(&AssetLabels { asset }).inc_by(overrun);
        }
    }

    /// A charge rests on an estimate. `model` is a name of the price list.
    pub(crate) fn estimated(&self, route: &str, model: &str) {
        let labels = EstimateLabels { route: route.to_owned(), model: model.to_owned() };
        self.estimated.get_or_create(&labels).inc();
    }

    /// An upstream wants to be paid by the operator.
    pub(crate) fn out_of_credit(&self, upstream: &str) {
        self.out_of_credit.get_or_create(&UpstreamLabels { upstream: upstream.to_owned() }).inc();
    }

    pub(crate) fn hold_opened(&self) {
        self.holds_open.inc();
    }

    pub(crate) fn hold_ended(&self) {
        self.holds_open.dec();
    }

    pub(crate) fn hold_expired(&self) {
        self.holds_expired.inc();
    }

    /// Holds without an end yet.
    #[must_use]
    pub(crate) fn holds_open(&self) -> i64 {
        self.holds_open.get()
    }

    /// How many payments are not decided, and how many of them wait for the operator.
    pub(crate) fn unsettled(&self, open: usize, stuck: usize) {
        self.intents.set(i64::try_from(open).unwrap_or(i64::MAX));
        self.intents_stuck.set(i64::try_from(stuck).unwrap_or(i64::MAX));
    }

    /// How many payers owe for what was served before its payment was refused.
    pub(crate) fn debtors(&self, count: usize) {
        self.debtors.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many refunds over Lightning are not decided.
    pub(crate) fn payouts(&self, open: usize) {
        self.payouts.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// How many orders can still be paid, and how many of their refunds are not decided.
    pub(crate) fn top_ups(&self, orders: usize, refunds: usize) {
        self.orders.set(i64::try_from(orders).unwrap_or(i64::MAX));
        self.refunds.set(i64::try_from(refunds).unwrap_or(i64::MAX));
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.inc();
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.dec();
    }

    pub(crate) fn upstream_took(&self, seconds: f64) {
        self.upstream_seconds.observe(seconds);
    }

    /// The text of `/metrics`.
    #[must_use]
    pub(crate) fn render(&self) -> String {
        let mut page = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut page, &self.registry);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn the_page_has_our_names() {
        let metrics = Metrics::default();
        metrics.request("openai", "served");
        metrics.charge("USD", 5, 1);
        let page = metrics.render();
        for line in [
            r#"farthing_requests_total{route="openai",outcome="served"} 1"#,
            r#"farthing_charge_nano_total{asset="USD"} 5"#,
            r#"farthing_overrun_loss_nano_total{asset="USD"} 1"#,
            "farthing_holds_open 0",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
