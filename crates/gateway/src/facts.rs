//! The facts of a finished call: what the receipt, the ledger listing and an explanation are made of.
//! Counts, amounts and names only; never a prompt, a completion or a key (SEC-64).

use ledger::{AccountId, Ended, Entry, asset_of_code};
use meter::{Basis, Charge as Cost, Metered, Terminal, Usage};
use money::{Amount, Asset, Femto, Rate};
use serde_json::{Map, Value, json};
use wire::json_text::{self, Members};

use crate::charge::Charge;
use crate::clock::Now;
use crate::identity::Agent;
use crate::payer::Payer;
use crate::selling;
use crate::submitting;

/// What the facts of most calls take, in bytes.
const USUAL_BYTES: usize = 1280;

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
    /// As they are kept. Every call that is charged has some: so they are written straight into one piece of memory.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut json = String::with_capacity(USUAL_BYTES);
        json_text::push_object(&mut json, |facts| self.put(facts));
        json.into_bytes()
    }

    fn put(&self, facts: &mut Members<'_>) {
        let Self { charge, payer, held_first, held, ended, cost, metered, finished } = self;
        let (quote, asset) = (&charge.quote, payer.account.asset());
        facts.shown("call", charge.call);
        facts.shown("account", payer.account.id());
        match &payer.key {
            // A key's id is written as an account's.
            Some(key) => facts.shown("key_id", AccountId(key.key_id)),
            None => facts.null("key_id"),
        }
        facts.text("protocol", payer.protocol);
        facts.text("route", &charge.route.name);
        facts.text("upstream", &quote.upstream.name);
        facts.text("model", quote.model());
        facts.text("dialect", quote.dialect().name());
        facts.number("status", charge.status.as_u16().into());
        match &metered.usage {
            Some(usage) => facts.object("usage", |members| put_usage(members, usage)),
            None => facts.null("usage"),
        }
        facts.text("basis", basis_name(metered.basis));
        facts.text("terminal", terminal_name(metered.terminal));
        facts.flag("estimated", cost.estimated);
        facts.objects("lines", &cost.lines, |members, line| {
            members.text("bucket", line.bucket.name());
            members.number("quantity", line.quantity);
            members.number("rate_femto_usd", line.rate.femto());
        });
        facts.shown("cost_femto_usd", cost.femto.units());
        // Where nothing could be priced what was held is what is charged.
        facts.flag("unpriced", cost.femto == Femto::ZERO && cost.nano > Amount::ZERO);
        match self.capped_at() {
            Some(amount) => put_money(facts, "capped_at", amount, asset),
            None => facts.null("capped_at"),
        }
        facts.number("markup_bp", quote.markup_bp.into());
        match charge.clamp {
            Some(tokens) => facts.number("max_tokens_set", tokens),
            None => facts.null("max_tokens_set"),
        }
        for (name, amount) in [
            ("held_first", *held_first),
            ("held", *held),
            ("charged", ended.captured),
            ("overrun", ended.overrun),
            ("available_after", ended.available),
        ] {
            put_money(facts, name, amount, asset);
        }
        facts.text("price_version", quote.tariff());
        let payment = charge.brought.as_ref().map(|brought| brought.facts(ended.captured));
        put_value(facts, "payment", payment.as_ref());
        put_value(facts, "agent", charge.agent.as_deref().map(Agent::to_json).as_ref());
        facts.number("started_ms", charge.started.millis());
        facts.number("finished_ms", finished.millis());
    }

    /// An estimate that comes to more than was held is charged up to that, and a report that comes to more than the
    /// request can have used up to that.
    fn capped_at(&self) -> Option<Amount> {
        let whole = self.cost.femto.to_nano_up().ok()?;
        (!self.cost.lines.is_empty() && self.cost.nano < whole).then_some(self.cost.nano)
    }
}

/// An amount with its currency, exact.
fn put_money(members: &mut Members<'_>, name: &'static str, amount: Amount, asset: Asset) {
    members.object(name, |money| {
        money.text("amount", &amount.digits(asset));
        money.text("currency", asset.name());
    });
}

fn put_value(members: &mut Members<'_>, name: &'static str, value: Option<&Value>) {
    match value {
        Some(value) => members.json(name, &value.to_string()),
        None => members.null(name),
    }
}

/// What was reported of a call, without what was not.
fn put_usage(members: &mut Members<'_>, usage: &Usage) {
    for (name, count) in [
        ("input_uncached", usage.input_uncached),
        ("cache_read", usage.cache_read),
        ("cache_write", usage.cache_write),
        ("cache_write_5m", usage.cache_write_5m),
        ("cache_write_30m", usage.cache_write_30m),
        ("cache_write_1h", usage.cache_write_1h),
        ("cache_write_12h", usage.cache_write_12h),
        ("input_total", usage.input_total),
        ("output_total", usage.output_total),
        ("reasoning", usage.reasoning),
        ("audio_in", usage.audio_in),
        ("audio_out", usage.audio_out),
        ("image_in", usage.image_in),
        ("image_out", usage.image_out),
        ("total_only", usage.total_only),
        ("web_search_requests", usage.web_search_requests),
        ("images", usage.images),
        ("characters", usage.characters),
        ("seconds_milli", usage.seconds_milli),
        ("response_bytes", usage.response_bytes),
        ("calls", usage.calls),
    ] {
        members.some_number(name, count);
    }
    for (name, word) in [
        ("service_tier", &usage.service_tier),
        ("inference_geo", &usage.inference_geo),
        ("speed", &usage.speed),
    ] {
        members.some_text(name, word.as_deref());
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
