//! `rails.x402.extensions`: what a challenge offers beside payments, and what a route tells catalogues.

use serde_json::{Map, Value};
use wire::x402::{bazaar, test_keys};

use super::rail::Rails;
use super::route::PathPattern;
use super::secret::Secret32;
use super::section::{Keys, Section, suggestion};
use super::value;
use super::{Mode, Route};

/// Longest name of a service, and longest tag: catalogues leave out what is longer.
const NAME_CHARS_MAX: usize = 32;
/// Most tags of a service.
const TAGS_MAX: usize = 5;
/// Longest address of an icon.
const ICON_URL_CHARS_MAX: usize = 2048;

/// The extensions that are switched on.
#[derive(Clone, Debug)]
pub struct Extensions {
    /// Payers may name their payments (X402-34).
    pub payment_identifier: Option<PaymentIdentifier>,
    /// A wallet that paid before opens its balance with a signature (X402-35).
    pub sign_in: bool,
    /// Offers and receipts are signed (X402-36).
    pub offer_receipt: Option<OfferReceipt>,
    /// Catalogues are told how to call the routes that describe themselves (X402-37).
    pub bazaar: Option<Service>,
}

/// Whether a payment has to have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaymentIdentifier {
    /// It may.
    Optional,
    /// One without is refused, version 1 payments among them: they cannot carry one.
    Required,
}

/// How offers and receipts are signed.
#[derive(Clone, Debug, Default)]
pub struct OfferReceipt {
    /// Signs as an EVM account (EIP-712); without it the receipt key signs a JWS.
    pub key: Option<Secret32>,
    /// Whether a receipt names the transaction.
    pub transaction: bool,
}

/// What a catalogue shows of the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// At most 32 printable ASCII characters.
    pub name: Option<String>,
    /// At most 5, each at most 32 printable ASCII characters.
    pub tags: Vec<String>,
    /// Absolute, `http` or `https`.
    pub icon_url: Option<String>,
}

/// What a route tells catalogues.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteDiscovery {
    /// Its path with parameters: `/files/:id`.
    pub template: Option<String>,
    /// Example values of a query.
    pub query: Option<Map<String, Value>>,
    /// An example of a JSON body.
    pub body: Option<Map<String, Value>>,
    /// An example of a JSON answer.
    pub output: Option<Value>,
}

impl Default for Extensions {
    fn default() -> Self {
        Self {
            payment_identifier: Some(PaymentIdentifier::Optional),
            sign_in: true,
            offer_receipt: None,
            bazaar: None,
        }
    }
}

impl PaymentIdentifier {
    /// Whether a payment without a name is refused.
    #[must_use]
    pub const fn is_required(self) -> bool {
        matches!(self, Self::Required)
    }
}

/// The keys of `rails.x402` that are read here.
pub(super) const NAMES: [&str; 4] = ["extensions", "payment_identifier", "offer_receipt", "bazaar"];
const OFFER_RECEIPT_KEYS: Keys = Keys::secret(&["key", "transaction"], &[]);
const SERVICE_KEYS: Keys = Keys::new(&["service_name", "tags", "icon_url"], &[]);
const DISCOVERY_KEYS: Keys = Keys::new(&["template", "query", "body", "output"], &[]);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    PaymentIdentifier,
    SignIn,
    OfferReceipt,
    Bazaar,
}

impl Id {
    const ALL: [(&'static str, Self); 4] = [
        (wire::x402::payment_identifier::ID, Self::PaymentIdentifier),
        (wire::x402::siwx::ID, Self::SignIn),
        (wire::x402::offer_receipt::ID, Self::OfferReceipt),
        (bazaar::ID, Self::Bazaar),
    ];

    fn parse(text: &str) -> Result<Self, String> {
        let unknown = || {
            let hint = suggestion(text, Self::ALL.iter().map(|(name, _)| *name));
            format!("\"{text}\" is no x402 extension that we know{hint}")
        };
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, id)| *id).ok_or_else(unknown)
    }
}

/// Reads the extensions of `rails.x402`.
pub(super) fn read(x402: &Section<'_>, declares: bool) -> Extensions {
    let usual = Extensions::default();
    let on: Vec<Id> = match x402.values("extensions", Id::parse) {
        Some(written) => written.into_iter().map(|(_, id)| id).collect(),
        None if declares => vec![Id::PaymentIdentifier, Id::SignIn],
        None => Vec::new(),
    };
    // A setting of what is switched off would do nothing.
    for (key, id, name) in [
        ("payment_identifier", Id::PaymentIdentifier, "payment-identifier"),
        ("offer_receipt", Id::OfferReceipt, "offer-receipt"),
        ("bazaar", Id::Bazaar, "bazaar"),
    ] {
        if x402.get(key).is_some() && !on.contains(&id) {
            let path = x402.path_of(key);
            x402.complain(key, format!("{path} does nothing: {name} is not among rails.x402.extensions"));
        }
    }
    let switched = |id| on.contains(&id);
    let named = x402.value("payment_identifier", payment_identifier).or(usual.payment_identifier);
    Extensions {
        payment_identifier: named.filter(|_| switched(Id::PaymentIdentifier)),
        sign_in: switched(Id::SignIn),
        offer_receipt: switched(Id::OfferReceipt).then(|| read_offer_receipt(x402)),
        bazaar: switched(Id::Bazaar).then(|| read_service(x402)),
    }
}

