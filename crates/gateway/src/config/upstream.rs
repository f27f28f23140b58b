//! `upstreams`: where calls go, and with which key.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderName;
use meter::Provider;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::metadata::is_custom;
use super::secret::{Secret, why_unread};
use super::section::{Keys, Section};
use super::server::Timeouts;
use super::url::{BaseUrl, Scheme};
use super::value;

/// One API behind the gateway.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The operator's name for it, in logs and metrics.
    pub name: String,
    /// Where it is. Paths of requests are appended to its prefix.
    pub url: BaseUrl,
    /// What is spoken there below the API.
    pub protocol: Protocol,
    /// Custom fields of a gRPC call's metadata that may pass both ways, in lower case.
    pub metadata: Vec<HeaderName>,
    /// Who answers there: decides the usual routes and how requests and answers are metered.
    pub provider: Provider,
    /// The one model it has, whatever a request names; none where it has many.
    pub model: Option<String>,
    /// The operator's own credential there; never shown to a client.
    pub auth: Option<Auth>,
    /// Roots trusted for it besides the public ones: for an upstream with a certificate of its own.
    pub ca: Vec<CertificateDer<'static>>,
    /// For a connection.
    pub connect: Duration,
    /// For the first byte of its answer.
    pub first_byte: Duration,
    /// Between two pieces of its answer.
    pub stream_idle: Duration,
}

/// What carries requests to an upstream and its answers back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, a connection for each call at a time.
    #[default]
    Http1,
    /// HTTP/2, one connection of a thread for all calls.
    H2,
    /// The same, with gRPC on it: requests stream up, trailers come down.
    Grpc,
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Http1, Self::H2, Self::Grpc];

    const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::H2 => "h2",
            Self::Grpc => "grpc",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name);
        let found = Self::ALL.into_iter().find(|protocol| protocol.name() == text);
        found.ok_or_else(|| {
            let hint = super::section::suggestion(text, names.into_iter());
            format!("\"{text}\" is none of {}{hint}", names.join(", "))
        })
    }
}

/// How the operator's key travels to the upstream.
#[derive(Clone, Debug)]
pub enum Auth {
    /// `Authorization: Bearer ...`
    Bearer(Secret),
    /// A header of its own, such as `x-api-key`.
    Header(HeaderName, Secret),
}

const KEYS: Keys = Keys::secret(
    &["url", "protocol", "metadata", "dialect", "model", "auth", "ca", "timeouts"],
    &["allow_private", "commitment", "weight"],
);
const AUTH_KEYS: Keys = Keys::secret(&["key", "bearer", "header", "value"], &[]);
const TIMEOUT_KEYS: Keys = Keys::new(&["connect", "first_byte", "stream_idle"], &[]);

pub(super) fn read(top: &Section<'_>, timeouts: &Timeouts) -> BTreeMap<String, Upstream> {
    let mut upstreams = BTreeMap::new();
    let Some(node) = top.get("upstreams") else {
        top.missing("the file needs \"upstreams\": where should calls go?");
        return upstreams;
    };
    let Some(section) = Section::open_any(top.context, "upstreams", node) else { return upstreams };
    if section.entries().next().is_none() {
        top.complain("upstreams", "upstreams: needs at least one");
    }
    for (key, node) in section.entries() {
        let name = match value::name(&key.text) {
            Ok(name) => name,
            Err(why) => {
                section.context.report.add(key.span, format!("upstreams: {why}"));
                continue;
            }
        };
        let entry = Section::open(top.context, &section.path_of(&name), node, KEYS);
        if let Some(upstream) = entry.and_then(|entry| read_one(&entry, name, timeouts)) {
            upstreams.insert(upstream.name.clone(), upstream);
        }
    }
    upstreams
}

fn read_one(section: &Section<'_>, name: String, timeouts: &Timeouts) -> Option<Upstream> {
    let url = section.required("url", |text| {
        BaseUrl::parse(text).inspect_err(|_| {
            if let Some(node) = section.get("url").filter(|_| text.contains('@')) {
                node.hide_scalars(&section.context.report);
            }
        })
    });
    let protocol = section.value("protocol", Protocol::parse).unwrap_or_default();
    let metadata = read_metadata(section, protocol);
    let provider = match section.get("dialect") {
        None if protocol == Protocol::Grpc => Some(Provider::Raw),
        Some(_) | None => section.required("dialect", parse_provider),
    };
    if protocol == Protocol::Grpc && provider.is_some_and(|provider| provider != Provider::Raw) {
        let path = section.path_of("dialect");
        section
            .complain("dialect", format!("{path}: nothing of gRPC is metered by its dialect; leave it off"));
    }
    let model = section.value("model", value::some_text);
    let auth = read_auth(section, provider);
    let ca = read_ca(section, "ca");
    let own = section.section("timeouts", TIMEOUT_KEYS);
    let time = |key: &str, default: Duration| {
        own.as_ref().and_then(|own| own.value(key, value::duration)).unwrap_or(default)
    };
    let (connect, first_byte) = (time("connect", timeouts.connect), time("first_byte", timeouts.first_byte));
    let stream_idle = time("stream_idle", timeouts.stream_idle);
    let (url, provider) = (url?, provider?);
    if model.is_some() && matches!(provider, Provider::Raw | Provider::Gemini) {
        let path = section.path_of("model");
        section
            .complain("model", format!("{path}: {} does not take the model from the body", provider.name()));
    }
    if model.is_none() && section.get("model").is_none() && provider == Provider::LlamaCpp {
        // Else a payer would name the cheapest model of all price lists.
        let name = provider.name();
        let place = &section.path;
        section.missing(format!(
            "{place} needs \"model\": {name} answers with the model it has, whatever is named"
        ));
    }
    if provider != Provider::Raw && url.base_path.ends_with("/v1") {
        let path = section.path_of("url");
        section.complain("url", format!("{path}: leave /v1 off; the routes begin with it"));
    }
    if !ca.is_empty() && url.scheme != Scheme::Https {
        let path = section.path_of("ca");
        section.complain("ca", format!("{path}: {name} is reached without TLS; write https in its url"));
    }
    Some(Upstream {
        name,
        url,
        protocol,
        metadata,
        provider,
        model,
        auth,
        ca,
        connect,
        first_byte,
        stream_idle,
    })
}

