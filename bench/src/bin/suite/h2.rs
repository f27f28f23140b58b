//! The closed loop over HTTP/2: several requests at once on one connection.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::load::{Lane, Target};
use crate::serve::LocalExecutor;
use crate::tls;

type Sender = SendRequest<Full<Bytes>>;

/// Sends on all lanes until the deadline, over one connection; nanoseconds that each answer took.
pub(crate) async fn drive(
    target: Target,
    lanes: Vec<Lane>,
    expected: u16,
    deadline: Instant,
) -> Result<Vec<u64>, String> {
    let sender = connect(&target).await?;
    let scheme = if target.tls.is_some() { "https" } else { "http" };
    let mut tasks = JoinSet::new();
    for lane in lanes {
        let mut sender = sender.clone();
        tasks.spawn_local(async move {
            let mut nanos = Vec::new();
            while Instant::now() < deadline {
                let Some(request) = lane.next() else { break };
                let request = read(&request, scheme)?;
                let start = Instant::now();
                let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
                let status = answer.status().as_u16();
                answer.into_body().collect().await.map_err(|error| error.to_string())?;
                nanos.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
                if status != expected {
                    return Err(format!("status {status} instead of {expected}"));
                }
            }
            Ok::<_, String>(nanos)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done.map_err(|error| error.to_string())??);
    }
    Ok(all)
}

async fn connect(target: &Target) -> Result<Sender, String> {
    let stream = target.connect().await?;
    let told = |error: hyper::Error| format!("{}: {error}", target.address);
    if let Some(config) = &target.tls {
        let stream = TlsConnector::from(Arc::clone(config)).connect(tls::name()?, stream).await;
        let stream = stream.map_err(|error| format!("{}: {error}", target.address))?;
        let (sender, connection) =
            http2::handshake(LocalExecutor, TokioIo::new(stream)).await.map_err(told)?;
        tokio::task::spawn_local(connection);
        return Ok(sender);
    }
    let (sender, connection) = http2::handshake(LocalExecutor, TokioIo::new(stream)).await.map_err(told)?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

/// A request of HTTP/1.1, as the lanes hold it, for HTTP/2.
fn read(request: &Bytes, scheme: &str) -> Result<Request<Full<Bytes>>, String> {
    let end = memchr::memmem::find(request, b"\r\n\r\n").ok_or("a request without an end of its head")?;
    let head =
        std::str::from_utf8(request.get(..end).unwrap_or_default()).map_err(|error| error.to_string())?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut builder = Request::builder().method(method);
    let mut host = "";
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name {
            "host" => host = value,
            "content-length" => {}
            _ => builder = builder.header(name, value),
        }
    }
    let built = builder.uri(format!("{scheme}://{host}{path}")).body(Full::new(request.slice(end + 4..)));
    built.map_err(|error| error.to_string())
}
