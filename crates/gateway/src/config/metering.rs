//! `metering`: how much is held, what happens when a client goes, and which requests count as the same one.

use std::time::Duration;

use money::Decimal;

use super::glob::Glob;
use super::policy::{self, Policy};
use super::section::{Keys, Section, scalar};
use super::value;

/// Holds, disconnects and repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metering {
    /// Output tokens held for a request without a limit of its own, default 4096.
    pub default_output: u32,
    /// Least output worth a call when the balance is short, default 256 (MTR-34).
    pub min_output: u32,
    /// Lower the output limit to what the balance covers, default true (MTR-34).
    pub fit_to_balance: bool,
    /// Ask the upstream for the usage of a stream, and hide it from a client that did not
    /// (MTR-20), default true.
    pub inject_stream_usage: bool,
    /// Output tokens of the first hold of a stream and of each that follows while it runs (MTR-35), default
    /// 4096. None (`whole`): the whole limit is held at once, and a request without a limit gets one.
    pub step: Option<u32>,
    /// How input is estimated before the call (MTR-33).
    pub hold_input: HoldInput,
    /// Who pays for a call that did not end as it should, where the route does not say otherwise.
    pub policy: Policy,
    /// What a model's own tokenizer makes of a token of ours, in basis points, for estimates (MTR-26): the first
    /// pattern that fits its name.
    pub factors: Vec<(Glob, u32)>,
    /// What is remembered of calls that may be asked for again.
    pub dedupe: Dedupe,
}

/// How long a repeated request is known for one (MTR-39..41).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dedupe {
    /// Life of an `Idempotency-Key`, default 24 h, at most 30 days.
    pub idempotency_key: Duration,
    /// How long a retry of an SDK finds the attempt before it, default 10 min, at most 1 h.
    pub sdk_retry: Duration,
    /// Largest answer kept for whoever lost it, default 1 MiB, at most 16 MiB.
    pub body_bytes_max: usize,
}

impl Default for Dedupe {
    fn default() -> Self {
        Self {
            idempotency_key: Duration::from_secs(24 * 3600),
            sdk_retry: Duration::from_secs(600),
            body_bytes_max: 1024 * 1024,
        }
    }
}

impl Default for Metering {
    fn default() -> Self {
        Self {
            default_output: 4096,
            min_output: 256,
            fit_to_balance: true,
            inject_stream_usage: true,
            step: Some(4096),
            hold_input: HoldInput::BytesHalf,
            policy: Policy::default(),
            factors: usual_factors(),
            dedupe: Dedupe::default(),
        }
    }
}

/// Estimate of input tokens from the size of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldInput {
    /// A token for two bytes: usual text, no bound.
    BytesHalf,
    /// A token for each byte: a bound.
    Bytes,
    /// Counted, before anything is held.
    Tokenizer,
}

impl Metering {
    /// The factor of a model's family.
    #[must_use]
    pub fn factor_bp(&self, model: &str) -> u32 {
        const ONE_BP: u32 = 10_000;
        self.factors.iter().find(|(glob, _)| glob.matches(model)).map_or(ONE_BP, |(_, factor)| *factor)
    }
}

/// Claude's tokenizer makes more tokens of a text than the one that counts here.
fn usual_factors() -> Vec<(Glob, u32)> {
    ["claude*", "anthropic/claude*"].map(|pattern| (Glob::new(pattern), 12_500)).into()
}

const KEYS: Keys = Keys::new(
    &[
        "hold",
        "inject_stream_usage",
        "on_client_gone",
        "on_upstream_error",
        "bill_on_upstream_failure",
        "on_missing_usage",
        "estimate",
        "dedupe",
    ],
    &["strict"],
);
const HOLD_KEYS: Keys =
    Keys::new(&["input", "output", "step", "default_output", "min_output", "fit_to_balance"], &[]);
const ESTIMATE_KEYS: Keys = Keys::new(&["factors"], &[]);
const DEDUPE_KEYS: Keys = Keys::new(&["idempotency_key", "sdk_retry_fingerprint", "max_body"], &[]);

