//! What one caveat says: `name=value`, split at the first `=`, nothing trimmed.
//!
//! Reading is separate from judging: whether a caveat holds, or widens an earlier one, is decided in
//! `proof`. The table of names is that of `specs/credit-keys.md`.

use std::fmt;

use money::{Amount, Asset};

/// Longest value (the part behind the first `=`).
pub const VALUE_BYTES_MAX: usize = 400;
/// Longest name, and longest service prefix.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest id of a budget.
pub const BUDGET_ID_BYTES_MAX: usize = 22;

/// One caveat. Times are Unix seconds unless said otherwise; amounts are ledger units of their asset.
#[derive(Clone, PartialEq, Eq)]
pub enum Caveat {
    /// `expires=<s>`: valid while `now < s`.
    Expires(u64),
    /// `not_before=<s>`: valid from `s` on.
    NotBefore(u64),
    /// `per_call=<ASSET>:<n>`: the hold of one call is at most `n`.
    PerCall(Asset, Amount),
    /// `budget=<id>:<ASSET>:<n>`: all calls below this point of the chain together take at most `n`.
    Budget {
        /// Makes two equal budgets under one parent distinct.
        id: String,
        /// What `limit` counts.
        asset: Asset,
        /// The most that is ever captured or held.
        limit: Amount,
    },
    /// `models=<pattern>,...`: the requested model matches one of them.
    Models(Vec<Pattern>),
    /// `routes=<name>,...`: the route is one of them.
    Routes(Vec<String>),
    /// `services=<name>:<tier>,...`: the route's service is one of them, at that tier or below.
    Services(Vec<Service>),
    /// `<service>_capabilities=<name>,...`: of that service, only these capabilities.
    Capabilities {
        /// The service that is narrowed.
        service: String,
        /// What stays allowed.
        names: Vec<String>,
    },
    /// `<service>_valid_until=<s>`: for that service, valid while `now < s`.
    ValidUntil {
        /// The service that is narrowed.
        service: String,
        /// End of validity.
        until: u64,
    },
    /// `expiration=<ms>`: valid while now, in **milliseconds**, is below it.
    Expiration(u64),
    /// `preimage=<64 hex>`: the preimage, for the form of the credential that is hex only.
    Preimage([u8; 32]),
    /// `holder=ed25519:<base64url>`: every request is signed by this key.
    Holder([u8; 32]),
    /// A name we do not know. It restricts something, and we cannot tell what (L402-53).
    Unknown(String),
}

/// A model name, or the beginning of one when it was written with a final `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Exactly this name.
    Exact(String),
    /// Every name that begins so.
    Prefix(String),
}

/// One entry of `services=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The service's name.
    pub name: String,
    /// Highest tier granted; 0 is the base.
    pub tier: u8,
}

/// Why bytes are no caveat we can judge. Holds a known name at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaveatError {
    /// Not `name=value` within the limits, or the value does not fit the name.
    #[error("malformed caveat")]
    Malformed,
    /// A name that is set aside for a meaning not built yet: refused, never skipped.
    #[error("caveat `{0}` is reserved")]
    Reserved(&'static str),
}

const RESERVED: [&str; 3] = ["ip", "budget_window", "methods"];

impl Caveat {
    /// Reads one caveat.
    ///
    /// # Errors
    /// [`CaveatError`]. An unknown name is no error here: see [`Caveat::Unknown`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CaveatError> {
        let text = std::str::from_utf8(bytes).map_err(|_| CaveatError::Malformed)?;
        let (name, value) = text.split_once('=').ok_or(CaveatError::Malformed)?;
        if value.is_empty() || value.len() > VALUE_BYTES_MAX {
            return Err(CaveatError::Malformed);
        }
        if let Some(reserved) = RESERVED.into_iter().find(|reserved| *reserved == name) {
            return Err(CaveatError::Reserved(reserved));
        }
        let known = known(name, value).or_else(|| of_service(name, value));
        match known {
            Some(parsed) if value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                parsed.ok_or(CaveatError::Malformed)
            }
            Some(_) => Err(CaveatError::Malformed),
            None if is_name(name) => Ok(Self::Unknown(name.to_owned())),
            None => Err(CaveatError::Malformed),
        }
    }

    /// The name it was written under, for messages: never the value.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Expires(_) => "expires",
            Self::NotBefore(_) => "not_before",
            Self::PerCall(..) => "per_call",
            Self::Budget { .. } => "budget",
            Self::Models(_) => "models",
            Self::Routes(_) => "routes",
            Self::Services(_) => "services",
            Self::Capabilities { .. } => "capabilities",
            Self::ValidUntil { .. } => "valid_until",
            Self::Expiration(_) => "expiration",
            Self::Preimage(_) => "preimage",
            Self::Holder(_) => "holder",
            Self::Unknown(name) => name,
        }
    }
}

