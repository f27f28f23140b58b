//! `routes`: the allow-list of what is proxied (UX-31).

use std::collections::BTreeMap;

use http::Method;
use meter::{Dialect, Provider};
use money::Amount;

use super::exchange;
use super::extensions::{self, RouteDiscovery};
use super::freebies::{self, Freebies};
use super::glob::Glob;
use super::identity::{self, RouteIdentity};
use super::l402::{self, RouteL402};
use super::policy::{self, Policy};
use super::section::{Context, Keys, Section, scalar, suggestion};
use super::unit_price::{self, UnitPrice};
use super::upstream::{Protocol, Upstream};
use super::usual;
use super::value;
use super::yaml::{Kind, Node};
use crate::telemetry::Kept;

/// One line of the allow-list. First match wins; no match is 404 and never proxied.
#[derive(Clone, Debug)]
pub struct Route {
    /// Unique name, in logs and in `routes` caveats; the path when none is written.
    pub name: String,
    /// Methods that match.
    pub methods: Vec<Method>,
    /// Paths that match.
    pub path: PathPattern,
    /// Where the call goes.
    pub upstream: RouteUpstream,
    /// What it costs.
    pub price: RoutePrice,
    /// How that is reached: all of its upstreams alike, as far as it matters for how calls travel.
    pub protocol: Option<Protocol>,
    /// Whether it is for WebSockets, and for nothing else.
    pub websocket: bool,
    /// Largest request body here.
    pub body_bytes: usize,
    /// Who pays for a call that did not end as it should.
    pub policy: Policy,
    /// What it tells catalogues.
    pub discovery: Option<RouteDiscovery>,
    /// Calls that it gives away; none when absent.
    pub freebies: Option<Freebies>,
    /// What L402 tokens must say to open it.
    pub l402: RouteL402,
    /// What it asks of signatures.
    pub identity: RouteIdentity,
    /// Counts its calls; nothing of a configuration.
    pub(crate) served: Kept,
}

/// What a route has that says nothing else.
#[derive(Clone, Copy)]
pub(super) struct Usual {
    pub(super) body_bytes: usize,
    pub(super) policy: Policy,
}

impl Route {
    /// Whether a request belongs here.
    #[must_use]
    pub fn matches(&self, method: &Method, path: &str) -> bool {
        self.methods.contains(method) && self.path.matches(path)
    }
}

/// Paths of a route. Compared byte by byte: a request whose path has to be normalised does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// This path.
    Exact(String),
    /// Everything below a prefix that ends in `/`.
    Below(String),
}

impl PathPattern {
    /// Whether a path matches. A path with a dot segment never matches a prefix.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Below(prefix) => path.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                let lower = rest.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/");
                let lower = lower.replace("%5c", "/").replace('\\', "/");
                lower.split('/').all(|segment| segment != "." && segment != "..")
            }),
        }
    }

    /// Whether a path matches that is written in lower case, whatever case the pattern is in.
    #[must_use]
    pub fn matches_any_case(&self, lower: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.eq_ignore_ascii_case(lower),
            Self::Below(prefix) => {
                lower.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            }
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:@".contains(&b);
        let (path, below) = match text.strip_suffix("/**") {
            Some(prefix) => (format!("{prefix}/"), true),
            None => (text.to_owned(), false),
        };
        let segments = path.split('/').skip(1);
        let dotted = segments.clone().any(|segment| segment == "." || segment == "..");
        if !path.starts_with('/') || !path.bytes().all(fits) || path.contains("//") || dotted {
            return Err(format!("\"{text}\" is no path; write it like /v1/messages or /files/**"));
        }
        let reserved = ["/farthing/", "/.well-known/"].iter().any(|prefix| path.starts_with(prefix));
        if reserved || ["/", "/openapi.json", "/llms.txt", "/farthing"].contains(&path.as_str()) && !below {
            return Err(format!("{text} is answered by the gateway itself"));
        }
        Ok(if below { Self::Below(path) } else { Self::Exact(path) })
    }
}

/// Which upstream a call goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteUpstream {
    /// Always this one.
    One(String),
    /// By the model that the request names; first match wins.
    ByModel(Vec<(Glob, String)>),
}

impl RouteUpstream {
    /// The upstream's name for a model; `None` when no pattern matches.
    #[must_use]
    pub fn choose(&self, model: &str) -> Option<&str> {
        match self {
            Self::One(name) => Some(name),
            Self::ByModel(rules) => {
                rules.iter().find(|(glob, _)| glob.matches(model)).map(|(_, name)| name.as_str())
            }
        }
    }

    /// Every upstream that may be chosen.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let (one, rules) = match self {
            Self::One(name) => (Some(name.as_str()), [].as_slice()),
            Self::ByModel(rules) => (None, rules.as_slice()),
        };
        one.into_iter().chain(rules.iter().map(|(_, name)| name.as_str()))
    }
}

/// What a call on a route costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutePrice {
    /// Metered, by the model's price.
    ByModel,
    /// This much nano-USD, whatever it uses.
    PerCall(Amount),
    /// By what is counted here, without a provider's report.
    Units(UnitPrice),
    /// Nothing, and no credential is asked for.
    Free,
}

