//! `server`: what listens, under which names, and what it bears.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::net::Net;
use super::secret::why_unread;
use super::section::{Context, Keys, Section};
use super::url::BaseUrl;
use super::value;

/// The public side.
#[derive(Clone, Debug)]
pub struct Server {
    /// Addresses we accept on; default `127.0.0.1:4402`. Port 0 asks the system for one.
    pub listen: Vec<SocketAddr>,
    /// Origin that clients see, `https://api.example.com`: realm of challenges, never taken from
    /// `Host`.
    pub public_url: Option<String>,
    /// Host names we answer to, lower-case, without port (reference item 45).
    pub hosts: Vec<String>,
    /// Certificate and key, when we terminate TLS.
    pub tls: Option<Tls>,
    /// Sizes and numbers.
    pub limits: Limits,
    /// Patience.
    pub timeouts: Timeouts,
    /// Proxies before us whose word on the client's address is taken (L402-65); none by default.
    pub trusted_proxies: Vec<Net>,
    /// Worker threads; one per core when absent.
    pub threads: Option<NonZeroUsize>,
}

impl Server {
    /// Whether a `Host` header or `:authority` names us; the port does not matter.
    #[must_use]
    pub fn allows_host(&self, authority: &str) -> bool {
        // Behind a colon that no bracket follows stands the port.
        let last = authority.bytes().enumerate().rfind(|(_, byte)| matches!(byte, b':' | b']'));
        let host = match last {
            Some((colon, b':')) => authority.get(..colon).unwrap_or_default(),
            Some(_) | None => authority,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
    }
}

/// Files of the listener's certificate, read when the listener starts: a new one needs a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM chain.
    pub cert: PathBuf,
    /// PEM key, mode 0600.
    pub key: PathBuf,
}

/// Sizes and numbers (SEC-20, reference item 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Header section of a request, default 32 KiB.
    pub header_bytes: usize,
    /// Header fields, default 100.
    pub fields: usize,
    /// Request target, default 8 KiB.
    pub uri_bytes: usize,
    /// One credential field, checked before it is decoded, default 16 KiB.
    pub credential_bytes: usize,
    /// Request body, default 10 MiB; a route may set its own.
    pub body_bytes: usize,
    /// Connections at once, default 10,000.
    pub connections: usize,
    /// Connections per source address (/32, /64), default 100.
    pub per_ip: usize,
    /// Requests in flight, default 2,000; none are queued.
    pub in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 32 << 10,
            fields: 100,
            uri_bytes: 8 << 10,
            credential_bytes: 16 << 10,
            body_bytes: 10 << 20,
            connections: 10_000,
            per_ip: 100,
            in_flight: 2_000,
        }
    }
}

/// How long we wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a complete header section, default 5 s.
    pub header: Duration,
    /// For the whole request before it goes upstream, default 60 s.
    pub body: Duration,
    /// For a connection to the upstream, default 5 s.
    pub connect: Duration,
    /// For the first byte of the upstream's answer, default 120 s.
    pub first_byte: Duration,
    /// Between two pieces of a streamed answer, default 300 s.
    pub stream_idle: Duration,
    /// For the whole of a call, from its head to the last byte of its answer: then its hold expires (LED 4.3).
    /// Default 1 h.
    pub call: Duration,
    /// On a kept-alive connection without a request, default 60 s.
    pub idle: Duration,
    /// For running calls at shutdown, default 30 s.
    pub drain: Duration,
    /// On a client that does not read, default 60 s.
    pub write_stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(5),
            body: Duration::from_secs(60),
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(120),
            stream_idle: Duration::from_secs(300),
            call: Duration::from_secs(3600),
            idle: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            write_stall: Duration::from_secs(60),
        }
    }
}

const KEYS: Keys = Keys::new(
    &["listen", "public_url", "hosts", "tls", "limits", "timeouts", "trusted_proxies", "threads"],
    &[],
);
const TLS_KEYS: Keys = Keys::secret(&["cert", "key"], &["acme"]);
const LIMIT_KEYS: Keys = Keys::new(
    &["header", "fields", "uri", "credential", "body", "connections", "per_ip", "in_flight"],
    &["sse_line"],
);
const TIMEOUT_KEYS: Keys = Keys::new(
    &["header", "body", "connect", "first_byte", "stream_idle", "call", "idle", "drain", "write_stall"],
    &[],
);

/// Where we listen when nothing is said.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4402);

