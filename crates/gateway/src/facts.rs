//! The facts of a finished call: what the receipt, the ledger listing and an explanation are made of.
//! Counts, amounts and names only; never a prompt, a completion or a key (SEC-64).

use ledger::{AccountId, Ended, Entry, asset_of_code};
use meter::{Basis, Charge as Cost, Metered, Terminal, Usage};
use money::{Amount, Asset, Femto, Rate};
use serde_json::{Map, Value, json};
use store::{Fact, Facts};

use crate::charge::Charge;
use crate::clock::Now;
use crate::identity::Agent;
use crate::payer::Payer;
use crate::selling;
use crate::submitting;

/// Everything about a call that lasts.
pub(crate) struct CallFacts<'a> {
    pub(crate) charge: &'a Charge,
    pub(crate) payer: &'a Payer,
    /// What the hold began with ...
    pub(crate) held_first: Amount,
    /// ... and ended with.
    pub(crate) held: Amount,
    pub(crate) ended: &'a Ended,
    pub(crate) cost: &'a Cost,
    pub(crate) metered: &'a Metered,
    pub(crate) finished: Now,
}

impl CallFacts<'_> {
    /// As they are kept.
    pub(crate) fn packed(&self) -> Vec<u8> {
        let mut facts = Facts::default();
        self.put(&mut facts);
        facts.into_bytes()
    }

    fn put(&self, facts: &mut Facts) {
        let Self { charge, payer, held_first, held, ended, cost, metered, finished } = self;
        let (quote, asset) = (&charge.quote, payer.account.asset());
        facts.call_id(Fact::Call, &charge.call.0);
        facts.id(Fact::Account, &payer.account.id().0);
        match &payer.key {
            Some(key) => facts.id(Fact::KeyId, &key.key_id),
            None => facts.null(Fact::KeyId),
        }
        facts.text(Fact::Protocol, payer.protocol);
        facts.text(Fact::Route, &charge.route.name);
        facts.text(Fact::Upstream, &quote.upstream.name);
        facts.text(Fact::Model, quote.model());
        facts.text(Fact::Dialect, quote.dialect().name());
        facts.number(Fact::Status, charge.status.as_u16().into());
        match &metered.usage {
            Some(usage) => facts.object(Fact::Usage, |facts| put_usage(facts, usage)),
            None => facts.null(Fact::Usage),
        }
        facts.text(Fact::Basis, basis_name(metered.basis));
        facts.text(Fact::Terminal, terminal_name(metered.terminal));
        facts.flag(Fact::Estimated, cost.estimated);
        facts.objects(Fact::Lines, &cost.lines, |facts, line| {
            facts.text(Fact::Bucket, line.bucket.name());
            facts.number(Fact::Quantity, line.quantity);
            facts.number(Fact::RateFemtoUsd, line.rate.femto());
        });
        facts.digits(Fact::CostFemtoUsd, cost.femto.units());
        // Where nothing could be priced what was held is what is charged.
        facts.flag(Fact::Unpriced, cost.femto == Femto::ZERO && cost.nano > Amount::ZERO);
        match self.capped_at() {
            Some(amount) => facts.money(Fact::CappedAt, amount, asset),
            None => facts.null(Fact::CappedAt),
        }
        facts.number(Fact::MarkupBp, quote.markup_bp.into());
        match charge.clamp {
            Some(tokens) => facts.number(Fact::MaxTokensSet, tokens),
            None => facts.null(Fact::MaxTokensSet),
        }
        for (fact, amount) in [
            (Fact::HeldFirst, *held_first),
            (Fact::Held, *held),
            (Fact::Charged, ended.captured),
            (Fact::Overrun, ended.overrun),
            (Fact::AvailableAfter, ended.available),
        ] {
            facts.money(fact, amount, asset);
        }
        facts.text(Fact::PriceVersion, quote.tariff());
        let payment = charge.brought.as_ref().map(|brought| brought.facts(ended.captured));
        put_value(facts, Fact::Payment, payment.as_ref());
        put_value(facts, Fact::Agent, charge.agent.as_deref().map(Agent::to_json).as_ref());
        facts.number(Fact::StartedMs, charge.started.millis());
        facts.number(Fact::FinishedMs, finished.millis());
    }

    /// An estimate that comes to more than was held is charged up to that, and a report that comes to more than the
    /// request can have used up to that.
    fn capped_at(&self) -> Option<Amount> {
        let whole = self.cost.femto.to_nano_up().ok()?;
        (!self.cost.lines.is_empty() && self.cost.nano < whole).then_some(self.cost.nano)
    }
}

fn put_value(facts: &mut Facts, fact: Fact, value: Option<&Value>) {
    match value {
        Some(value) => facts.json(fact, &value.to_string()),
        None => facts.null(fact),
    }
}

