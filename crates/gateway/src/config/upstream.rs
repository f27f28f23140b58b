//! `upstreams`: where calls go, and with which key.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderName;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

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
    /// How it reports usage.
    pub dialect: Dialect,
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

/// What an upstream speaks: decides the usual routes and how an answer is metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Chat completions, responses, completions, embeddings.
    OpenAi,
    /// Messages.
    Anthropic,
    /// Anything: not metered, sold per call or given away.
    Raw,
}

impl Dialect {
    /// As it stands in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Raw => "raw",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        /// Dialects of metering.md that this version does not meter.
        const LATER: [&str; 16] = [
            "azure",
            "bedrock",
            "dashscope",
            "deepseek",
            "gemini",
            "glm",
            "groq",
            "hunyuan",
            "kimi",
            "llama.cpp",
            "minimax",
            "mistral",
            "ollama",
            "openrouter",
            "qwen",
            "vllm",
        ];
        let known = [Self::OpenAi, Self::Anthropic, Self::Raw];
        if let Some(dialect) = known.into_iter().find(|dialect| dialect.as_str() == text) {
            return Ok(dialect);
        }
        if LATER.contains(&text) {
            return Err(format!("dialect \"{text}\" is not supported yet; most such APIs also speak openai"));
        }
        let hint = super::section::suggestion(text, known.iter().map(|dialect| dialect.as_str()));
        Err(format!("\"{text}\" is none of openai, anthropic, raw{hint}"))
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

const KEYS: Keys =
    Keys::secret(&["url", "dialect", "auth", "ca", "timeouts"], &["allow_private", "commitment", "weight"]);
const AUTH_KEYS: Keys = Keys::secret(&["bearer", "header", "value"], &[]);
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
    let dialect = section.required("dialect", Dialect::parse);
    let auth = read_auth(section);
    let ca = read_ca(section);
    let own = section.section("timeouts", TIMEOUT_KEYS);
    let time = |key: &str, default: Duration| {
        own.as_ref().and_then(|own| own.value(key, value::duration)).unwrap_or(default)
    };
    let (connect, first_byte) = (time("connect", timeouts.connect), time("first_byte", timeouts.first_byte));
    let stream_idle = time("stream_idle", timeouts.stream_idle);
    let (url, dialect) = (url?, dialect?);
    if dialect != Dialect::Raw && url.base_path.ends_with("/v1") {
        let path = section.path_of("url");
        section.complain("url", format!("{path}: leave /v1 off; the routes begin with it"));
    }
    if !ca.is_empty() && url.scheme != Scheme::Https {
        let path = section.path_of("ca");
        section.complain("ca", format!("{path}: {name} is reached without TLS; write https in its url"));
    }
    Some(Upstream { name, url, dialect, auth, ca, connect, first_byte, stream_idle })
}

fn read_ca(section: &Section<'_>) -> Vec<CertificateDer<'static>> {
    let Some(text) = section.value("ca", value::some_text) else { return Vec::new() };
    let file = section.context.path(&text);
    let roots = (section.context.read)(&file)
        .map_err(|error| why_unread(&error))
        .and_then(|found| roots(&found.bytes));
    roots.unwrap_or_else(|why| {
        section.complain("ca", format!("{}: {}: {why}", section.path_of("ca"), file.display()));
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

fn read_auth(upstream: &Section<'_>) -> Option<Auth> {
    let section = upstream.section("auth", AUTH_KEYS)?;
    let secret = |key: &str| section.context.secret(&section.path_of(key), section.get(key)?);
    match (section.get("bearer"), section.get("header"), section.get("value")) {
        (Some(_), None, None) => Some(Auth::Bearer(secret("bearer")?)),
        (None, Some(_), Some(_)) => {
            let name = section.value("header", header_name);
            let secret = secret("value");
            Some(Auth::Header(name?, secret?))
        }
        _ => {
            let message = "must be either { bearer: ... } or { header: ..., value: ... }";
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
