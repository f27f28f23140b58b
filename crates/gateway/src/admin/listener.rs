//! Probes and metrics, for the operator's network only.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use super::office::SharedGate;

/// Serves `/healthz`, `/readyz` and `/metrics` until the process ends.
pub(crate) async fn serve_probes(listener: TcpListener, gate: SharedGate) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let gate = Arc::clone(&gate);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&request, &gate);
                async move { Ok::<_, Infallible>(answer) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(std::time::Duration::from_secs(10))
                .serve_connection(TokioIo::new(tcp), service);
            if let Err(error) = served.await {
                tracing::debug!(%error, "probe connection ended");
            }
        });
    }
}

fn answer(request: &Request<Incoming>, gate: &SharedGate) -> Response<Full<Bytes>> {
    // A page in a browser that was tricked into our address names another host (SEC-60).
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let local = name == "localhost" || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let (status, body) = match (local, request.method(), request.uri().path()) {
        (false, _, _) => (StatusCode::MISDIRECTED_REQUEST, "unknown host\n".to_owned()),
        (true, &Method::GET, "/healthz") => (StatusCode::OK, "ok\n".to_owned()),
        (true, &Method::GET, "/readyz") if gate.is_ready() => (StatusCode::OK, "ready\n".to_owned()),
        (true, &Method::GET, "/readyz") => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
        (true, &Method::GET, "/metrics") => (StatusCode::OK, gate.metrics.render()),
        (true, _, _) => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
