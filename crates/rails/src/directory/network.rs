//! How names become addresses and addresses connections: a port, so that what is guarded can be shown without a network.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use tokio::net::{TcpStream, lookup_host};

/// What a [`Network`] gives, later.
pub type Soon<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Looks names up and connects. It decides nothing: whether an address may be connected to is decided between the two.
pub trait Network: Send + Sync + fmt::Debug {
    /// Every address of a name.
    fn resolve<'a>(&'a self, host: &'a str) -> Soon<'a, Vec<IpAddr>>;

    /// A connection to this very address.
    fn connect(&self, address: SocketAddr) -> Soon<'_, TcpStream>;
}

/// The machine's own resolver and sockets. No proxy, whatever the environment says.
#[derive(Clone, Copy, Debug)]
pub struct Direct;

impl Network for Direct {
    fn resolve<'a>(&'a self, host: &'a str) -> Soon<'a, Vec<IpAddr>> {
        Box::pin(async move {
            // The dot at the end keeps the resolver from trying the machine's own domains below it.
            let found = lookup_host((format!("{host}."), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }

    fn connect(&self, address: SocketAddr) -> Soon<'_, TcpStream> {
        Box::pin(TcpStream::connect(address))
    }
}
