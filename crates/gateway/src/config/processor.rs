//! `rails.mpp.stripe` and `rails.mpp.card`: processors that charge cards (mpp.md sections 10.7 and 10.8).

use std::time::Duration;

use money::Amount;
use serde_json::{Map, Value};
use wire::base64;

use super::Mode;
use super::rail::encrypted;
use super::secret::Secret;
use super::section::{Keys, Section};
use super::url::BaseUrl;
use super::value;

/// What one payment through a processor may be, and how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processing {
    /// What is asked for at least, default 1 USD: less is eaten by fees, and below 0.50 USD nobody charges.
    pub deposit: Amount,
    /// The most that is asked for at once, default 100 USD.
    pub ceiling_max: Amount,
    /// For one asking, default 20 s.
    pub time_max: Duration,
}

/// An account at Stripe.
#[derive(Clone, Debug)]
pub struct Stripe {
    /// The API; Stripe's own when absent.
    pub url: BaseUrl,
    /// Secret or restricted key of this gateway's mode.
    pub key: Secret,
    /// The connected account that is paid, where it is not the key's own.
    pub account: Option<String>,
    /// The seller's profile that tokens are granted to.
    pub network_id: String,
    /// What tokens may stand for, default `card` and `link`.
    pub payment_methods: Vec<String>,
    /// Sums and times.
    pub processing: Processing,
}

/// A processor of encrypted cards.
#[derive(Clone, Debug)]
pub struct Card {
    /// Where payments are posted to.
    pub url: BaseUrl,
    /// What it knows us by.
    pub key: Secret,
    /// Networks that it takes.
    pub networks: Vec<String>,
    /// What the payer is shown.
    pub merchant: String,
    /// Its public key, which cards are encrypted to.
    pub jwk: Map<String, Value>,
    /// The name of that key.
    pub kid: String,
    /// Whether an address is asked for.
    pub billing_required: bool,
    /// Sums and times.
    pub processing: Processing,
}

const STRIPE: Keys = Keys::secret(
    &["url", "key", "account", "network_id", "payment_methods", "deposit", "ceiling_max", "timeout"],
    &[],
);
const CARD: Keys = Keys::secret(
    &["url", "key", "networks", "merchant", "jwk", "billing_required", "deposit", "ceiling_max", "timeout"],
    &[],
);

const STRIPE_URL: &str = "https://api.stripe.com";
const USD_1: Amount = Amount::from_units(1_000_000_000);
const USD_100: Amount = Amount::from_units(100_000_000_000);
const LEAST: Amount = Amount::from_units(500_000_000);
const TIME_MAX: Duration = Duration::from_secs(20);
/// Least bytes of an RSA modulus (RAIL-19).
const MODULUS_BYTES_MIN: usize = 256;
/// Most bytes of a JWK's parts.
const JWK_PART_BYTES_MAX: usize = 4096;

/// Reads `rails.mpp.stripe`. None: there is none, or it cannot be used.
pub(super) fn stripe(mpp: &Section<'_>) -> Option<Stripe> {
    let section = mpp.section("stripe", STRIPE)?;
    let processing = processing(&section);
    let url = section.value("url", |text| encrypted(text, "Stripe"));
    let url = url.or_else(|| BaseUrl::parse(STRIPE_URL).ok());
    let key = secret(&section)?;
    let mode = section.context.mode;
    if !is_of(mode, key.expose()) {
        let path = section.path_of("key");
        section.complain("key", format!("{path}: this is no secret key of Stripe's for this gateway's mode"));
    }
    let network_id = section.required("network_id", name);
    let methods = section.values("payment_methods", name);
    let methods = methods.map(|written| written.into_iter().map(|(_, name)| name).collect());
    Some(Stripe {
        url: url?,
        key,
        account: section.value("account", name),
        network_id: network_id?,
        payment_methods: methods.unwrap_or_else(|| vec!["card".to_owned(), "link".to_owned()]),
        processing,
    })
}

