//! HTTP/1.1 to upstreams: one call at a time on a connection.
//!
//! Whoever waits for an answer reads it himself, into a buffer that all connections of a thread share. So a call needs no second
//! task with queues between the two, and a stream that waits for its next event holds no memory for it. What is read here comes
//! from hosts of the configuration only; whatever clients send is read by hyper.

mod framing;
mod head;

use std::cell::RefCell;
use std::io::{self, Cursor, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use http::{Method, Response, StatusCode};
use rails::dial::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::framing::{Framing, Unframed};
use self::head::{Head, HeadError, TargetError};
use super::{Outgoing, RequestBody};

/// The most that is read at once.
const ROOM_BYTES: usize = 32 * 1024;
/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Why an answer did not come, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The connection was gone before anything of the request was on it.
    #[error("the connection was closed already")]
    Unsent(#[source] io::Error),
    /// The connection failed.
    #[error("the connection failed")]
    Failed(#[source] io::Error),
    /// It ended in the middle of an answer, or before.
    #[error("the connection ended before the answer did")]
    Ended,
    /// The head of the answer is too large.
    #[error("the head of the answer has more than {HEAD_BYTES_MAX} bytes")]
    HeadTooLarge,
    /// The head of the answer is none.
    #[error("the head of the answer is none: {0}")]
    Head(#[from] HeadError),
    /// The end of the answer cannot be found.
    #[error("the answer is framed wrongly: {0}")]
    Framing(#[from] Unframed),
}

/// Where the connections of a thread read into, one after the other: what was read is taken out before the next one reads.
#[derive(Clone)]
pub(super) struct Room(Rc<RefCell<Box<[u8]>>>);

impl Default for Room {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(vec![0; ROOM_BYTES].into_boxed_slice())))
    }
}

/// What is to be sent: a head, and the body behind it.
type Unsent = Chain<Cursor<Vec<u8>>, Bytes>;

/// A request as it goes on a connection. It has the upstream's key: no `Debug`.
pub(crate) struct Written {
    bytes: Unsent,
    method: Method,
}

/// Why a request cannot go on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unwritable {
    /// What it asks for.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// It is not all here.
    #[error("a request that is a stream needs HTTP/2")]
    Stream,
}

impl Written {
    /// A request and its whole body.
    pub(super) fn new(request: Outgoing<'_>) -> Result<Self, Unwritable> {
        let RequestBody::Whole(body) = request.body() else { return Err(Unwritable::Stream) };
        let body = body.clone().unwrap_or_default();
        let head = Cursor::new(head::write(&request, body.len())?);
        Ok(Self { bytes: head.chain(body), method: request.method().clone() })
    }
}

fn nothing() -> Unsent {
    Cursor::default().chain(Bytes::new())
}

/// A connection.
pub(super) struct Line {
    stream: Stream,
    room: Room,
    /// What of the request is still to be sent: an answer may come before that.
    unsent: Unsent,
    /// Whether all of the request is on its way, or cannot be.
    is_sent: bool,
    /// Whether it may bring another answer.
    keeps: bool,
}

impl Line {
    pub(super) fn new(stream: Stream, room: &Room) -> Self {
        Self { stream, room: room.clone(), unsent: nothing(), is_sent: true, keeps: true }
    }