const KEYS: Keys = Keys::new(
    &[
        "name",
        "match",
        "upstream",
        "websocket",
        "price",
        "body",
        "metering",
        "discovery",
        "freebies",
        "l402",
        "identity",
    ],
    &["accept", "failover", "hold", "timeouts", "limits"],
);
const MATCH_KEYS: Keys = Keys::new(&["method", "path"], &["host", "header", "query"]);
const UPSTREAM_KEYS: Keys = Keys::new(&["by_model"], &[]);
const POLICY_KEYS: Keys = Keys::new(&policy::NAMES, &["hold", "inject_stream_usage", "strict"]);

pub(super) type Upstreams = BTreeMap<String, Upstream>;

pub(super) fn read(top: &Section<'_>, upstreams: &Upstreams, usual: Usual) -> Vec<Route> {
    let Some(node) = top.get("routes") else { return usual::routes(top, upstreams, usual) };
    let Kind::List(items) = &node.kind else {
        top.complain("routes", format!("routes must be a list, not {}", node.what()));
        return Vec::new();
    };
    let mut routes: Vec<Route> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let path = format!("routes[{at}]");
        let Some(section) = Section::open(top.context, &path, item, KEYS) else { continue };
        let Some(route) = read_one(&section, upstreams, usual) else { continue };
        if let Some(same) = routes.iter().find(|other| other.name == route.name) {
            let first = section.get("name").map_or("give one of them a name", |_| "choose another name");
            section
                .complain("name", format!("{path}: a route named \"{}\" stands above; {first}", same.name));
        }
        let covers = |other: &&Route| {
            other.path == route.path && route.methods.iter().all(|method| other.methods.contains(method))
        };
        if let Some(above) = routes.iter().find(covers) {
            section.complain(
                "match",
                format!("{path} is never reached: route \"{}\" above takes it all", above.name),
            );
        }
        routes.push(route);
    }
    routes
}

fn read_one(section: &Section<'_>, upstreams: &Upstreams, usual: Usual) -> Option<Route> {
    let name = section.value("name", value::name);
    let websocket = section.value("websocket", value::flag).unwrap_or(false);
    let upstream = read_upstream(section);
    let protocol =
        upstream.as_ref().and_then(|upstream| exchange::check(section, upstream, upstreams, websocket));
    let found = read_match(section, exchange::methods(websocket, protocol));
    let price = read_price(section);
    let body_bytes = section.value("body", value::size).unwrap_or(usual.body_bytes);
    let own = section.section("metering", POLICY_KEYS);
    let policy = own.map_or(usual.policy, |own| policy::read(&own, usual.policy));
    let ((methods, path, written), upstream, price) = (found?, upstream?, price?);
    if price == RoutePrice::ByModel {
        is_metered(section, &upstream, upstreams, &path);
    }
    if let RoutePrice::Units(price) = &price {
        let providers = upstream.names().filter_map(|name| upstreams.get(name)).map(|one| one.provider);
        unit_price::check(section, price, &providers.collect::<Vec<_>>(), &path, websocket);
    }
    if websocket {
        exchange::check_price(section, &price);
    }
    let discovery = extensions::read_route(section, &path);
    let freebies = freebies::read(section, &price, websocket);
    let own = section.get("l402");
    let l402 = own.map(|node| l402::read_route(section.context, &section.path_of("l402"), node));
    Some(Route {
        name: name.unwrap_or(written),
        methods,
        path,
        upstream,
        price,
        protocol,
        websocket,
        body_bytes,
        policy,
        discovery,
        freebies,
        l402: l402.unwrap_or_default(),
        identity: identity::read_route(section),
        served: Kept::default(),
    })
}

/// What is priced by the model is metered: each upstream must speak at that path, and all alike.
fn is_metered(section: &Section<'_>, upstream: &RouteUpstream, upstreams: &Upstreams, path: &PathPattern) {
    let spoken: Vec<&Upstream> = upstream.names().filter_map(|name| upstreams.get(name)).collect();
    if let Some(raw) = spoken.iter().find(|upstream| upstream.provider == Provider::Raw) {
        let message = format!(
            "{}: upstream {} is raw and not metered; price it per_call or free",
            section.path, raw.name
        );
        section.complain("price", message);
    }
    let silent = |upstream: &&&Upstream| match path {
        PathPattern::Exact(path) => match Dialect::from_path(path) {
            Some(dialect) => !upstream.provider.speaks(dialect),
            None => Dialect::for_provider(upstream.provider, path).is_none(),
        },
        // Which of the paths below are metered is seen when they are asked for.
        PathPattern::Below(_) => false,
    };
    if let (PathPattern::Exact(path), Some(silent)) = (path, spoken.iter().find(silent)) {
        let (name, provider) = (&silent.name, silent.provider.name());
        let message = format!(
            "{}: upstream {name} speaks {provider}, and nothing of that is metered at {path}",
            section.path
        );
        section.complain("upstream", message);
    }
}

