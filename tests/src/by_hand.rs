//! An upstream that the test plays by hand: each call is handed over as it arrives, and is answered piece by
//! piece, when the test says so. It takes one call of each connection.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::gateway::PATIENCE;
use crate::kept;
use crate::upstream::{Seen, read_request};

/// A server on loopback that does nothing by itself. Its threads end with the process.
pub struct ByHand {
    /// Where it listens.
    pub address: SocketAddr,
    calls: Mutex<Receiver<Call>>,
}

/// A call that has arrived and waits for its answer.
pub struct Call {
    /// What was asked.
    pub request: Seen,
    stream: TcpStream,
}

impl ByHand {
    /// Listens.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (arrived, calls) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(mut stream), arrived) = (stream, arrived.clone()) else { return };
                thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.set_nodelay(true).unwrap();
                    if let Some(request) = read_request(&mut stream) {
                        // Nobody waits for it when its test has ended.
                        let _ = arrived.send(Call { request, stream });
                    }
                });
            }
        });
        Self { address, calls: Mutex::new(calls) }
    }

    /// The next call.
    pub fn next(&self) -> Call {
        self.calls.lock().unwrap().recv_timeout(PATIENCE).unwrap()
    }
}

impl Call {
    /// Sends bytes as they are. The other side may have gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Sends one chunk of a chunked body.
    pub fn chunk(&mut self, text: &str) {
        self.send(kept::chunk(text.as_bytes()));
    }

    /// Resets the connection: the other side gets an error, not an end.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Waits until the other side has hung up.
    pub fn wait_until_left(mut self) {
        let mut rest = [0; 1024];
        loop {
            match self.stream.read(&mut rest) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nobody hung up"),
                // A reset is an end as well.
                Ok(0) | Err(_) => return,
            }
        }
    }
}