pub(super) fn read(top: &Section<'_>) -> Server {
    let Some(section) = top.section("server", KEYS) else {
        let hosts = allowed_hosts(&[LISTEN], None, Vec::new());
        return Server {
            listen: vec![LISTEN],
            public_url: None,
            hosts,
            tls: None,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            trusted_proxies: Vec::new(),
            threads: None,
        };
    };
    let listen = read_listen(&section);
    let public = section.value("public_url", origin);
    let named = section.values("hosts", host).unwrap_or_default();
    let named: Vec<String> = named.into_iter().map(|(_, host)| host).collect();
    if let Some(open) = listen.iter().find(|address| address.ip().is_unspecified())
        && section.get("public_url").is_none()
        && section.get("hosts").is_none()
    {
        let message = format!(
            "server.listen: {open} is open to other machines; say under which name: server.public_url"
        );
        section.complain("listen", message);
    }
    Server {
        hosts: allowed_hosts(&listen, public.as_ref(), named),
        listen,
        public_url: public.map(|url| url.origin()),
        tls: read_tls(&section),
        limits: read_limits(&section),
        timeouts: read_timeouts(&section),
        trusted_proxies: read_trusted(&section),
        threads: section.value("threads", value::count).and_then(|n| NonZeroUsize::new(n as usize)),
    }
}

fn read_listen(section: &Section<'_>) -> Vec<SocketAddr> {
    let Some(written) = section.values("listen", value::socket) else { return vec![LISTEN] };
    let mut listen: Vec<SocketAddr> = Vec::new();
    for (span, address) in written {
        if address.port() != 0 && listen.contains(&address) {
            section.context.report.add(span, format!("server.listen: {address} stands twice"));
        }
        listen.push(address);
    }
    if listen.is_empty() {
        section.complain("listen", "server.listen: needs at least one address");
    }
    listen
}

fn read_trusted(section: &Section<'_>) -> Vec<Net> {
    let written = section.values("trusted_proxies", Net::parse).unwrap_or_default();
    written.into_iter().map(|(_, net)| net).collect()
}

fn allowed_hosts(listen: &[SocketAddr], public: Option<&BaseUrl>, named: Vec<String>) -> Vec<String> {
    let mut hosts = named;
    hosts.extend(public.map(|url| url.host.clone()));
    if hosts.is_empty() || listen.iter().any(|address| address.ip().is_loopback()) {
        hosts.extend(listen.iter().map(|address| address.ip().to_string()));
        hosts.push("localhost".to_owned());
    }
    hosts.sort();
    hosts.dedup();
    hosts
}

fn origin(text: &str) -> Result<BaseUrl, String> {
    let url = BaseUrl::parse(text)?;
    if url.base_path.is_empty() { Ok(url) } else { Err("must be an origin, without a path".to_owned()) }
}

fn host(text: &str) -> Result<String, String> {
    // A name with a port is accepted as written in `Host`; the port plays no part.
    BaseUrl::parse(&format!("http://{text}"))
        .ok()
        .filter(|url| url.base_path.is_empty())
        .map(|url| url.host)
        .ok_or_else(|| format!("\"{text}\" is no host name"))
}

fn read_tls(server: &Section<'_>) -> Option<Tls> {
    let section = server.section("tls", TLS_KEYS)?;
    let cert = section.required("cert", value::some_text);
    let Some(key) = section.get("key") else {
        section.missing("server.tls needs \"key\"");
        return None;
    };
    let context: &Context<'_> = section.context;
    let key = context.secret_path("server.tls.key", key);
    let cert = context.path(&cert?);
    if let Err(error) = (context.read)(&cert) {
        section.complain(
            "cert",
            format!("server.tls.cert: cannot read {}: {}", cert.display(), why_unread(&error)),
        );
    }
    Some(Tls { cert, key: key? })
}

fn read_limits(server: &Section<'_>) -> Limits {
    let default = Limits::default();
    let Some(section) = server.section("limits", LIMIT_KEYS) else { return default };
    let size = |key: &str, default: usize| section.value(key, value::size).unwrap_or(default);
    let count = |key: &str, default: usize| section.value(key, value::count).map_or(default, |n| n as usize);
    let limits = Limits {
        header_bytes: size("header", default.header_bytes),
        fields: count("fields", default.fields),
        uri_bytes: size("uri", default.uri_bytes),
        credential_bytes: size("credential", default.credential_bytes),
        body_bytes: size("body", default.body_bytes),
        connections: count("connections", default.connections),
        per_ip: count("per_ip", default.per_ip),
        in_flight: count("in_flight", default.in_flight),
    };
    if limits.credential_bytes > limits.header_bytes {
        section.complain("credential", "server.limits.credential is larger than server.limits.header");
    }
    // hyper's read buffer has to hold the section whole, and refuses to be smaller.
    if limits.header_bytes < 8 << 10 {
        section.complain("header", "server.limits.header must be at least 8KiB");
    }
    limits
}

fn read_timeouts(server: &Section<'_>) -> Timeouts {
    let default = Timeouts::default();
    let Some(section) = server.section("timeouts", TIMEOUT_KEYS) else { return default };
    let time = |key: &str, default: Duration| section.value(key, value::duration).unwrap_or(default);
    Timeouts {
        header: time("header", default.header),
        body: time("body", default.body),
        connect: time("connect", default.connect),
        first_byte: time("first_byte", default.first_byte),
        stream_idle: time("stream_idle", default.stream_idle),
        call: time("call", default.call),
        idle: time("idle", default.idle),
        drain: time("drain", default.drain),
        write_stall: time("write_stall", default.write_stall),
    }
}
