//! A client on one HTTP/2 connection, whose calls can be left without leaving the connection.

use std::net::SocketAddr;
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::gateway::PATIENCE;
use crate::signer::Call;

/// The connection.
pub struct Http2 {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    runtime: Runtime,
}

/// A call of it. Dropped, its stream is reset.
pub struct Stream<'h> {
    connection: &'h Http2,
    answer: tokio::task::JoinHandle<hyper::Result<http::Response<Incoming>>>,
    body: Option<Incoming>,
    got: Vec<u8>,
}

impl Http2 {
    /// Connects. A thread of its own moves the bytes, until the connection ends.
    pub fn connect(address: SocketAddr) -> Self {
        let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
        let (given, sender) = std::sync::mpsc::channel();
        thread::spawn(move || {
            runtime().block_on(async move {
                let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
                let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
                given.send(sender).unwrap();
                // How it ends is for the test to see in its calls.
                let _ = connection.await;
            });
        });
        Self { address, sender: sender.recv_timeout(PATIENCE).unwrap(), runtime: runtime() }
    }

    /// Sends a request.
    pub fn post(&self, path: &str, key: &str, body: &Value) -> Stream<'_> {
        self.call(&Call::post(self.address, path, body).with("x-api-key", key))
    }

    /// Sends a request as it was made.
    pub fn call(&self, call: &Call) -> Stream<'_> {
        let mut request = http::Request::builder()
            .method(call.method.as_str())
            .uri(format!("http://{}{}", call.host, call.target));
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(call.body.clone()))).unwrap();
        let mut sender = self.sender.clone();
        let answer = self.runtime.spawn(async move { sender.send_request(request).await });
        // Once polled the request is on its way.
        self.runtime.block_on(tokio::task::yield_now());
        Stream { connection: self, answer, body: None, got: Vec::new() }
    }
}

impl Stream<'_> {
    /// Waits for the head of the answer and returns its status.
    pub fn head(&mut self) -> u16 {
        let answer = self.connection.runtime.block_on(async { timeout(PATIENCE, &mut self.answer).await });
        let answer = answer.unwrap().unwrap().unwrap();
        let status = answer.status().as_u16();
        self.body = Some(answer.into_body());
        status
    }

    /// Reads the answer until `text` has come.
    pub fn read_until(&mut self, text: &str) {
        while crate::socket::find(&self.got, text.as_bytes()).is_none() {
            let body = self.body.as_mut().unwrap();
            let frame = self.connection.runtime.block_on(async { timeout(PATIENCE, body.frame()).await });
            let frame = frame.unwrap().unwrap_or_else(|| panic!("ended before {text}")).unwrap();
            self.got.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        self.answer.abort();
        // An aborted task is dropped when its runtime runs.
        self.connection.runtime.block_on(tokio::task::yield_now());
    }
}
