//! Small servers of ours that stand beside what is measured.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio::time::Interval;
use tokio_rustls::TlsAcceptor;

/// A body that is there, or comes event by event.
pub(crate) enum Answer {
    Whole(Option<Bytes>),
    Events { left: u32, pace: Interval, event: fn() -> Bytes, last: &'static str },
}

impl Answer {
    /// An answer that is there.
    pub(crate) fn whole(content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Self> {
        Self::of(content_type, Self::Whole(Some(bytes.into())))
    }

    /// An answer of this type.
    pub(crate) fn of(content_type: &'static str, answer: Self) -> Response<Self> {
        let mut response = Response::new(answer);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events { left: 0, .. } => Poll::Ready(None),
            Self::Events { left, pace, event, last } => {
                ready!(pace.poll_tick(context));
                *left -= 1;
                let bytes = if *left == 0 { Bytes::from_static(last.as_bytes()) } else { event() };
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None) | Self::Events { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(0))
            }
            Self::Events { .. } => SizeHint::default(),
        }
    }
}

/// What a server speaks.
#[derive(Clone, Default)]
pub(crate) struct Speaks {
    /// HTTP/2 alone, as an upstream without TLS that is known to.
    pub(crate) http2: bool,
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// Serves on the thread that calls until the process ends.
pub(crate) fn serve<F, Fut>(address: SocketAddr, speaks: Speaks, answer: F)
where
    F: Fn(Request<Incoming>) -> Fut + 'static,
    Fut: Future<Output = Response<Answer>> + 'static,
{
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return eprintln!("no runtime for {address}: {error}"),
    };
    let answer = Rc::new(answer);
    let accept = async move {
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) => return eprintln!("cannot listen on {address}: {error}"),
        };
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, speaks) = (Rc::clone(&answer), speaks.clone());
            tokio::task::spawn_local(async move {
                // Without it an answer waits for the peer's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                match speaks.tls {
                    None => connection(stream, speaks.http2, answer).await,
                    Some(tls) => {
                        if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                            connection(stream, speaks.http2, answer).await;
                        }
                    }
                }
            });
        }
    };
    LocalSet::new().block_on(&runtime, accept);
}

/// A client that hangs up is none of our business.
async fn connection<S, F, Fut>(stream: S, http2: bool, answer: Rc<F>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Fn(Request<Incoming>) -> Fut + 'static,
    Fut: Future<Output = Response<Answer>> + 'static,
{
    let service = service_fn(move |request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    if http2 {
        let _ = http2::Builder::new(LocalExecutor).serve_connection(TokioIo::new(stream), service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
}

/// Tasks of a connection stay on its thread.
#[derive(Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

/// The whole body of a request.
pub(crate) async fn read(request: Request<Incoming>) -> Bytes {
    request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default()
}
