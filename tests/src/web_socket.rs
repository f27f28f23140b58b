//! Both ends of a WebSocket, by a library that is not ours.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderMap;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

use crate::gateway::PATIENCE;

/// What bytes go over: TCP, or TLS.
pub trait Line: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Line for T {}

/// One end of an open one.
pub struct Talk(pub WebSocketStream<Box<dyn Line>>);

impl Talk {
    /// Sends a text.
    pub async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next message of the application; none when the other side has closed, or is gone.
    pub async fn hear(&mut self) -> Option<Message> {
        match self.next().await? {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => Some(message),
            Ok(Message::Ping(_) | Message::Pong(_)) => Box::pin(self.hear()).await,
            Ok(Message::Close(_) | Message::Frame(_)) | Err(_) => None,
        }
    }

    /// The next text.
    pub async fn heard(&mut self) -> String {
        self.hear().await.unwrap().into_text().unwrap().to_string()
    }

    /// Whatever comes next.
    pub async fn next(&mut self) -> Option<Result<Message, Error>> {
        timeout(PATIENCE, self.0.next()).await.unwrap()
    }

    /// Reads on until the other side closes, and says how: with a code, or without a word.
    pub async fn closed_with(&mut self) -> Option<u16> {
        loop {
            match self.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Closes it, as the protocol wants.
    pub async fn close(mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.0.close(Some(frame)).await.unwrap();
        while let Some(Ok(_)) = self.next().await {}
    }
}

/// A server whose thread ends with the process.
pub struct WebSocketServer {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<(String, HeaderMap)>>>,
}

impl WebSocketServer {
    /// Talks with each client as `script` says, which gets the path too. A path that ends in `refused` is answered
    /// with 403, and one that ends in `busy` with 503.
    pub fn start<F>(script: impl Fn(String, Talk) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_with(None, script)
    }

    /// The same within TLS.
    pub fn start_with<F>(
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(String, Talk) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = Arc::clone(&server.seen);
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (tcp, _) = listener.accept().await.unwrap();
                    let (seen, script, tls) = (Arc::clone(&seen), script.clone(), tls.clone());
                    tokio::spawn(async move {
                        let line: Box<dyn Line> = match tls {
                            None => Box::new(tcp),
                            Some(tls) => match TlsAcceptor::from(tls).accept(tcp).await {
                                Ok(tls) => Box::new(tls),
                                Err(_) => return,
                            },
                        };
                        let mut path = String::new();
                        #[expect(clippy::result_large_err, reason = "the library's own shape")]
                        let opened = accept_hdr_async(line, |request: &Request, response: Response| {
                            path = request.uri().path().to_owned();
                            seen.lock().unwrap().push((path.clone(), request.headers().clone()));
                            answer(&path, request, response)
                        });
                        if let Ok(talk) = opened.await {
                            script(path, Talk(talk)).await;
                        }
                    });
                }
            });
        });
        server
    }

    /// Path and headers of every handshake so far.
    pub fn seen(&self) -> Vec<(String, HeaderMap)> {
        self.seen.lock().unwrap().clone()
    }
}

#[expect(clippy::result_large_err, reason = "the library's own shape")]
fn answer(path: &str, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let refused = |status: u16| {
        let mut refused = ErrorResponse::new(Some("not here".to_owned()));
        *refused.status_mut() = http::StatusCode::from_u16(status).unwrap();
        refused
    };
    if path.ends_with("refused") {
        return Err(refused(403));
    }
    if path.ends_with("busy") {
        return Err(refused(503));
    }
    if let Some(protocol) = request.headers().get("sec-websocket-protocol") {
        response.headers_mut().insert("sec-websocket-protocol", protocol.clone());
    }
    response.headers_mut().insert("set-cookie", "a=b".parse().unwrap());
    Ok(response)
}

/// Opens one, with these fields in its handshake.
///
/// # Errors
/// What was answered instead.
pub async fn open(
    address: SocketAddr,
    path: &str,
    fields: &[(&'static str, &str)],
) -> Result<(Talk, HeaderMap), http::Response<Option<Vec<u8>>>> {
    let tcp = TcpStream::connect(address).await.unwrap();
    open_over(Box::new(tcp), &address.to_string(), path, fields).await
}

/// The same over a line that somebody has opened.
///
/// # Errors
/// What was answered instead.
pub async fn open_over(
    line: Box<dyn Line>,
    host: &str,
    path: &str,
    fields: &[(&'static str, &str)],
) -> Result<(Talk, HeaderMap), http::Response<Option<Vec<u8>>>> {
    let mut request = http::Request::get(format!("ws://{host}{path}"))
        .header("host", host)
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let opened = timeout(PATIENCE, client_async(request.body(()).unwrap(), line)).await.unwrap();
    match opened {
        Ok((talk, response)) => Ok((Talk(talk), response.headers().clone())),
        Err(Error::Http(response)) => Err(*response),
        Err(error) => panic!("{error}"),
    }
}