fn read_metadata(section: &Section<'_>, protocol: Protocol) -> Vec<HeaderName> {
    let Some(names) = section.values("metadata", metadata_name) else { return Vec::new() };
    if protocol != Protocol::Grpc {
        let path = section.path_of("metadata");
        section.complain("metadata", format!("{path} is for protocol: grpc only"));
    }
    names.into_iter().map(|(_, name)| name).collect()
}

fn metadata_name(text: &str) -> Result<HeaderName, String> {
    let name =
        HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("\"{text}\" is no name of metadata"))?;
    if !is_custom(name.as_str()) || name.as_str() != text {
        return Err(format!("\"{text}\" cannot pass: it frames the call, or may be a credential"));
    }
    Ok(name)
}

/// The certificates in the file that a key names.
pub(super) fn read_ca(section: &Section<'_>, key: &str) -> Vec<CertificateDer<'static>> {
    let Some(text) = section.value(key, value::some_text) else { return Vec::new() };
    let file = section.context.path(&text);
    let roots = (section.context.read)(&file)
        .map_err(|error| why_unread(&error))
        .and_then(|found| roots(&found.bytes));
    roots.unwrap_or_else(|why| {
        section.complain(key, format!("{}: {}: {why}", section.path_of(key), file.display()));
        Vec::new()
    })
}

fn roots(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let broken = || "not PEM certificates".to_owned();
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| broken())?;
    let mut store = RootCertStore::empty();
    if found.is_empty() || found.iter().any(|root| store.add(root.clone()).is_err()) {
        return Err(broken());
    }
    Ok(found)
}

fn parse_provider(text: &str) -> Result<Provider, String> {
    /// What nobody may take for one of those that we know.
    const LATER: [&str; 4] = ["azure", "bedrock", "hunyuan", "mistral"];
    Provider::from_name(text).ok_or_else(|| {
        if LATER.contains(&text) {
            return format!("dialect \"{text}\" is not supported yet; most such APIs also speak openai");
        }
        let names = Provider::ALL.map(Provider::name);
        format!(
            "\"{text}\" is none of {}{}",
            names.join(", "),
            super::section::suggestion(text, names.into_iter())
        )
    })
}

/// Where a provider's key usually stands; none where nobody can know.
const fn usual_header(provider: Provider) -> Option<Usual> {
    match provider {
        Provider::Anthropic => Some(Usual::Header("x-api-key")),
        Provider::Gemini => Some(Usual::Header("x-goog-api-key")),
        Provider::OpenAi
        | Provider::DeepSeek
        | Provider::Qwen
        | Provider::Zhipu
        | Provider::Doubao
        | Provider::Moonshot
        | Provider::MiniMax
        | Provider::Ollama
        | Provider::Vllm
        | Provider::LlamaCpp
        | Provider::Groq
        | Provider::OpenRouter
        | Provider::Together => Some(Usual::Bearer),
        Provider::Raw => None,
    }
}

enum Usual {
    Bearer,
    Header(&'static str),
}

fn read_auth(upstream: &Section<'_>, provider: Option<Provider>) -> Option<Auth> {
    let section = upstream.section("auth", AUTH_KEYS)?;
    let secret = |key: &str| section.context.secret(&section.path_of(key), section.get(key)?);
    let given = |key: &str| section.get(key).is_some();
    match (given("key"), given("bearer"), given("header"), given("value")) {
        (true, false, false, false) => {
            let secret = secret("key");
            match usual_header(provider?) {
                Some(Usual::Bearer) => secret.map(Auth::Bearer),
                Some(Usual::Header(name)) => Some(Auth::Header(HeaderName::from_static(name), secret?)),
                None => {
                    let message =
                        "nobody knows where a raw upstream wants its key; use bearer, or header and value";
                    section.complain("key", format!("{}: {message}", section.path));
                    None
                }
            }
        }
        (false, true, false, false) => secret("bearer").map(Auth::Bearer),
        (false, false, true, true) => {
            let name = section.value("header", header_name);
            let secret = secret("value");
            Some(Auth::Header(name?, secret?))
        }
        _ => {
            let message = "must be either { key: ... }, { bearer: ... } or { header: ..., value: ... }";
            section.entries().for_each(|(_, value)| value.hide_scalars(&section.context.report));
            section.missing(format!("{}: {message}", section.path));
            None
        }
    }
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    /// Fields that frame or route the request: a key has no business there.
    const FRAMING: [&str; 9] = [
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "accept-encoding",
    ];
    let name =
        HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("\"{text}\" is no header name"))?;
    if FRAMING.contains(&name.as_str()) {
        return Err(format!("\"{text}\" cannot carry a key"));
    }
    Ok(name)
}
