//! A real Cashu mint, which counts play money: Nutshell before a Lightning node that only pretends. On loopback, gone when
//! dropped.

use std::path::Path;
use std::process::Command;

use super::process::{Server, answers, free_port};
use super::stage::{START_TIME_MAX, loopback};
use super::{Env, Places, install};

/// Makes the mint's keys: known to everybody, worth nothing.
const PRIVATE_KEY: &str = "a test key of a play mint";

/// The mint, with an empty database, behind a line that loses an answer when it is told to.
pub(super) struct CashuMint {
    port: u16,
    /// Dropped in this order.
    _servers: [Server; 2],
}

impl CashuMint {
    /// Starts it. It takes a tenth of a satoshi for each coin that is spent.
    pub(super) fn start(python: &Path, places: &Places) -> Result<Self, String> {
        let (port, mint_port) = (free_port()?, free_port()?);
        let data = places.work.join("cashu");
        install::empty(&data)?;
        let mut mint = Command::new(python);
        mint.args(["-m", "cashu.mint"]).current_dir(&data);
        mint.env("MINT_LISTEN_HOST", "127.0.0.1").env("MINT_LISTEN_PORT", mint_port.to_string());
        mint.env("MINT_PRIVATE_KEY", PRIVATE_KEY).env("MINT_BACKEND_BOLT11_SAT", "FakeWallet");
        mint.env("MINT_INPUT_FEE_PPK", "100").env("MINT_RATE_LIMIT", "FALSE");
        mint.env("MINT_DATABASE", data.join("mint")).env("CASHU_DIR", &data).env("TOR", "FALSE");
        mint.env("PYTHONDONTWRITEBYTECODE", "1");
        let log = places.log("cashu-mint");
        let mut mint = Server::start("the Cashu mint", &mint, &log)?;
        mint.wait_until(&log, START_TIME_MAX, || answers(mint_port, "/v1/info"))?;

        let mut line = Command::new(python);
        line.arg(places.sources.join("cashu/line.py")).env("PORT", port.to_string());
        line.env("MINT_URL", loopback(mint_port)).env("PYTHONDONTWRITEBYTECODE", "1");
        let log = places.log("cashu-line");
        let mut line = Server::start("the line to the Cashu mint", &line, &log)?;
        line.wait_until(&log, START_TIME_MAX, || answers(port, "/v1/info"))?;
        Ok(Self { port, _servers: [line, mint] })
    }

    /// Where a gateway and wallets reach it.
    pub(super) fn url(&self) -> String {
        loopback(self.port)
    }

    /// Tells a script where it is.
    pub(super) fn describe(&self, env: &mut Env) {
        env.insert("MINT_URL", self.url());
    }
}