fn payment_identifier(text: &str) -> Result<PaymentIdentifier, String> {
    match text {
        "optional" => Ok(PaymentIdentifier::Optional),
        "required" => Ok(PaymentIdentifier::Required),
        _ => Err(format!("\"{text}\" is neither optional nor required")),
    }
}

fn read_offer_receipt(x402: &Section<'_>) -> OfferReceipt {
    let Some(section) = x402.section("offer_receipt", OFFER_RECEIPT_KEYS) else {
        return OfferReceipt::default();
    };
    let path = section.path_of("key");
    let key = section.get("key").and_then(|node| section.context.secret32(&path, node));
    let account = key.as_ref().map(|secret| proof::secp::SecretKey::from_bytes(secret.expose()));
    match account {
        Some(Err(_)) => section.complain("key", format!("{path}: these 32 bytes are no secp256k1 key")),
        Some(Ok(account))
            if section.context.mode == Mode::Live && test_keys::is_public(&account.address()) =>
        {
            section.complain("key", format!("{path}: anyone holds the key of this test account"));
        }
        Some(Ok(_)) | None => {}
    }
    OfferReceipt { key, transaction: section.value("transaction", value::flag).unwrap_or(false) }
}

fn read_service(x402: &Section<'_>) -> Service {
    let Some(section) = x402.section("bazaar", SERVICE_KEYS) else { return Service::default() };
    let tags = section.values("tags", short).unwrap_or_default();
    if let Some((span, _)) = tags.get(TAGS_MAX) {
        let path = section.path_of("tags");
        section.context.report.add(*span, format!("{path}: a catalogue takes {TAGS_MAX} tags"));
    }
    Service {
        name: section.value("service_name", short),
        tags: tags.into_iter().map(|(_, tag)| tag).collect(),
        icon_url: section.value("icon_url", icon_url),
    }
}

fn short(text: &str) -> Result<String, String> {
    let printable = !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if printable && text.len() <= NAME_CHARS_MAX {
        return Ok(text.to_owned());
    }
    Err(format!("a catalogue takes 1 to {NAME_CHARS_MAX} printable ASCII characters"))
}

fn icon_url(text: &str) -> Result<String, String> {
    let bad = || "an icon has an absolute address, https://example.com/icon.png".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| bad())?;
    let web = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if web && host && text.len() <= ICON_URL_CHARS_MAX { Ok(text.to_owned()) } else { Err(bad()) }
}

/// Reads `discovery` of a route.
pub(super) fn read_route(route: &Section<'_>, pattern: &PathPattern) -> Option<RouteDiscovery> {
    let node = route.node("discovery")?;
    let section = Section::open(route.context, &route.path_of("discovery"), node, DISCOVERY_KEYS)?;
    let template = section.value("template", |text| match pattern {
        PathPattern::Exact(_) => Err("this route has one path; a template is for paths below it".to_owned()),
        PathPattern::Below(prefix) if text.starts_with(prefix) && bazaar::is_route_template(text) => {
            Ok(text.to_owned())
        }
        PathPattern::Below(prefix) => Err(format!("\"{text}\" is no path below {prefix}, like {prefix}:id")),
    });
    if let (Some(_), Some(_)) = (section.get("query"), section.get("body")) {
        section.complain("query", format!("{}: a call is described by its query or its body", section.path));
    }
    Some(RouteDiscovery {
        template,
        query: section.value("query", object),
        body: section.value("body", object),
        output: section.value("output", json),
    })
}

/// YAML keeps no types here, so an example stands as the JSON text it is.
fn json(text: &str) -> Result<Value, String> {
    wire::json::parse_strict(text.as_bytes())
        .map_err(|_| "an example is JSON in quotes: '{\"a\": 1}'".to_owned())
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    match json(text)? {
        Value::Object(members) => Ok(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err("the example must be an object".to_owned())
        }
    }
}

/// A route that describes itself to nobody is a mistake.
pub(super) fn check(top: &Section<'_>, rails: &Rails, routes: &[Route]) {
    let listed = rails.x402.as_ref().is_some_and(|x402| x402.extensions.bazaar.is_some());
    if !listed && let Some(route) = routes.iter().find(|route| route.discovery.is_some()) {
        let message = format!(
            "route \"{}\" has \"discovery\", which does nothing: bazaar is not among rails.x402.extensions",
            route.name
        );
        top.complain("routes", message);
    }
}
