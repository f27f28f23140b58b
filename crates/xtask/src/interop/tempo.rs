//! The chain of Tempo, which anvil plays, before the stand-in for its channel reserve. On loopback, gone when dropped.

use std::path::Path;
use std::process::Command;

use super::process::{Server, answers, free_port, listens};
use super::stage::{START_TIME_MAX, loopback};
use super::{Env, Places};

/// The chain, as clients and the gateway reach it.
pub(super) struct Tempo {
    rpc_port: u16,
    /// Dropped in this order.
    _servers: [Server; 2],
}

impl Tempo {
    /// Starts the chain, and before it the program that places the reserve.
    pub(super) fn start(anvil: &Path, node: &Path, places: &Places) -> Result<Self, String> {
        let (behind_port, rpc_port) = (free_port()?, free_port()?);
        let mut anvil = Command::new(anvil);
        anvil.args(["--network", "tempo", "--hardfork", "T4", "--chain-id", "42431"]);
        anvil.args(["--host", "127.0.0.1", "--silent", "--port", &behind_port.to_string()]);
        // Its transactions are good for half a minute from the last block on: so there is always a young one.
        anvil.args(["--mixed-mining", "--block-time", "2"]);
        let log = places.log("anvil-tempo");
        let mut anvil = Server::start("anvil of Tempo", &anvil, &log)?;
        anvil.wait_until(&log, START_TIME_MAX, || listens(behind_port))?;

        let mut chain = Command::new(node);
        chain.arg(places.work.join("npm/tempo/chain.mjs"));
        chain.env("BEHIND_URL", loopback(behind_port)).env("PORT", rpc_port.to_string());
        let log = places.log("tempo");
        let mut chain = Server::start("the chain of Tempo", &chain, &log)?;
        chain.wait_until(&log, START_TIME_MAX, || answers(rpc_port, "/__sent"))?;
        Ok(Self { rpc_port, _servers: [chain, anvil] })
    }

    /// Where a gateway reaches it.
    pub(super) fn url(&self) -> String {
        loopback(self.rpc_port)
    }

    /// Tells a script where it is.
    pub(super) fn describe(&self, env: &mut Env) {
        env.insert("TEMPO_RPC_URL", self.url());
    }
}
