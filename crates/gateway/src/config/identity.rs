//! `identity`: whose signatures are looked at, which keys are known, and what they stand for.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::time::Duration;

use ledger::AccountId;
use proof::identity::{AgentKey, Origin, WINDOW_S_MAX};
use wire::x402::base58;

use super::directories::{self, Directories};
use super::section::{Keys, Section, scalar};
use super::value;
use super::yaml::{Kind, Node};
use super::{Mode, Route};

/// How long a signature of Web Bot Auth or Visa TAP may last, unless the first is configured to last longer.
const WINDOW: Duration = Duration::from_secs(480);

/// The key of RFC 9421 appendix B.1.4, whose private half is printed beside it.
const PUBLISHED_KEY: &str = "poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U";

/// Signatures of agents.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Agents that the operator knows.
    pub keyring: Vec<KnownAgent>,
    /// Longest time from `created` to `expires` of a Web Bot Auth signature, default 480 s.
    pub window: Duration,
    /// Whether one without a nonce is refused, default yes.
    pub needs_nonce: bool,
    /// Directories that are fetched; none when absent, but those of agents that are named by their origin.
    pub directories: Option<Directories>,
    /// Thumbprints, origins and addresses of payers that get nothing (IDN-35). Hexadecimal in lower case.
    pub blocked: HashSet<String>,
}

/// An agent that the operator knows: by its key, or any key of its directory.
#[derive(Clone, Debug)]
pub struct KnownAgent {
    /// In logs.
    pub name: String,
    /// None: whatever key the directory of `origin` has.
    pub key: Option<AgentKey>,
    /// Where its directory is; a key with an origin is that agent's only under it (IDN-14).
    pub origin: Option<Origin>,
    /// What its signatures count for.
    pub profiles: Profiles,
    /// The account that its crawls are debited to.
    pub account: Option<AccountId>,
    /// Calls per minute; else as an account.
    pub per_minute: Option<NonZeroU32>,
    /// Calls at once; else as an account.
    pub concurrent: Option<NonZeroU32>,
}

/// What signatures of a key count for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profiles {
    /// Web Bot Auth.
    pub web_bot_auth: bool,
    /// Visa TAP.
    pub visa_tap: bool,
}

/// What a route asks of signatures (IDN-2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteIdentity {
    /// They are not looked at.
    #[default]
    Off,
    /// They are verified and logged, and none is missed.
    Observe,
    /// Nobody comes in without a good one.
    Require,
    /// The same, and it says that the agent is about to pay (IDN-13).
    RequirePayer,
}

const KEYS: Keys = Keys::new(&["keyring", "window", "nonce", "block", "directories"], &["profiles"]);
const AGENT_KEYS: Keys =
    Keys::new(&["name", "x", "keyid", "origin", "profiles", "account", "limits"], &["jwk"]);
const LIMIT_KEYS: Keys = Keys::new(&["rpm", "concurrent"], &[]);
const ROUTE_KEYS: Keys = Keys::new(&["require"], &[]);

pub(super) fn read(top: &Section<'_>) -> Option<Identity> {
    let node = top.node("identity")?;
    let section = Section::open(top.context, "identity", node, KEYS)?;
    let window = section.value("window", |text| match value::duration(text)? {
        window if window.as_secs() <= WINDOW_S_MAX => Ok(window),
        _ => Err("a signature lasts 24h at most".to_owned()),
    });
    let needs_nonce = section.value("nonce", |text| match text {
        "required" => Ok(true),
        "optional" => Ok(false),
        _ => Err(format!("\"{text}\" is neither required nor optional")),
    });
    let blocked = section.values("block", blocked).unwrap_or_default();
    Some(Identity {
        keyring: read_keyring(&section),
        window: window.unwrap_or(WINDOW),
        needs_nonce: needs_nonce.unwrap_or(true),
        directories: directories::read(&section),
        blocked: blocked.into_iter().map(|(_, name)| name).collect(),
    })
}

fn read_keyring(section: &Section<'_>) -> Vec<KnownAgent> {
    let Some(node) = section.get("keyring") else { return Vec::new() };
    let Kind::List(items) = &node.kind else {
        section.complain("keyring", format!("identity.keyring must be a list, not {}", node.what()));
        return Vec::new();
    };
    let mut agents: Vec<KnownAgent> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let path = format!("identity.keyring[{at}]");
        let Some(section) = Section::open(section.context, &path, item, AGENT_KEYS) else { continue };
        let Some(agent) = read_agent(&section) else { continue };
        // Which of two entries counts would depend on their order.
        let same = |other: &&KnownAgent| match (&other.key, &agent.key) {
            (Some(other_key), Some(key)) => other_key == key && other.origin == agent.origin,
            (None, None) => other.origin == agent.origin,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if let Some(other) = agents.iter().find(same) {
            section.complain("name", format!("{path}: \"{}\" above is the same agent", other.name));
        }
        agents.push(agent);
    }
    agents
}