/// `usual` are the only methods there can be, where the upstream leaves no choice.
fn read_match(route: &Section<'_>, usual: Option<Method>) -> Option<(Vec<Method>, PathPattern, String)> {
    let Some(node) = route.get("match") else {
        route.missing(format!("{} needs \"match\"", route.path));
        return None;
    };
    let section = Section::open(route.context, &route.path_of("match"), node, MATCH_KEYS)?;
    let methods = section.values("method", method);
    let path = section.required("path", |text| PathPattern::parse(text).map(|path| (path, text.to_owned())));
    let methods: Vec<Method> = match (methods, &usual) {
        (Some(methods), _) => methods.into_iter().map(|(_, method)| method).collect(),
        (None, Some(usual)) => vec![usual.clone()],
        (None, None) => vec![Method::GET, Method::POST],
    };
    if let Some(usual) = usual.filter(|usual| methods.iter().any(|method| method != usual)) {
        section.complain("method", format!("{}: only {usual} can be asked there", section.path_of("method")));
    }
    let (path, written) = path?;
    Some((methods, path, written))
}

fn method(text: &str) -> Result<Method, String> {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let hint = suggestion(&text.to_ascii_uppercase(), known.iter().map(Method::as_str));
    let unknown = || format!("\"{text}\" is no method that we proxy{hint}");
    known.iter().find(|method| method.as_str() == text).cloned().ok_or_else(unknown)
}

fn read_upstream(route: &Section<'_>) -> Option<RouteUpstream> {
    let Some(node) = route.get("upstream") else {
        route.missing(format!("{} needs \"upstream\"", route.path));
        return None;
    };
    let path = route.path_of("upstream");
    let Kind::Map(_) = &node.kind else {
        return upstream_name(route.context, &path, node).map(RouteUpstream::One);
    };
    let section = Section::open(route.context, &path, node, UPSTREAM_KEYS)?;
    let Some(node) = section.get("by_model") else {
        section.missing(format!("{path} needs a name or \"by_model\""));
        return None;
    };
    let path = section.path_of("by_model");
    let rules = Section::open_any(route.context, &path, node)?;
    let mut chosen: Vec<(Glob, String)> = Vec::new();
    for (key, node) in rules.entries() {
        if chosen.last().is_some_and(|(glob, _)| glob.is_any()) {
            let message =
                format!("{path}: \"{}\" is never reached: \"*\" above matches every model", key.text);
            route.context.report.add(key.span, message);
        }
        let name = upstream_name(route.context, &rules.path_of(&key.text), node)?;
        chosen.push((Glob::new(&key.text), name));
    }
    Some(RouteUpstream::ByModel(chosen))
}

fn upstream_name(context: &Context<'_>, path: &str, node: &Node) -> Option<String> {
    scalar(context, path, node, |text| {
        if context.upstreams.iter().any(|name| name == text) {
            return Ok(text.to_owned());
        }
        let hint = suggestion(text, context.upstreams.iter().map(String::as_str));
        Err(format!("unknown upstream \"{text}\"{hint}"))
    })
}

fn read_price(route: &Section<'_>) -> Option<RoutePrice> {
    let Some(node) = route.get("price") else {
        let message = format!("{} needs \"price\": by_model, free, or {{ per_call: 0.01 USD }}", route.path);
        route.missing(message);
        return None;
    };
    let path = route.path_of("price");
    if let Kind::Map(_) = &node.kind {
        let section = Section::open(route.context, &path, node, unit_price::KEYS)?;
        let price = unit_price::read(&section)?;
        let fee_only = UnitPrice { call: price.call, ..UnitPrice::default() } == price;
        return Some(if fee_only { RoutePrice::PerCall(price.call) } else { RoutePrice::Units(price) });
    }
    scalar(route.context, &path, node, |text| match text {
        "by_model" => Ok(RoutePrice::ByModel),
        "free" => Ok(RoutePrice::Free),
        _ => Err(format!("\"{text}\" is none of by_model, free, {{ per_call: 0.01 USD }}")),
    })
}

#[cfg(test)]
mod tests {
    use super::PathPattern;

    #[test]
    fn paths_match_as_bytes() {
        let files = PathPattern::parse("/files/**").unwrap();
        let exact = PathPattern::parse("/v1/messages").unwrap();
        for (pattern, path, expected) in [
            (&exact, "/v1/messages", true),
            (&exact, "/v1/messages/", false),
            (&exact, "/V1/messages", false),
            (&exact, "/v1//messages", false),
            (&exact, "/v1/%6dessages", false),
            (&files, "/files/a/b", true),
            (&files, "/files/", true),
            (&files, "/files", false),
            (&files, "/files/../v1/secret", false),
            (&files, "/files/%2e%2E/x", false),
            (&files, "/files/a%2f..%2fx", false),
            (&files, "/files/a\\..\\x", false),
            (&files, "/files/a..b", true),
        ] {
            assert_eq!(pattern.matches(path), expected, "{path}");
        }
    }

    #[test]
    fn refused_patterns() {
        for text in
            ["", "v1", "/", "/a//b", "/a/../b", "/a?b", "/a*", "/**/x", "/farthing/x", "/.well-known/**"]
        {
            assert!(PathPattern::parse(text).is_err(), "{text}");
        }
    }
}
