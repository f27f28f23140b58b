//! Both ends of gRPC, down to the frames: a server that does what the test says, and a client that sees everything. What is in
//! the messages is nobody's business here.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::gateway::PATIENCE;

/// A body that is written while it is read.
pub struct Piped(mpsc::UnboundedReceiver<Result<Frame<Bytes>, std::io::Error>>);

/// Its other end. Dropped, the body has ended.
pub struct Pipe(mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>);

/// A body and where it is written.
pub fn pipe() -> (Pipe, Piped) {
    let (pipe, piped) = mpsc::unbounded_channel();
    (Pipe(pipe), Piped(piped))
}

impl Pipe {
    /// Writes bytes as they are.
    pub fn bytes(&self, bytes: impl Into<Bytes>) {
        let _ = self.0.send(Ok(Frame::data(bytes.into())));
    }

    /// Writes one message.
    pub fn message(&self, text: impl AsRef<[u8]>) {
        self.bytes(framed(text.as_ref()));
    }

    /// Ends with trailers.
    pub fn trailers(self, fields: &[(&'static str, &str)]) {
        let _ = self.0.send(Ok(Frame::trailers(map(fields))));
    }

    /// Resets the stream.
    pub fn reset(self) {
        let _ = self.0.send(Err(std::io::Error::other("reset")));
    }

    /// Whether nobody reads any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

impl Body for Piped {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx)
    }
}

fn framed(text: &[u8]) -> Bytes {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    Bytes::from([&[0][..], &length, text].concat())
}

/// Fields by name.
pub fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(field).collect()
}

/// Messages as they come, and the trailers behind them.
pub struct Messages {
    body: Incoming,
    read: BytesMut,
    /// Once the body has ended.
    pub trailers: HeaderMap,
    /// How it broke off, if it did.
    pub broken: Option<hyper::Error>,
}

impl Messages {
    /// Of a body.
    pub fn of(body: Incoming) -> Self {
        Self { body, read: BytesMut::new(), trailers: HeaderMap::new(), broken: None }
    }

    /// The next message; none when the body has ended.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(length) = self.read.get(1..5) {
                let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if self.read.len() >= 5 + length {
                    self.read.advance(5);
                    return Some(String::from_utf8(self.read.split_to(length).to_vec()).unwrap());
                }
            }
            match timeout(PATIENCE, self.body.frame()).await.unwrap()? {
                Ok(frame) if frame.is_data() => self.read.extend_from_slice(&frame.into_data().unwrap()),
                Ok(frame) => self.trailers = frame.into_trailers().unwrap(),
                Err(error) => {
                    self.broken = Some(error);
                    return None;
                }
            }
        }
    }

    /// All that are left.
    pub async fn rest(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(message) = self.next().await {
            all.push(message);
        }
        all
    }
}

/// A call as the server sees it.
pub struct Call {
    /// Its head.
    pub head: request::Parts,
    /// What the client sends.
    pub messages: Messages,
    answer: oneshot::Sender<Response<Piped>>,
}

