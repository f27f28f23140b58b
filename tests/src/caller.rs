//! A client that keeps its connection from call to call, as agents do.

use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::http::{self, Answer};
use crate::socket::Socket;

/// One client.
#[derive(Debug)]
pub struct Caller {
    address: SocketAddr,
    socket: Option<Socket>,
}

impl Caller {
    /// A client of this gateway. It connects when it calls.
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, socket: None }
    }

    /// POST of JSON.
    ///
    /// # Panics
    /// When no whole answer comes.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)], body: &Value) -> Answer {
        self.try_post(path, fields, body).unwrap_or_else(|| panic!("no answer to {path}"))
    }

    /// POST of JSON that may get no whole answer. The next one has a new connection then.
    pub fn try_post(&mut self, path: &str, fields: &[(&str, &str)], body: &Value) -> Option<Answer> {
        let request = http::posted(self.address, path, fields, body);
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => Socket::over(TcpStream::connect(self.address).ok()?),
        };
        let answer = socket.send(&request).then(|| socket.answer()).flatten()?;
        let closes = answer.header("connection") == Some("close");
        self.socket = (!closes).then_some(socket);
        Some(answer)
    }
}
