//! The wallet that L402 clients pay with, a real LNbits, and wallets behind a Nostr relay. On loopback, for play money, gone when dropped.

use std::path::Path;
use std::process::Command;

use super::process::{self, Server, answers, free_port};
use super::stage::{START_TIME_MAX, loopback};
use super::{Env, Places, install};

/// A program that pays the invoices of the `test` node, in the ways that clients ask their wallets.
pub(super) struct Wallet {
    port: u16,
    _server: Server,
}

impl Wallet {
    pub(super) fn start(node: &Path, places: &Places) -> Result<Self, String> {
        let port = free_port()?;
        let mut wallet = Command::new(node);
        wallet.arg(places.work.join("npm/lightning/wallet.mjs")).env("PORT", port.to_string());
        let log = places.log("wallet");
        let mut wallet = Server::start("the wallet", &wallet, &log)?;
        wallet.wait_until(&log, START_TIME_MAX, || answers(port, "/__calls"))?;
        Ok(Self { port, _server: wallet })
    }

    /// Tells a script where it is.
    pub(super) fn describe(&self, env: &mut Env) {
        env.insert("WALLET_URL", loopback(self.port));
    }
}

/// A relay, and wallets behind it that Alby's wallet service speaks for.
pub(super) struct NwcWallets {
    port: u16,
    _server: Server,
}

impl NwcWallets {
    pub(super) fn start(node: &Path, places: &Places) -> Result<Self, String> {
        let port = free_port()?;
        let mut wallets = Command::new(node);
        wallets.arg(places.work.join("npm/lightning/nwc_wallets.mjs")).env("PORT", port.to_string());
        let log = places.log("nwc-wallets");
        let mut wallets = Server::start("wallets behind a relay", &wallets, &log)?;
        wallets.wait_until(&log, START_TIME_MAX, || answers(port, "/__calls"))?;
        Ok(Self { port, _server: wallets })
    }

    /// How a gateway reaches the seller's wallet: with test keys, as `nwc_wallets.mjs` has them.
    pub(super) fn seller(&self) -> String {
        self.wallet("6360e856310ce5d294e8be33fc807077dc56ac80d95d9cd4ddbd21325eff73f7", "11")
    }

    /// The same of a wallet that pays as well.
    pub(super) fn shop(&self) -> String {
        self.wallet("a8397a935f0dfceba6ba9618f6451ef4d80637abf4e6af2669fbc9de6a8fd2ac", "15")
    }

    fn wallet(&self, key: &str, secret: &str) -> String {
        format!("nostr+walletconnect://{key}?relay={}&secret={}", self.relay(), secret.repeat(32))
    }

    /// Tells a script where the relay is.
    pub(super) fn describe(&self, env: &mut Env) {
        env.insert("NWC_RELAY", self.relay());
    }

    fn relay(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }
}

/// LNbits before its own play money: one wallet of the seller, and one of the payer with something in it.
pub(super) struct LnBits {
    port: u16,
    /// Makes the seller's invoices.
    invoice_key: String,
    /// Pays out of the seller's wallet.
    seller_key: String,
    /// Pays out of the payer's wallet.
    payer_key: String,
    /// Signs the invoices.
    node_key: String,
    _server: Server,
}

/// How a gateway reaches it.
#[derive(Clone)]
pub(super) struct LnBitsUrls {
    pub(super) url: String,
    /// Makes invoices, and would pay for refunds.
    pub(super) key: String,
    /// Signs the invoices.
    pub(super) node_key: String,
}

impl LnBits {
    /// Starts it with an empty database, and makes the wallets.
    pub(super) fn start(python: &Path, places: &Places) -> Result<Self, String> {
        let port = free_port()?;
        let data = places.work.join("lnbits");
        install::empty(&data)?;
        let script = |name: &str| places.sources.join("lightning").join(name);

        let mut lnbits = Command::new(python);
        lnbits.arg(script("lnbits_server.py")).arg(&data);
        lnbits.env("PORT", port.to_string()).env("PYTHONDONTWRITEBYTECODE", "1");
        let log = places.log("lnbits");
        let mut server = Server::start("LNbits", &lnbits, &log)?;
        // Before its first user it sends everybody to make one.
        server.wait_until(&log, START_TIME_MAX, || answers(port, "/first_install"))?;

        let mut wallets = Command::new(python);
        wallets.arg(script("lnbits_wallets.py")).env("LNBITS_URL", loopback(port));
        wallets.env("PYTHONDONTWRITEBYTECODE", "1");
        let log = places.log("lnbits-wallets");
        let made = process::run(wallets, &log, START_TIME_MAX);
        let told: Option<serde_json::Value> = serde_json::from_str(&made.stdout).ok();
        let key = |name: &str| {
            let key = told.as_ref().and_then(|told| told.get(name)?.as_str()).filter(|_| made.succeeded);
            let why = || format!("cannot make the wallets: {}, see {}", made.end, log.display());
            key.map(str::to_owned).ok_or_else(why)
        };
        Ok(Self {
            port,
            invoice_key: key("invoice")?,
            seller_key: key("seller")?,
            payer_key: key("payer")?,
            node_key: key("node")?,
            _server: server,
        })
    }

    /// Where a gateway reaches it.
    pub(super) fn urls(&self) -> LnBitsUrls {
        LnBitsUrls { url: loopback(self.port), key: self.seller_key.clone(), node_key: self.node_key.clone() }
    }

    /// Tells a script where it is, and how it pays.
    pub(super) fn describe(&self, env: &mut Env) {
        env.insert("LNBITS_URL", loopback(self.port));
        env.insert("LNBITS_INVOICE_KEY", self.invoice_key.clone());
        env.insert("LNBITS_SELLER_KEY", self.seller_key.clone());
        env.insert("LNBITS_PAYER_KEY", self.payer_key.clone());
    }
}