fn read_agent(section: &Section<'_>) -> Option<KnownAgent> {
    let name = section.required("name", value::name);
    let key = section.value("x", public_key);
    let is_published = key.as_ref().is_some_and(|key| key.thumbprint() == PUBLISHED_KEY);
    if section.context.mode == Mode::Live && is_published {
        section.complain("x", format!("{}: anyone holds the private half of this key", section.path_of("x")));
    }
    let keyid = section.value("keyid", value::some_text);
    let origin = section.value("origin", origin);
    if section.get("x").is_none() && section.get("origin").is_none() {
        section.missing(format!("{} needs \"x\", a public key, or \"origin\", a directory", section.path));
    }
    if section.get("x").is_none() && keyid.is_some() {
        section.complain(
            "keyid",
            format!("{}: keyid is another name of the key, and there is none", section.path),
        );
    }
    let profiles = section.values("profiles", profile).map(|named| {
        let has = |wanted| named.iter().any(|(_, profile)| *profile == wanted);
        Profiles { web_bot_auth: has(Profile::WebBotAuth), visa_tap: has(Profile::VisaTap) }
    });
    let account = section.value("account", account);
    let limits = section.section("limits", LIMIT_KEYS);
    let limit = |name: &str| limits.as_ref().and_then(|limits| limits.value(name, value::quota));
    Some(KnownAgent {
        name: name?,
        key: match (key, keyid) {
            (Some(key), Some(keyid)) => Some(key.registered_as(keyid)),
            (key, _) => key,
        },
        origin,
        profiles: profiles.unwrap_or(Profiles { web_bot_auth: true, visa_tap: true }),
        account,
        per_minute: limit("rpm"),
        concurrent: limit("concurrent"),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Profile {
    WebBotAuth,
    VisaTap,
}

fn profile(text: &str) -> Result<Profile, String> {
    match text {
        "web-bot-auth" => Ok(Profile::WebBotAuth),
        "visa-tap" => Ok(Profile::VisaTap),
        _ => Err(format!("\"{text}\" is neither web-bot-auth nor visa-tap")),
    }
}

fn public_key(text: &str) -> Result<AgentKey, String> {
    let bytes = wire::base64::decode_url(text, 43).ok().and_then(|bytes| bytes.try_into().ok());
    let bytes: [u8; 32] = bytes.ok_or("the x of an Ed25519 key has 43 characters of base64url")?;
    AgentKey::new(&bytes).ok_or_else(|| "nobody should hold this key: anyone can sign for it".to_owned())
}

fn origin(text: &str) -> Result<Origin, String> {
    Origin::parse(text).ok_or_else(|| format!("\"{text}\" is no origin; write it like https://agent.example"))
}

fn account(text: &str) -> Result<AccountId, String> {
    AccountId::from_hex(text).ok_or_else(|| format!("\"{text}\" is no account: 32 hex digits"))
}

fn blocked(text: &str) -> Result<String, String> {
    let is_thumbprint = wire::base64::decode_url(text, 43).is_ok_and(|bytes| bytes.len() == 32);
    if is_thumbprint || base58::decode_array::<32>(text).is_ok() {
        return Ok(text.to_owned());
    }
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if matches!(digits.len(), 40 | 64) && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    let named = Origin::parse(text).map(|origin| origin.to_string());
    named.ok_or_else(|| {
        format!(
            "\"{text}\" is neither the thumbprint of a key, nor an https origin, nor the address of a payer"
        )
    })
}

/// Reads `identity` of a route.
pub(super) fn read_route(route: &Section<'_>) -> RouteIdentity {
    let path = route.path_of("identity");
    let Some(node) = route.get("identity") else { return RouteIdentity::Off };
    let read = match &node.kind {
        Kind::Map(_) => read_demand(route, &path, node),
        Kind::Null | Kind::Scalar(_) | Kind::List(_) => {
            scalar(route.context, &path, node, |text| match text {
                "off" => Ok(RouteIdentity::Off),
                "observe" => Ok(RouteIdentity::Observe),
                "require" => Ok(RouteIdentity::Require),
                _ => Err(format!("\"{text}\" is none of off, observe, require, {{ require: payer }}")),
            })
        }
    };
    read.unwrap_or_default()
}

fn read_demand(route: &Section<'_>, path: &str, node: &Node) -> Option<RouteIdentity> {
    let section = Section::open(route.context, path, node, ROUTE_KEYS)?;
    section.required("require", |text| match text {
        "payer" => Ok(RouteIdentity::RequirePayer),
        "any" => Ok(RouteIdentity::Require),
        _ => Err(format!("\"{text}\" is neither payer nor any")),
    })
}

/// A route that looks at signatures which nobody can verify is a mistake.
pub(super) fn check(top: &Section<'_>, identity: Option<&Identity>, routes: &[Route]) {
    let looks = |route: &&Route| route.identity != RouteIdentity::Off;
    if let (None, Some(route)) = (identity, routes.iter().find(looks)) {
        let message =
            format!("route \"{}\" looks at signatures, but there is no section \"identity\"", route.name);
        top.complain("routes", message);
    }
}