impl Call {
    /// Begins the answer.
    pub fn answer(self, fields: &[(&'static str, &str)]) -> (Pipe, Messages) {
        self.answer_with(200, fields)
    }

    /// The same, with a status of HTTP.
    pub fn answer_with(self, status: u16, fields: &[(&'static str, &str)]) -> (Pipe, Messages) {
        let (pipe, piped) = pipe();
        let mut response = Response::new(piped);
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        response.headers_mut().extend(map(fields));
        let _ = self.answer.send(response);
        (pipe, self.messages)
    }

    /// Ends the call with nothing but trailers.
    pub fn only_trailers(self, fields: &[(&'static str, &str)]) {
        drop(self.answer(fields));
    }
}

/// A server over plain HTTP/2, or TLS. Its thread ends with the process.
pub struct GrpcServer {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<request::Parts>>>,
    connections: Arc<AtomicUsize>,
}

impl GrpcServer {
    /// Answers each call with `script`.
    pub fn start<F>(script: impl Fn(Call) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_with(([127, 0, 0, 1], 0).into(), None, script)
    }

    /// The same at an address that somebody knows already, within TLS.
    pub fn start_with<F>(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(Call) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = Self { address, seen: Arc::default(), connections: Arc::default() };
        let (seen, connections) = (Arc::clone(&server.seen), Arc::clone(&server.connections));
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (tcp, _) = listener.accept().await.unwrap();
                    connections.fetch_add(1, Ordering::SeqCst);
                    let (seen, script, tls) = (Arc::clone(&seen), script.clone(), tls.clone());
                    tokio::spawn(async move {
                        let service = service_fn(move |request: Request<Incoming>| {
                            let (head, body) = request.into_parts();
                            seen.lock().unwrap().push(head.clone());
                            let (answer, answered) = oneshot::channel();
                            tokio::spawn(script(Call { head, messages: Messages::of(body), answer }));
                            async move { answered.await.map_err(|_| std::io::Error::other("no answer")) }
                        });
                        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        // How a connection ends is for the test to see in its calls.
                        match tls {
                            None => drop(http.serve_connection(TokioIo::new(tcp), service).await),
                            Some(tls) => {
                                if let Ok(tls) = TlsAcceptor::from(tls).accept(tcp).await {
                                    drop(http.serve_connection(TokioIo::new(tls), service).await);
                                }
                            }
                        }
                    });
                }
            });
        });
        server
    }

    /// Heads of all calls so far.
    pub fn seen(&self) -> Vec<request::Parts> {
        self.seen.lock().unwrap().clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A client on one connection.
#[derive(Clone)]
pub struct GrpcClient {
    address: SocketAddr,
    sender: SendRequest<Piped>,
}

/// An answer as the client sees it.
pub struct Answer {
    /// Status of HTTP and head.
    pub head: http::response::Parts,
    /// What the server sends.
    pub messages: Messages,
}

impl GrpcClient {
    /// Connects, with prior knowledge.
    pub async fn connect(address: SocketAddr) -> Self {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Self { address, sender }
    }

    /// Begins a call: where its messages are written, and its answer to wait for.
    pub fn begin(
        &self,
        path: &str,
        fields: &[(&'static str, &str)],
    ) -> (Pipe, impl Future<Output = Result<Answer, hyper::Error>> + use<>) {
        let (pipe, piped) = pipe();
        let mut request = Request::post(format!("http://{}{path}", self.address)).body(piped).unwrap();
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        request.headers_mut().extend(map(fields));
        let answer = self.sender.clone().send_request(request);
        (pipe, async move {
            let answer = timeout(PATIENCE, answer).await.unwrap()?;
            let (head, body) = answer.into_parts();
            Ok(Answer { head, messages: Messages::of(body) })
        })
    }

    /// A call with one message, to its end.
    pub async fn unary(&self, path: &str, fields: &[(&'static str, &str)], message: &str) -> Ended {
        let (pipe, answer) = self.begin(path, fields);
        pipe.message(message);
        drop(pipe);
        let mut answer = answer.await.unwrap();
        let messages = answer.messages.rest().await;
        Ended { head: answer.head.headers, messages, trailers: answer.messages.trailers }
    }
}

/// A call that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its head.
    pub head: HeaderMap,
    /// What was sent.
    pub messages: Vec<String>,
    /// What it ended with.
    pub trailers: HeaderMap,
}

impl Ended {
    /// What a client of gRPC takes for the status: of the trailers, or of a head that is all there is.
    pub fn status(&self) -> (&str, &str) {
        let all = if self.trailers.is_empty() { &self.head } else { &self.trailers };
        let text = |name: &str| all.get(name).map_or("", |value| value.to_str().unwrap());
        (text("grpc-status"), text("grpc-message"))
    }

    /// A field of the head.
    pub fn told(&self, name: &str) -> &str {
        self.head.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Runs a test's conversation.
pub fn run<T>(conversation: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(conversation)
}
