//! Two real Lightning nodes with one channel between them, each behind that part of LND's REST interface which a gateway
//! and those who pay it use. On a regtest chain that is there already; everything on loopback. For `cargo xtask lightning`.
//!
//! Reads CHAIN_RPC (port), CHAIN_PASSWORD, FOLDER, PEER_PORT, PAYEE_PORT, PAYER_PORT. Listens on the last two once the
//! channel can be used.

mod book;
mod chain;
mod nodes;
mod rest;

use std::error::Error;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Fallible<()> {
    let chain = chain::Chain::new(port("CHAIN_RPC")?, std::env::var("CHAIN_PASSWORD")?)?;
    let folder = PathBuf::from(std::env::var("FOLDER")?);
    let payee = Arc::new(nodes::Lightning::start("payee", 1, &folder, &chain, Some(port("PEER_PORT")?))?);
    let payer = Arc::new(nodes::Lightning::start("payer", 2, &folder, &chain, None)?);
    nodes::open_channel(&payer, &payee, &chain).await?;
    tokio::try_join!(serve(payee, port("PAYEE_PORT")?), serve(payer, port("PAYER_PORT")?))?;
    Ok(())
}

async fn serve(node: Arc<nodes::Lightning>, port: u16) -> Fallible<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    Ok(axum::serve(listener, rest::router(node)).await?)
}

fn port(name: &str) -> Fallible<u16> {
    let text = std::env::var(name).map_err(|_| format!("{name} is not set"))?;
    Ok(text.parse().map_err(|_| format!("{name} is no port: {text}"))?)
}