/// Reads `rails.mpp.card`. None: there is none, or it cannot be used.
pub(super) fn card(mpp: &Section<'_>) -> Option<Card> {
    let section = mpp.section("card", CARD)?;
    let processing = processing(&section);
    let url = section.required("url", |text| encrypted(text, "a processor"));
    let networks = section.values("networks", name).unwrap_or_default();
    if networks.is_empty() {
        section.missing("rails.mpp.card needs \"networks\": which cards are taken?");
    }
    let merchant = section.required("merchant", value::some_text);
    let jwk = section.required("jwk", jwk);
    let key = secret(&section)?;
    let (jwk, kid) = jwk?;
    Some(Card {
        url: url?,
        key,
        networks: networks.into_iter().map(|(_, name)| name).collect(),
        merchant: merchant?,
        jwk,
        kid,
        billing_required: section.value("billing_required", value::flag).unwrap_or(false),
        processing,
    })
}

fn processing(section: &Section<'_>) -> Processing {
    let deposit = section.value("deposit", value::some_usd).unwrap_or(USD_1);
    let ceiling_max = section.value("ceiling_max", value::some_usd).unwrap_or(USD_100);
    if deposit < LEAST {
        section
            .complain("deposit", format!("{}.deposit: no card is charged less than 0.50 USD", section.path));
    }
    if deposit > ceiling_max {
        section.complain("deposit", format!("{}.deposit is more than ceiling_max", section.path));
    }
    let time_max = section.value("timeout", value::duration).unwrap_or(TIME_MAX);
    Processing { deposit, ceiling_max, time_max }
}

fn secret(section: &Section<'_>) -> Option<Secret> {
    let Some(node) = section.get("key") else {
        section.missing(format!("{} needs \"key\"", section.path));
        return None;
    };
    section.context.secret(&section.path_of("key"), node)
}

/// A key says itself which money it moves.
fn is_of(mode: Mode, key: &str) -> bool {
    let starts: [&str; 2] = match mode {
        Mode::Live => ["sk_live_", "rk_live_"],
        Mode::Test => ["sk_test_", "rk_test_"],
    };
    starts.iter().any(|start| key.starts_with(start))
}

fn name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if text.is_empty() || text.len() > 128 || !text.bytes().all(fits) {
        return Err(format!("\"{text}\" is no name: letters, digits, _ and -"));
    }
    Ok(text.to_owned())
}

/// The one kind of key that payers may encrypt to (CARD-1, RAIL-19).
fn jwk(text: &str) -> Result<(Map<String, Value>, String), String> {
    let bad = |why: &str| format!("is no public key as JWK: {why}");
    let parsed = wire::json::parse_strict(text.as_bytes()).ok();
    let Some(Value::Object(jwk)) = parsed else { return Err(bad("not a JSON object")) };
    let part = |name: &str| jwk.get(name).and_then(Value::as_str);
    if part("kty") != Some("RSA") || part("alg") != Some("RSA-OAEP-256") || part("use") != Some("enc") {
        return Err(bad("kty RSA, alg RSA-OAEP-256 and use enc are needed"));
    }
    if ["d", "p", "q", "dp", "dq", "qi"].iter().any(|secret| jwk.contains_key(*secret)) {
        return Err("is the private key: only the processor may have that".to_owned());
    }
    let modulus = part("n").and_then(|text| base64::decode_url(text, JWK_PART_BYTES_MAX).ok());
    if modulus.is_none_or(|bytes| bytes.len() < MODULUS_BYTES_MIN) || part("e").is_none() {
        return Err(bad("a modulus of at least 2048 bits and an exponent are needed"));
    }
    let kid = part("kid").filter(|kid| !kid.is_empty()).ok_or_else(|| bad("it needs a kid"))?.to_owned();
    Ok((jwk, kid))
}