/// Prints the name only: a preimage is a secret.
impl fmt::Debug for Caveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caveat({})", self.name())
    }
}

impl Pattern {
    /// Whether `model` matches.
    #[must_use]
    pub fn matches(&self, model: &str) -> bool {
        match self {
            Self::Exact(name) => name == model,
            Self::Prefix(prefix) => model.starts_with(prefix.as_str()),
        }
    }

    /// Whether every name that matches `other` matches this one too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(mine), Self::Exact(theirs)) => mine == theirs,
            (Self::Exact(_), Self::Prefix(_)) => false,
            (Self::Prefix(prefix), Self::Exact(name) | Self::Prefix(name)) => {
                name.starts_with(prefix.as_str())
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (stem, prefix) = match text.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        if text.is_empty() || stem.contains('*') {
            return None;
        }
        Some(if prefix { Self::Prefix(stem.to_owned()) } else { Self::Exact(stem.to_owned()) })
    }
}

/// `None`: the name is not one of these. `Some(None)`: it is, and the value does not fit.
fn known(name: &str, value: &str) -> Option<Option<Caveat>> {
    Some(match name {
        "expires" => integer(value).map(Caveat::Expires),
        "not_before" => integer(value).map(Caveat::NotBefore),
        "expiration" => integer(value).map(Caveat::Expiration),
        "per_call" => money(value).map(|(asset, limit)| Caveat::PerCall(asset, limit)),
        "budget" => budget(value),
        "models" => value.split(',').map(Pattern::parse).collect::<Option<_>>().map(Caveat::Models),
        "routes" => list(value).map(Caveat::Routes),
        "services" => services(value),
        "preimage" => crate::hex::decode_array(value).ok().map(Caveat::Preimage),
        "holder" => holder(value),
        _ => return None,
    })
}

/// The two caveats whose name begins with a service's name.
fn of_service(name: &str, value: &str) -> Option<Option<Caveat>> {
    if let Some(service) = name.strip_suffix("_capabilities") {
        let names = list(value).filter(|_| is_service(service));
        return Some(names.map(|names| Caveat::Capabilities { service: service.to_owned(), names }));
    }
    let service = name.strip_suffix("_valid_until")?;
    let until = integer(value).filter(|_| is_service(service));
    Some(until.map(|until| Caveat::ValidUntil { service: service.to_owned(), until }))
}

fn budget(value: &str) -> Option<Caveat> {
    let (id, rest) = value.split_once(':')?;
    let fits = (1..=BUDGET_ID_BYTES_MAX).contains(&id.len());
    let alphabet = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let (asset, limit) = money(rest)?;
    (fits && alphabet).then(|| Caveat::Budget { id: id.to_owned(), asset, limit })
}

fn services(value: &str) -> Option<Caveat> {
    let mut services: Vec<Service> = Vec::new();
    for entry in value.split(',') {
        let (name, tier) = entry.split_once(':')?;
        let tier = u8::try_from(integer(tier)?).ok()?;
        // A service named twice would have two tiers.
        if !is_service(name) || services.iter().any(|service| service.name == name) {
            return None;
        }
        services.push(Service { name: name.to_owned(), tier });
    }
    Some(Caveat::Services(services))
}

fn holder(value: &str) -> Option<Caveat> {
    let key = crate::base64::decode_url(value.strip_prefix("ed25519:")?, 43).ok()?;
    key.try_into().ok().map(Caveat::Holder)
}

fn list(value: &str) -> Option<Vec<String>> {
    value.split(',').map(|name| (!name.is_empty()).then(|| name.to_owned())).collect()
}

/// `<ASSET>:<n>` (L402-56).
fn money(value: &str) -> Option<(Asset, Amount)> {
    let (asset, units) = value.split_once(':')?;
    let units = i64::try_from(integer(units)?).ok()?;
    Some((Asset::from_name(asset)?, Amount::from_units(units)))
}

/// Digits without sign and leading zero, within `i64` (L402-56).
fn integer(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    if !canonical || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|number| i64::try_from(*number).is_ok())
}

fn is_name(name: &str) -> bool {
    let alphabet = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(alphabet)
}

fn is_service(name: &str) -> bool {
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(alphabet)
}

#[cfg(test)]
mod tests;