    /// Whether it still stands, and nothing has come that nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.poll_read(&mut Context::from_waker(Waker::noop()), |_| ()).is_pending()
    }

    /// Sends a request. The answer's body has the connection, until that is over.
    ///
    /// # Errors
    /// [`Broken::Unsent`]: another connection may be tried, with the same request. Else nobody knows what the upstream has got.
    pub(super) async fn ask(mut self, request: &mut Written) -> Result<Response<Answer>, Broken> {
        let Written { bytes, method } = request;
        (self.unsent, self.is_sent) = (std::mem::replace(bytes, nothing()), false);
        let whole = self.unsent.remaining();
        let mut come = Vec::new();
        let (head, first) = std::future::poll_fn(|cx| {
            if let Err(error) = self.push(cx)
                && self.unsent.remaining() == whole
            {
                *bytes = std::mem::replace(&mut self.unsent, nothing());
                return Poll::Ready(Err(Broken::Unsent(error)));
            }
            self.poll_head(cx, &mut come, method)
        })
        .await?;
        let Head { status, headers, framing, keeps } = head;
        self.keeps &= keeps;
        let ready = Bytes::new();
        let mut coming = Coming { framing, ready, broken: None, had_turn: false, is_followed: false };
        coming.begin(first);
        let mut response = Response::new(Answer { line: Some(self), coming });
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }

    /// Sends what of the request goes now. An upstream that takes no more of it may still answer, so an error ends nothing
    /// but the sending.
    fn push(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.is_sent {
            return Ok(());
        }
        match self.poll_push(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(pushed) => {
                self.is_sent = true;
                self.keeps &= pushed.is_ok();
                pushed
            }
        }
    }

    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 2];
            let count = self.unsent.chunks_vectored(&mut slices);
            let slices = slices.get(..count).unwrap_or_default();
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        // What has been sent is kept by its last byte, for as long as the answer lasts.
        self.unsent = nothing();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Reads once; `take` gets what has come, nothing at the connection's end.
    fn poll_read<T>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<Result<T, Broken>> {
        let mut room = self.room.0.borrow_mut();
        let mut room = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room)).map_err(Broken::Failed)?;
        Poll::Ready(Ok(take(room.filled())))
    }

    /// The head of the answer, and what has come behind it. `come` is what has come so far.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        come: &mut Vec<u8>,
        method: &Method,
    ) -> Poll<Result<(Head, Bytes), Broken>> {
        let mut looked_at = come.len();
        loop {
            while let Some(end) = head::end(come, looked_at) {
                let mut rest = Bytes::from(std::mem::take(come));
                let head = head::read(&rest.split_to(end), method)?;
                // What is said before the answer is for nobody here; a protocol that nobody asked for is an answer.
                if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Ok((head, rest)));
                }
                (*come, looked_at) = (rest.into(), 0);
            }
            if come.len() > HEAD_BYTES_MAX {
                return Poll::Ready(Err(Broken::HeadTooLarge));
            }
            looked_at = come.len();
            ready!(self.poll_read(cx, |bytes| come.extend_from_slice(bytes)))?;
            if come.len() == looked_at {
                return Poll::Ready(Err(Broken::Ended));
            }
        }
    }
}

/// The body of an answer.
pub(super) struct Answer {
    /// Until it has broken, or brought all and was taken out.
    line: Option<Line>,
    coming: Coming,
}

/// What of a body has come.
struct Coming {
    framing: Framing,
    /// Not asked for yet ...
    ready: Bytes,
    /// ... and why nothing comes behind it.
    broken: Option<Broken>,
    /// Whether what came before that could be written.
    had_turn: bool,
    /// Whether something stands behind the answer.
    is_followed: bool,
}

impl Answer {
    /// The next piece: what one read has brought.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let Self { line, coming } = self;
        while coming.ready.is_empty() {
            if coming.broken.is_some() {
                // Whoever passes the answer on writes what he has before an error takes his connection.
                if !std::mem::replace(&mut coming.had_turn, true) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                *line = None;
                return Poll::Ready(coming.broken.take().map(Err));
            }
            let Some(line) = line.as_mut().filter(|_| !coming.framing.is_over()) else {
                return Poll::Ready(None);
            };
            // How the sending ends makes no difference to what comes.
            let _ = line.push(cx);
            if let Err(error) = ready!(line.poll_read(cx, |come| coming.take(come))) {
                coming.broken = Some(error);
            }
        }
        Poll::Ready(Some(Ok(std::mem::take(&mut coming.ready))))
    }

    /// Whether all of it has been asked for.
    pub(super) fn is_over(&self) -> bool {
        let is_broken = self.coming.broken.is_some();
        self.coming.ready.is_empty() && !is_broken && (self.line.is_none() || self.coming.framing.is_over())
    }

    /// Bytes that are left, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        self.coming.framing.left().map(|left| left + self.coming.ready.len() as u64)
    }

    /// The connection, where all of the answer has come and another call may have it.
    pub(super) fn free(&mut self) -> Option<Line> {
        let line = self.line.take_if(|_| self.coming.framing.is_over())?;
        (line.keeps && line.is_sent && !self.coming.is_followed).then_some(line)
    }
}