pub(super) fn read(top: &Section<'_>) -> Metering {
    let mut metering = Metering::default();
    let Some(section) = top.section("metering", KEYS) else { return metering };
    if let Some(flag) = section.value("inject_stream_usage", value::flag) {
        metering.inject_stream_usage = flag;
    }
    metering.policy = policy::read(&section, metering.policy);
    if let Some(hold) = section.section("hold", HOLD_KEYS) {
        read_hold(&hold, &mut metering);
    }
    if let Some(factors) = section
        .section("estimate", ESTIMATE_KEYS)
        .and_then(|own| own.get("factors").map(|node| (own.path_of("factors"), node)))
    {
        let (path, node) = factors;
        let own = Section::open_any(section.context, &path, node);
        let own = own.iter().flat_map(|own| {
            own.entries().filter_map(|(key, node)| {
                Some((Glob::new(&key.text), scalar(section.context, &own.path_of(&key.text), node, factor)?))
            })
        });
        // A pattern of the file comes before one of ours.
        metering.factors.splice(0..0, own.collect::<Vec<_>>());
    }
    if let Some(dedupe) = section.section("dedupe", DEDUPE_KEYS) {
        read_dedupe(&dedupe, &mut metering.dedupe);
    }
    metering
}

fn read_dedupe(section: &Section<'_>, dedupe: &mut Dedupe) {
    let within = |hours: u64| {
        move |text: &str| {
            let asked = value::duration(text)?;
            if asked.as_secs() > hours * 3600 { Err(format!("at most {hours}h")) } else { Ok(asked) }
        }
    };
    let body = |text: &str| {
        let asked = value::size(text)?;
        if asked > 16 * 1024 * 1024 { Err("at most 16MiB".to_owned()) } else { Ok(asked) }
    };
    dedupe.idempotency_key = section.value("idempotency_key", within(720)).unwrap_or(dedupe.idempotency_key);
    dedupe.sdk_retry = section.value("sdk_retry_fingerprint", within(1)).unwrap_or(dedupe.sdk_retry);
    dedupe.body_bytes_max = section.value("max_body", body).unwrap_or(dedupe.body_bytes_max);
}

fn read_hold(hold: &Section<'_>, metering: &mut Metering) {
    hold.only("output", "max_tokens");
    metering.step = hold.value("step", step).unwrap_or(metering.step);
    metering.hold_input = hold.value("input", hold_input).unwrap_or(metering.hold_input);
    metering.default_output = hold.value("default_output", value::count).unwrap_or(metering.default_output);
    metering.min_output = hold.value("min_output", value::count).unwrap_or(metering.min_output);
    metering.fit_to_balance = hold.value("fit_to_balance", value::flag).unwrap_or(metering.fit_to_balance);
    if metering.min_output > metering.default_output {
        hold.complain("min_output", "metering.hold.min_output is more than default_output");
    }
}

fn step(text: &str) -> Result<Option<u32>, String> {
    if text == "whole" { Ok(None) } else { value::count(text).map(Some) }
}

fn hold_input(text: &str) -> Result<HoldInput, String> {
    match text {
        "bytes/2" => Ok(HoldInput::BytesHalf),
        "bytes" => Ok(HoldInput::Bytes),
        "tokenizer" => Ok(HoldInput::Tokenizer),
        _ => Err(format!("\"{text}\" is none of bytes/2, bytes, tokenizer")),
    }
}

/// `1.25` in basis points, from 0.1 to 10.
fn factor(text: &str) -> Result<u32, String> {
    let wrong = || format!("\"{text}\" is no factor; write it like 1.25");
    let points = Decimal::parse(text).map_err(|_| wrong())?.exact(4).ok_or_else(wrong)?;
    match u32::try_from(points) {
        Ok(points) if (1_000..=100_000).contains(&points) => Ok(points),
        Ok(_) | Err(_) => Err("must be between 0.1 and 10".to_owned()),
    }
}
