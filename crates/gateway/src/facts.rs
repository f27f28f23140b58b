//! The facts of a finished call: what the receipt, the ledger listing and an explanation are made of.
//! Counts, amounts and names only; never a prompt, a completion or a key (SEC-64).

use ledger::{AccountId, Ended, Entry, asset_of_code};
use meter::{Basis, Charge, Metered, Terminal, Usage};
use money::{Amount, Asset, Femto, Rate};
use serde_json::{Map, Value, json};

use crate::call_id::CallId;
use crate::clock::Now;
use crate::identity::Agent;
use crate::payer::Payer;
use crate::quote::Quote;
use crate::selling;

/// Everything about a call that lasts.
pub(crate) struct CallFacts<'a> {
    pub(crate) call: CallId,
    pub(crate) account: AccountId,
    pub(crate) asset: Asset,
    pub(crate) payer: &'a Payer,
    /// Who signed the request.
    pub(crate) agent: Option<&'a Agent>,
    pub(crate) route: &'a str,
    pub(crate) upstream: &'a str,
    pub(crate) quote: &'a Quote,
    /// What the hold began with ...
    pub(crate) held_first: Amount,
    /// ... and ended with.
    pub(crate) held: Amount,
    /// Output limit that was written into the request.
    pub(crate) clamp: Option<u64>,
    pub(crate) ended: &'a Ended,
    pub(crate) cost: &'a Charge,
    pub(crate) metered: &'a Metered,
    pub(crate) status: u16,
    /// What the call was paid with, where it brought a payment.
    pub(crate) payment: Option<Value>,
    pub(crate) started: Now,
    pub(crate) finished: Now,
}

impl CallFacts<'_> {
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let lines: Vec<Value> = self
            .cost
            .lines
            .iter()
            .map(|line| {
                json!({"bucket": line.bucket.name(), "quantity": line.quantity,
                       "rate_femto_usd": line.rate.femto()})
            })
            .collect();
        json!({
            "call": self.call.to_string(), "account": self.account.to_string(),
            "key_id": self.payer.key.as_ref().map(|key| wire::hex::encode(&key.key_id)),
            "protocol": self.payer.protocol, "route": self.route, "upstream": self.upstream,
            "model": self.quote.model, "dialect": self.quote.dialect.name(), "status": self.status,
            "usage": self.metered.usage.as_ref().map(usage), "basis": basis_name(self.metered.basis),
            "terminal": terminal_name(self.metered.terminal), "estimated": self.cost.estimated,
            "lines": lines, "cost_femto_usd": self.cost.femto.units().to_string(),
            // Where nothing could be priced what was held is what is charged.
            "unpriced": self.cost.femto == Femto::ZERO && self.cost.nano > Amount::ZERO,
            "capped_at": self.capped_at(),
            "markup_bp": self.quote.markup_bp, "max_tokens_set": self.clamp,
            "held_first": amount(self.held_first, self.asset),
            "held": amount(self.held, self.asset), "charged": amount(self.ended.captured, self.asset),
            "overrun": amount(self.ended.overrun, self.asset),
            "available_after": amount(self.ended.available, self.asset),
            "price_version": self.quote.tariff, "payment": self.payment,
            "agent": self.agent.map(Agent::to_json),
            "started_ms": self.started.millis(), "finished_ms": self.finished.millis(),
        })
        .to_string()
        .into_bytes()
    }

    /// An estimate that comes to more than was held is charged up to that, and a report that comes to more than the
    /// request can have used up to that.
    fn capped_at(&self) -> Option<Value> {
        let whole = self.cost.femto.to_nano_up().ok()?;
        (!self.cost.lines.is_empty() && self.cost.nano < whole).then(|| amount(self.cost.nano, self.asset))
    }
}

pub(crate) fn network_of(rail: &str) -> &str {
    match rail {
        "test" => wire::x402::network::FARTHING_TEST,
        other => {
            let channel = crate::channels::network_of(other);
            channel.or_else(|| other.strip_prefix("x402:")).unwrap_or(other)
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

fn usage(usage: &Usage) -> Value {
    let mut members = Map::new();
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
            members.insert(name.to_owned(), count.into());
        }
    }
    for (name, word) in [
        ("service_tier", &usage.service_tier),
        ("inference_geo", &usage.inference_geo),
        ("speed", &usage.speed),
    ] {
        if let Some(word) = word {
            members.insert(name.to_owned(), word.clone().into());
        }
    }
    Value::Object(members)
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
