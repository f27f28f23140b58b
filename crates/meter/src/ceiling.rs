//! The most a call can cost, before it is made.

use money::{Amount, AmountError, FEMTO_PER_NANO, Femto, Rate};
use tariff::{Bounds, Rates, Tariff};

use crate::charge::CallTerms;
use crate::dialect::Dialect;
use crate::request::RequestFacts;

/// What one image or sound may count as, whatever it weighs or wherever it is fetched from.
const MEDIA_TOKENS_MAX: u64 = 4096;
/// What the answer of a call may take whose request cannot limit it, where the model's limit is not known: an
/// image of the best quality, or a transcript.
const UNLIMITED_OUTPUT: u64 = 8192;
/// Bytes of the most compressed sound that anybody sends, per token and per second of it.
const SOUND_BYTES_PER_TOKEN: u64 = 50;
const SOUND_BYTES_PER_SECOND: u64 = 500;
/// Tokens of framing that each message costs.
pub(crate) const TOKENS_PER_MESSAGE: u64 = 3;

/// How many tokens a body is held for (MTR-33).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputBound {
    /// Half its bytes. Holds for text, not for hex or base64, which take more: the little that may
    /// be missing is taken from the balance at the end.
    BytesHalf,
    /// Its bytes: a true bound for any tokenizer that works on bytes.
    Bytes,
    /// So many: they were counted.
    Tokens(u64),
}

/// How a hold is sized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldPolicy {
    /// How input is bounded.
    pub input_bound: InputBound,
    /// Output tokens per answer where the client sets no limit.
    pub default_output: u64,
    /// The least output worth having when a balance does not cover more (MTR-34).
    pub min_output: u64,
}

impl Default for HoldPolicy {
    fn default() -> Self {
        Self { input_bound: InputBound::BytesHalf, default_output: 4096, min_output: 256 }
    }
}

/// The worst case of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// Input tokens at most.
    pub input_tokens: u64,
    /// Output tokens at most, per answer. For a client without a limit this is the policy's default:
    /// sent upstream as a clamp it makes the ceiling binding.
    pub output_tokens: u64,
    /// Their cost, exact.
    pub cost: Femto,
    /// Their cost, rounded up: what to hold.
    pub nano: Amount,
}

/// The dearest rates that can apply to a request that begins as `call` says or later, and ends before `until_ms`
/// (MTR-50): what its ceiling is made of.
#[must_use]
pub fn dearest_rates(
    tariff: &Tariff,
    facts: &RequestFacts,
    body_bytes: u64,
    policy: &HoldPolicy,
    call: &CallTerms<'_>,
    until_ms: i64,
) -> Rates {
    tariff.dearest(&Bounds {
        from_ms: call.started_ms,
        until_ms,
        input_max: input_bound(tariff.base(), facts, body_bytes, policy),
        service_tier: facts.service_tier.as_deref().or(call.service_tier),
        region: call.region,
    })
}

/// The worst case of a request at its [`dearest_rates`]: input bound times the dearest input rate, output limit times the
/// number of answers times the dearest output rate, and the fee of the call (MTR-32).
///
/// # Errors
/// [`AmountError`] when the sum is beyond any balance: refuse the call.
pub fn ceiling(
    price: &Rates,
    facts: &RequestFacts,
    body_bytes: u64,
    policy: &HoldPolicy,
) -> Result<Ceiling, AmountError> {
    let output_tokens = wanted_output(price, facts, policy);
    let input_tokens = input_bound(price, facts, body_bytes, policy);
    let per_token = output_rate(price, facts)?;
    let cost = fixed_cost(price, facts, input_tokens)?.plus(times(output_tokens, per_token)?)?;
    Ok(Ceiling { input_tokens, output_tokens, cost, nano: cost.to_nano_up()? })
}

/// How many output tokens per answer `available` covers, never more than the request wants: what to
/// clamp it to (MTR-34). `None` means that it does not even cover the policy's minimum, and the
/// call must be refused.
#[must_use]
pub fn affordable_output(
    price: &Rates,
    facts: &RequestFacts,
    body_bytes: u64,
    available: Amount,
    policy: &HoldPolicy,
) -> Option<u64> {
    let wanted = wanted_output(price, facts, policy);
    let fixed = fixed_cost(price, facts, input_bound(price, facts, body_bytes, policy)).ok()?;
    let funds = u128::try_from(available.units()).ok()?.checked_mul(FEMTO_PER_NANO)?;
    let left = funds.checked_sub(fixed.units())?;
    let per_token = output_rate(price, facts).ok()?;
    let covered =
        left.checked_div(per_token).map_or(wanted, |tokens| u64::try_from(tokens).unwrap_or(u64::MAX));
    // What cannot be limited is covered whole or not at all.
    let least = if facts.has_output() { wanted.min(policy.min_output) } else { wanted };
    (covered >= least).then_some(covered.min(wanted))
}