impl Coming {
    /// Takes in what has come with the head: as it is, where all of it is body.
    fn begin(&mut self, first: Bytes) {
        match &mut self.framing {
            Framing::Length(left) if first.len() as u64 <= *left => {
                *left -= first.len() as u64;
                self.ready = first;
            }
            Framing::Length(_) | Framing::Chunked(_) | Framing::Close if first.is_empty() => {}
            Framing::Length(_) | Framing::Chunked(_) | Framing::Close => self.take(&first),
        }
    }

    /// Takes in what has come; nothing at the connection's end.
    fn take(&mut self, mut come: &[u8]) {
        if come.is_empty() {
            match self.framing {
                Framing::Close => self.framing = Framing::Length(0),
                Framing::Length(_) | Framing::Chunked(_) => self.broken = Some(Broken::Ended),
            }
            return;
        }
        let mut body = Vec::with_capacity(come.len());
        // What stands before a fault counts (MTR-3).
        self.broken = self.framing.take(&mut come, &mut body).err().map(Broken::Framing);
        self.ready = body.into();
        self.is_followed = !come.is_empty();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method, Response};
    use rails::dial::Stream;

    use super::super::{Outgoing, RequestBody};
    use super::{Answer, Broken, Line, Room, Written};

    /// A connection to whom `upstream` plays.
    async fn line(upstream: impl FnOnce(TcpStream) + Send + 'static) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || upstream(listener.accept().unwrap().0));
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        Line::new(Stream::Plain(stream), &Room::default())
    }

    fn request(body: Bytes) -> Written {
        let (host, client) = (HeaderValue::from_static("up"), HeaderMap::new());
        let body = RequestBody::whole(body);
        let request = Outgoing::new(&Method::POST, "/".to_owned(), &host, &client, None, body);
        Written::new(request).unwrap()
    }

    /// Takes a request without a body.
    fn take(stream: &mut TcpStream) {
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            got.extend(byte);
        }
    }

    async fn read(response: Response<Answer>) -> (String, Option<Broken>, Option<Line>) {
        let (mut answer, mut body) = (response.into_body(), Vec::new());
        let broken = loop {
            match poll_fn(|cx| answer.poll_piece(cx)).await {
                Some(Ok(piece)) => body.extend(piece),
                Some(Err(broken)) => break Some(broken),
                None => break None,
            }
        };
        assert!(answer.is_over());
        (String::from_utf8(body).unwrap(), broken, answer.free())
    }

    const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

    #[tokio::test]
    async fn a_connection_is_used_again_until_the_upstream_ends_it() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut line = line(move |mut stream| {
            for _ in 0..2 {
                take(&mut stream);
                stream.write_all(HELLO).unwrap();
            }
            drop(stream);
            tell.send(()).unwrap();
        })
        .await;
        for _ in 0..2 {
            let (body, broken, free) = read(line.ask(&mut request(Bytes::new())).await.unwrap()).await;
            assert_eq!((&*body, broken.is_none()), ("hello", true));
            line = free.unwrap();
        }
        told.await.unwrap();
        while line.is_quiet() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_answer_may_come_before_the_request_is_whole() {
        let line = line(|mut stream| {
            stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").unwrap();
            // It takes nothing of what is sent to it.
            std::thread::park();
        })
        .await;
        let answer = line.ask(&mut request(vec![b'x'; 64 << 20].into())).await.unwrap();
        assert_eq!(answer.status(), 413);
        let (body, broken, free) = read(answer).await;
        assert_eq!((&*body, broken.is_none()), ("no", true));
        assert!(free.is_none(), "half a request is on it");
    }

    #[tokio::test]
    async fn what_came_before_a_fault_is_passed_on() {
        const CHUNKS: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
        for (behind, is_whole, is_free) in [
            ("0\r\n\r\n", true, true),
            ("0\r\n\r\nHTTP/1.1 200 OK\r\n", true, false),
            ("zz\r\n", false, false),
            ("", false, false),
        ] {
            let line = line(move |mut stream| {
                take(&mut stream);
                stream.write_all(format!("{CHUNKS}{behind}").as_bytes()).unwrap();
            })
            .await;
            let (body, broken, free) = read(line.ask(&mut request(Bytes::new())).await.unwrap()).await;
            let found = (&*body, broken.is_none(), free.is_some());
            assert_eq!(found, ("hello", is_whole, is_free), "{behind:?}");
        }
    }
}
