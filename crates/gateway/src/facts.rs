//! The facts of a finished call: what the receipt, the ledger listing and an explanation are made of.
//! Counts, amounts and names only; never a prompt, a completion or a key (SEC-64).

use ledger::{AccountId, Ended, Entry, asset_of_code};
use meter::{Basis, Charge as Cost, Line, Metered, Terminal, Usage};
use money::{Amount, Asset, Femto, Rate};
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

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
        let mut json = Vec::with_capacity(USUAL_BYTES);
        // Writing to memory does not fail, and every name is a string.
        let _ = serde_json::to_writer(&mut json, self);
        json
    }

    fn money(&self, amount: Amount) -> Money {
        Money(amount, self.payer.account.asset())
    }

    /// An estimate that comes to more than was held is charged up to that, and a report that comes to more than the
    /// request can have used up to that.
    fn capped_at(&self) -> Option<Money> {
        let whole = self.cost.femto.to_nano_up().ok()?;
        (!self.cost.lines.is_empty() && self.cost.nano < whole).then(|| self.money(self.cost.nano))
    }
}

impl Serialize for CallFacts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { charge, payer, held_first, held, ended, cost, metered, finished } = self;
        let quote = &charge.quote;
        let mut facts = serializer.serialize_struct("CallFacts", 30)?;
        facts.serialize_field("call", &Shown(charge.call))?;
        facts.serialize_field("account", &Shown(payer.account.id()))?;
        // A key's id is written as an account's.
        facts.serialize_field("key_id", &payer.key.as_ref().map(|key| Shown(AccountId(key.key_id))))?;
        facts.serialize_field("protocol", payer.protocol)?;
        facts.serialize_field("route", &charge.route.name)?;
        facts.serialize_field("upstream", &quote.upstream.name)?;
        facts.serialize_field("model", quote.model())?;
        facts.serialize_field("dialect", quote.dialect().name())?;
        facts.serialize_field("status", &charge.status.as_u16())?;
        facts.serialize_field("usage", &metered.usage.as_ref().map(Reported))?;
        facts.serialize_field("basis", basis_name(metered.basis))?;
        facts.serialize_field("terminal", terminal_name(metered.terminal))?;
        facts.serialize_field("estimated", &cost.estimated)?;
        facts.serialize_field("lines", &Lines(&cost.lines))?;
        facts.serialize_field("cost_femto_usd", &Shown(cost.femto.units()))?;
        // Where nothing could be priced what was held is what is charged.
        facts.serialize_field("unpriced", &(cost.femto == Femto::ZERO && cost.nano > Amount::ZERO))?;
        facts.serialize_field("capped_at", &self.capped_at())?;
        facts.serialize_field("markup_bp", &quote.markup_bp)?;
        facts.serialize_field("max_tokens_set", &charge.clamp)?;
        facts.serialize_field("held_first", &self.money(*held_first))?;
        facts.serialize_field("held", &self.money(*held))?;
        facts.serialize_field("charged", &self.money(ended.captured))?;
        facts.serialize_field("overrun", &self.money(ended.overrun))?;
        facts.serialize_field("available_after", &self.money(ended.available))?;
        facts.serialize_field("price_version", quote.tariff())?;
        facts.serialize_field("payment", &charge.brought.as_ref().map(|it| it.facts(ended.captured)))?;
        facts.serialize_field("agent", &charge.agent.as_deref().map(Agent::to_json))?;
        facts.serialize_field("started_ms", &charge.started.millis())?;
        facts.serialize_field("finished_ms", &finished.millis())?;
        facts.end()
    }
}

/// Something as it is shown to people.
struct Shown<T>(T);

impl<T: std::fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// An amount with its currency, exact.
struct Money(Amount, Asset);

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(amount, asset) = self;
        let mut money = serializer.serialize_struct("Money", 2)?;
        money.serialize_field("amount", &*amount.digits(*asset))?;
        money.serialize_field("currency", asset.name())?;
        money.end()
    }
}

/// The lines of a bill.
struct Lines<'a>(&'a [Line]);

impl Serialize for Lines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written {
            bucket: &'static str,
            quantity: u64,
            rate_femto_usd: u64,
        }
        serializer.collect_seq(self.0.iter().map(|line| Written {
            bucket: line.bucket.name(),
            quantity: line.quantity,
            rate_femto_usd: line.rate.femto(),
        }))
    }
}

/// What was reported of a call, without what was not.
struct Reported<'a>(&'a Usage);

impl Serialize for Reported<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(usage) = self;
        let mut members = serializer.serialize_map(None)?;
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
            if let Some(count) = count {
                members.serialize_entry(name, &count)?;
            }
        }
        for (name, word) in [
            ("service_tier", &usage.service_tier),
            ("inference_geo", &usage.inference_geo),
            ("speed", &usage.speed),
        ] {
            if let Some(word) = word {
                members.serialize_entry(name, word)?;
            }
        }
        members.end()
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
