//! `admin` and `observe`: the operator's side.

use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::section::{Keys, Section};
use super::server::Server;
use super::store::Store;
use super::value;

/// Where the operator reaches the running gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// `/metrics`, `/healthz`, `/readyz`; loopback only, default `127.0.0.1:9402`.
    pub listen: SocketAddr,
    /// Unix socket of `credit`, `key`, `ledger`, `reload`, `drain`; default `admin.sock` in the
    /// store's folder.
    pub socket: PathBuf,
}

/// What is told, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observe {
    /// Form of the log.
    pub log: LogFormat,
}

/// What is told to whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// `/farthing/prices`, for people and programs.
    pub price_page: bool,
    /// Whether `/openapi.json` is there, default yes.
    pub openapi: bool,
    /// Whether `/llms.txt` is there, default yes.
    pub llms_txt: bool,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One object per line.
    Json,
    /// For a person.
    Pretty,
    /// Pretty on a terminal, else JSON.
    #[default]
    Auto,
}

impl LogFormat {
    /// Whether lines are for a person.
    #[must_use]
    pub fn is_pretty(self) -> bool {
        match self {
            Self::Pretty => true,
            Self::Json => false,
            Self::Auto => std::io::stderr().is_terminal(),
        }
    }
}

const KEYS: Keys = Keys::secret(&["listen", "socket"], &["auth", "ui", "languages"]);
const OBSERVE_KEYS: Keys = Keys::new(&["log", "content"], &["prometheus", "otlp"]);

const DISCOVERY_KEYS: Keys = Keys::new(&["price_page", "openapi", "llms_txt"], &["x402_bazaar"]);

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9402);
/// `sun_path` holds 108 bytes on Linux and 104 elsewhere, one of them the end.
const SOCKET_BYTES_MAX: usize = 103;

pub(super) fn read(top: &Section<'_>, server: &Server, store: &Store) -> Admin {
    let section = top.section("admin", KEYS);
    let listen = section.as_ref().and_then(|section| section.value("listen", loopback)).unwrap_or(LISTEN);
    let socket = section.as_ref().and_then(|section| section.value("socket", value::some_text));
    let socket = socket.map_or_else(|| store.path.join("admin.sock"), |path| top.context.path(&path));
    if listen.port() != 0 && server.listen.contains(&listen) {
        top.complain("admin", format!("admin.listen: {listen} is the public address too"));
    }
    let length = socket.as_os_str().len();
    if length > SOCKET_BYTES_MAX {
        let message =
            format!("admin.socket: the path has {length} bytes, a unix socket takes {SOCKET_BYTES_MAX}");
        top.complain("admin", message);
    }
    Admin { listen, socket }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address = value::socket(text)?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err(format!("{address} is not loopback; the admin listener has no login"))
}

pub(super) fn read_discovery(top: &Section<'_>) -> Discovery {
    let section = top.section("discovery", DISCOVERY_KEYS);
    let flag =
        |name: &str| section.as_ref().and_then(|section| section.value(name, value::flag)).unwrap_or(true);
    Discovery { price_page: flag("price_page"), openapi: flag("openapi"), llms_txt: flag("llms_txt") }
}

pub(super) fn read_observe(top: &Section<'_>) -> Observe {
    let Some(section) = top.section("observe", OBSERVE_KEYS) else { return Observe::default() };
    section.only("content", "never");
    let log = section.value("log", |text| match text {
        "json" => Ok(LogFormat::Json),
        "pretty" => Ok(LogFormat::Pretty),
        "auto" => Ok(LogFormat::Auto),
        _ => Err(format!("\"{text}\" is none of json, pretty, auto")),
    });
    Observe { log: log.unwrap_or_default() }
}
