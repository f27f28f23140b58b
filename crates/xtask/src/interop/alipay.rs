//! Alipay's own SDK as a gateway that judges our calls by it. On loopback, gone when dropped.

use std::path::Path;
use std::process::Command;

use super::process::{Server, answers, free_port};
use super::stage::{START_TIME_MAX, loopback};
use super::{Env, Places};

/// The SDK, and the trades that it is asked for.
pub(super) struct AlipayJudge {
    port: u16,
    _server: Server,
}

impl AlipayJudge {
    pub(super) fn start(node: &Path, places: &Places) -> Result<Self, String> {
        let port = free_port()?;
        let mut judge = Command::new(node);
        judge.arg(places.work.join("npm/alipay/platform.mjs")).env("PORT", port.to_string());
        judge.env("KEYS", places.root.join("specs/vectors/rails/alipay_keys.json"));
        let log = places.log("alipay");
        let mut judge = Server::start("Alipay's SDK", &judge, &log)?;
        judge.wait_until(&log, START_TIME_MAX, || answers(port, "/__calls"))?;
        Ok(Self { port, _server: judge })
    }

    /// Tells a script where it is.
    pub(super) fn describe(&self, env: &mut Env) {
        env.insert("ALIPAY_URL", loopback(self.port));
    }
}
