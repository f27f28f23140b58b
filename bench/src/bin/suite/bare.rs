//! This program as a server in a process of its own.

use std::net::SocketAddr;
use std::process::Command;

use crate::peers::Peer;
use crate::places::Places;
use crate::process::{Server, free_address};

/// The upstream as somebody who is measured: what an answer costs that nobody thinks about.
pub(crate) fn start(places: &Places) -> Result<Peer, String> {
    let address = free_address()?;
    let server = start_as("bare", &[address.to_string()], address, places)?;
    Ok(Peer { name: "bare hyper", address, server })
}

/// Starts ourselves in another role; `main` knows the roles.
pub(crate) fn start_as(
    role: &str,
    arguments: &[String],
    listens: SocketAddr,
    places: &Places,
) -> Result<Server, String> {
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    command.arg(role).args(arguments);
    Server::start(role, &command, &places.log(role), listens)
}