/// What was reported of a call, without what was not.
fn put_usage(facts: &mut Facts, usage: &Usage) {
    for (fact, count) in [
        (Fact::InputUncached, usage.input_uncached),
        (Fact::CacheRead, usage.cache_read),
        (Fact::CacheWrite, usage.cache_write),
        (Fact::CacheWrite5m, usage.cache_write_5m),
        (Fact::CacheWrite30m, usage.cache_write_30m),
        (Fact::CacheWrite1h, usage.cache_write_1h),
        (Fact::CacheWrite12h, usage.cache_write_12h),
        (Fact::InputTotal, usage.input_total),
        (Fact::OutputTotal, usage.output_total),
        (Fact::Reasoning, usage.reasoning),
        (Fact::AudioIn, usage.audio_in),
        (Fact::AudioOut, usage.audio_out),
        (Fact::ImageIn, usage.image_in),
        (Fact::ImageOut, usage.image_out),
        (Fact::TotalOnly, usage.total_only),
        (Fact::WebSearchRequests, usage.web_search_requests),
        (Fact::Images, usage.images),
        (Fact::Characters, usage.characters),
        (Fact::SecondsMilli, usage.seconds_milli),
        (Fact::ResponseBytes, usage.response_bytes),
        (Fact::Calls, usage.calls),
    ] {
        if let Some(count) = count {
            facts.number(fact, count);
        }
    }
    for (fact, word) in [
        (Fact::ServiceTier, &usage.service_tier),
        (Fact::InferenceGeo, &usage.inference_geo),
        (Fact::Speed, &usage.speed),
    ] {
        if let Some(word) = word {
            facts.text(fact, word);
        }
    }
}

pub(crate) fn network_of(rail: &str) -> &str {
    match rail {
        "test" => wire::x402::network::FARTHING_TEST,
        other => {
            let channel = crate::channels::network_of(other);
            let submitted = submitting::network_of(other);
            channel.or(submitted).or_else(|| other.strip_prefix("x402:")).unwrap_or(other)
        }
    }
}

/// An amount with its currency, exact.
pub(crate) fn amount(amount: Amount, asset: Asset) -> Value {
    json!({"amount": amount.decimal(asset), "currency": asset.name()})
}

/// The payload of a receipt: the call's facts, and where the journal has them.
pub(crate) fn receipt(issuer: &str, facts: &[u8], entry: Option<&(Entry, [u8; 32])>) -> Option<Value> {
    let mut facts: Map<String, Value> = serde_json::from_slice(facts).ok()?;
    let account = facts.get("account")?.as_str().and_then(AccountId::from_hex)?;
    let mut payload = Map::new();
    payload.insert("iss".into(), issuer.into());
    match entry {
        Some((entry, hash)) => {
            let leg = entry.legs.iter().find(|leg| {
                leg.account == account && asset_of_code(leg.asset).is_some_and(|(_, memo)| !memo)
            })?;
            let (asset, _) = asset_of_code(leg.asset)?;
            payload.insert("lsn".into(), entry.lsn.into());
            payload.insert("entry_hash".into(), wire::hex::encode(hash).into());
            let leaf = ledger::merkle::leaf_hash(&entry.bytes());
            payload.insert("leaf".into(), wire::hex::encode(&leaf).into());
            payload.insert("balance_after".into(), amount(leg.balance_after, asset));
        }
        None => {
            payload.insert("balance_after".into(), facts.get("available_after").cloned().unwrap_or_default());
        }
    }
    facts.remove("available_after");
    sold(&mut facts);
    payload.extend(facts);
    Some(Value::Object(payload))
}

/// What the operator raises and pays is not the payer's: a receipt has the rates that the call was sold at
/// (MTR-53).
fn sold(facts: &mut Map<String, Value>) {
    let markup_bp = facts.remove("markup_bp").as_ref().and_then(markup);
    let lines = facts.get_mut("lines").and_then(Value::as_array_mut);
    for line in lines.into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(rate) = line.remove("rate_femto_usd").as_ref().and_then(Value::as_u64) {
            let text = selling::usd(Rate::from_femto(rate), markup_bp.unwrap_or(0));
            line.insert("rate".into(), json!({"amount": text, "currency": Asset::Usd.name()}));
        }
    }
}

/// A recorded markup, in basis points.
pub(crate) fn markup(recorded: &Value) -> Option<u32> {
    recorded.as_u64().and_then(|points| u32::try_from(points).ok())
}

/// The value of `Farthing-Usage`: a structured-field dictionary.
pub(crate) fn usage_line(metered: &Metered) -> String {
    let mut parts = Vec::with_capacity(5);
    if let Some(usage) = &metered.usage {
        for (name, count) in [
            ("in", usage.input_uncached),
            ("cache_read", usage.cache_read),
            ("out", usage.output_total),
            ("reasoning", usage.reasoning),
        ] {
            if let Some(count) = count {
                parts.push(format!("{name}={count}"));
            }
        }
    }
    parts.push(format!("basis={}", basis_name(metered.basis)));
    parts.join(", ")
}

pub(crate) const fn basis_name(basis: Basis) -> &'static str {
    match basis {
        Basis::Reported => "reported",
        Basis::ReportedPartial => "reported_partial",
        Basis::ReportedTotalOnly => "reported_total_only",
        Basis::ReportedOutputOnly => "reported_output_only",
        Basis::Counted => "counted",
        Basis::Estimate => "estimate",
        Basis::Pending => "pending",
        Basis::None => "none",
    }
}

pub(crate) const fn terminal_name(terminal: Terminal) -> &'static str {
    match terminal {
        Terminal::Complete => "complete",
        Terminal::Done => "done",
        Terminal::Completed => "completed",
        Terminal::Incomplete => "incomplete",
        Terminal::MessageStop => "message_stop",
        Terminal::FinishReasonStop => "finish_reason_stop",
        Terminal::Error => "error",
        Terminal::Truncated => "truncated",
        Terminal::ClientGone => "client_gone",
        Terminal::EofWithoutDone => "eof_without_done",
        Terminal::MeterLimit => "meter_limit",
        Terminal::Pending => "pending",
    }
}