fn wanted_output(price: &Rates, facts: &RequestFacts, policy: &HoldPolicy) -> u64 {
    if facts.has_unlimited_output() {
        return price.max_output_tokens.unwrap_or(UNLIMITED_OUTPUT);
    }
    if !facts.has_output() {
        return 0;
    }
    let wanted = facts.max_output.unwrap_or(policy.default_output);
    price.max_output_tokens.map_or(wanted, |cap| wanted.min(cap))
}

/// Tokens of the prompt at most: what its bytes can be, and no more than the model takes.
fn input_bound(price: &Rates, facts: &RequestFacts, body_bytes: u64, policy: &HoldPolicy) -> u64 {
    let bound = bytes_bound(facts, body_bytes, policy);
    price.max_input_tokens.map_or(bound, |most| bound.min(most))
}

fn bytes_bound(facts: &RequestFacts, body_bytes: u64, policy: &HoldPolicy) -> u64 {
    if !facts.has_tokens() {
        return 0;
    }
    // Of an upload only the fields are text.
    let uploaded = matches!(facts.dialect(), Dialect::OpenAiAudio | Dialect::OpenAiImages);
    let text_bytes = if uploaded { body_bytes.saturating_sub(facts.media_bytes) } else { body_bytes };
    let text = match policy.input_bound {
        InputBound::BytesHalf => text_bytes.div_ceil(2),
        InputBound::Bytes => text_bytes,
        InputBound::Tokens(tokens) => tokens,
    };
    if facts.dialect() == Dialect::OpenAiAudio {
        return text.saturating_add(facts.media_bytes.div_ceil(SOUND_BYTES_PER_TOKEN));
    }
    let framing = facts.messages.saturating_mul(TOKENS_PER_MESSAGE);
    text.saturating_add(framing).saturating_add(facts.media_parts.saturating_mul(MEDIA_TOKENS_MAX))
}

fn fixed_cost(price: &Rates, facts: &RequestFacts, input_tokens: u64) -> Result<Femto, AmountError> {
    if facts.is_free() {
        return Ok(Femto::ZERO);
    }
    let heard =
        facts.media_parts > 0 || matches!(facts.dialect(), Dialect::OpenAiAudio | Dialect::OpenAiImages);
    let tokens = call_fee(price)?.add_units(input_tokens, price.dearest_input(facts.caching, heard))?;
    let images = if facts.dialect() == Dialect::OpenAiImages { facts.choices } else { 0 };
    let mut cost = tokens.add_units(images, price.image.unwrap_or(Rate::FREE))?;
    if let Some(rate) = price.character {
        cost = cost.add_units(facts.characters.unwrap_or(0), rate)?;
    }
    if let Some(rate) = price.millisecond_rate() {
        cost = cost.add_units(milliseconds_bound(price, facts)?, rate)?;
    }
    match (facts.dialect(), price.response_byte, price.max_response_bytes) {
        (Dialect::Raw | Dialect::OpenAiSpeech, Some(rate), Some(most)) => cost.add_units(most, rate),
        // Without a bound there is no worst case, and without a price for what speech is counted in it would
        // be given away.
        (Dialect::Raw | Dialect::OpenAiSpeech, Some(_), None) => Err(AmountError),
        (Dialect::OpenAiSpeech, None, _) if price.character.is_none() && price.per_call.is_none() => {
            Err(AmountError)
        }
        _ => Ok(cost),
    }
}

fn milliseconds_bound(price: &Rates, facts: &RequestFacts) -> Result<u64, AmountError> {
    let most = price.max_seconds.map(|seconds| seconds.saturating_mul(1000));
    if facts.dialect() == Dialect::Raw {
        return most.ok_or(AmountError);
    }
    let sound = facts.media_bytes.saturating_mul(1000).div_ceil(SOUND_BYTES_PER_SECOND);
    let heard = facts.dialect() == Dialect::OpenAiAudio;
    Ok(if heard { most.map_or(sound, |most| most.min(sound)) } else { 0 })
}

/// The fee of the call itself. It stands inside the one rounding (reference item 36).
pub(crate) fn call_fee(price: &Rates) -> Result<Femto, AmountError> {
    let nano = u64::try_from(price.per_call.unwrap_or_default().units()).map_err(|_| AmountError)?;
    Femto::ZERO.add_units(nano, Rate::from_femto(1_000_000))
}

/// Femto-USD for one more token in every answer.
fn output_rate(price: &Rates, facts: &RequestFacts) -> Result<u128, AmountError> {
    // Where images have a price their tokens have none.
    let counted = facts.dialect() == Dialect::OpenAiImages && price.image.is_some();
    let rate = if counted { 0 } else { u128::from(price.dearest_output().femto()) };
    rate.checked_mul(u128::from(facts.choices)).ok_or(AmountError)
}

fn times(tokens: u64, per_token: u128) -> Result<Femto, AmountError> {
    u128::from(tokens).checked_mul(per_token).map(Femto::from_units).ok_or(AmountError)
}
