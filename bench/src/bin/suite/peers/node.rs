//! What runs on Node: the reference packages of x402, mppx's proxy, Portkey.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{Behind, Found, Peer, install, is_made_of, was_made_of};
use crate::gateway::AUTHORIZER_KEY;
use crate::payments::PAY_TO;
use crate::places::Places;
use crate::process::{Server, free_address};

/// Installs the packages that a folder of `bench/peers` locks, and copies its scripts beside them.
fn packages(folder: &str, places: &Places) -> Result<PathBuf, String> {
    let (from, to) = (places.root.join("bench/peers").join(folder), places.kept.join("peers").join(folder));
    let told = |error: std::io::Error| format!("{}: {error}", to.display());
    fs::create_dir_all(&to).map_err(told)?;
    for entry in fs::read_dir(&from).map_err(told)? {
        let path = entry.map_err(told)?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            fs::copy(&path, to.join(name)).map_err(told)?;
        }
    }
    let lock = from.join("package-lock.json");
    if !is_made_of(&to, &lock) {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&to);
        install(&mut npm, "npm packages", places)?;
        was_made_of(&to, &lock)?;
    }
    Ok(to)
}

/// Runs one of our scripts.
fn seller(
    name: &'static str,
    folder: &str,
    script: &str,
    behind: Behind,
    places: &Places,
) -> Result<Peer, String> {
    let folder = packages(folder, places)?;
    let address = free_address()?;
    let mut node = Command::new("node");
    node.arg(folder.join(script)).env("NODE_ENV", "production");
    node.env("PORT", address.port().to_string()).env("PAY_TO", PAY_TO);
    node.env("AUTHORIZER_KEY", format!("0x{AUTHORIZER_KEY}"));
    node.env("UPSTREAM_URL", format!("http://{}", behind.upstream));
    node.env("FACILITATOR_URL", format!("http://{}", behind.facilitator));
    let server = Server::start(name, &node, &places.log(name), address)?;
    Ok(Peer { name, address, server })
}

/// Sellers made of the reference packages.
pub(crate) fn x402_sellers(behind: Behind, places: &Places) -> [Found; 2] {
    [("@x402/hono", "hono.mjs"), ("@x402/express", "express.mjs")]
        .map(|(name, script)| (name, seller(name, "x402", script, behind, places)))
}

/// mppx's proxy.
pub(crate) fn mppx(behind: Behind, places: &Places) -> Found {
    ("mppx proxy", seller("mppx proxy", "mpp", "seller.mjs", behind, places))
}

/// Portkey's gateway: a proxy that nobody pays.
pub(crate) fn portkey(places: &Places) -> Found {
    let start = || {
        let folder = packages("x402", places)?;
        let address = free_address()?;
        let mut node = Command::new("node");
        node.arg(folder.join("node_modules/@portkey-ai/gateway/build/start-server.js"));
        node.args([&format!("--port={}", address.port()), "--headless"]).env("NODE_ENV", "production");
        let server = Server::start("Portkey", &node, &places.log("Portkey"), address)?;
        Ok(Peer { name: "Portkey", address, server })
    };
    ("Portkey", start())
}
