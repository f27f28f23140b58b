//! Clients. A closed loop sends its next request when the answer to the last one has come; an open one when its time has come,
//! and counts from then on, however late it gets to it: what waits for a slow answer is part of what that costs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use memchr::memmem;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::ticks::Ticks;
use crate::{h2, tls};

/// Longest that one answer is waited for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest that an open loop may be behind when its time is over: then it measures nothing but its own queue.
const BEHIND_MAX: Duration = Duration::from_secs(2);

/// Who is asked, and how.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// HTTP/2, with so many requests at once on a connection.
    pub(crate) http2: Option<usize>,
    /// From which loopback address.
    pub(crate) from: Ipv4Addr,
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { address, tls: None, http2: None, from: Ipv4Addr::LOCALHOST }
    }
}

impl Target {
    /// A connection to it, before any TLS.
    pub(crate) async fn connect(&self) -> Result<TcpStream, String> {
        let told = |error: std::io::Error| format!("{}: {error}", self.address);
        let socket = TcpSocket::new_v4().map_err(told)?;
        if self.from != Ipv4Addr::LOCALHOST {
            socket.bind(SocketAddr::new(IpAddr::V4(self.from), 0)).map_err(told)?;
        }
        let stream = socket.connect(self.address).await.map_err(told)?;
        stream.set_nodelay(true).map_err(told)?;
        Ok(stream)
    }
}

/// What one connection sends.
#[derive(Clone)]
pub(crate) enum Lane {
    /// The same again and again, until the time is over.
    Repeat(Bytes),
    /// Each once, until the time is over or nothing is left. Connections may share a queue.
    Once(Rc<RefCell<VecDeque<Bytes>>>),
}

impl Lane {
    /// A queue of requests.
    pub(crate) fn once(requests: impl IntoIterator<Item = Bytes>) -> Self {
        Self::Once(Rc::new(RefCell::new(requests.into_iter().collect())))
    }

    pub(crate) fn next(&self) -> Option<Bytes> {
        match self {
            Self::Repeat(request) => Some(request.clone()),
            Self::Once(queue) => queue.borrow_mut().pop_front(),
        }
    }
}

/// What a load brought.
#[derive(Default)]
pub(crate) struct Brought {
    /// Nanoseconds that each answer took, sorted.
    pub(crate) nanos: Vec<u64>,
    /// From the first request to the last answer.
    pub(crate) took: Duration,
}

/// A client at work on one connection.
type Working = JoinSet<Result<Vec<u64>, String>>;

/// Waits for all connections. What one of them complains of makes all of it void (PERF-42).
async fn gathered(mut tasks: Working, start: Instant) -> Result<Brought, String> {
    let mut brought = Brought::default();
    while let Some(done) = tasks.join_next().await {
        brought.nanos.extend(done.map_err(|error| error.to_string())??);
    }
    brought.took = start.elapsed();
    brought.nanos.sort_unstable();
    Ok(brought)
}

/// Sends on all lanes for so long, each request behind the answer to the one before.
pub(crate) async fn closed(
    target: &Target,
    lanes: Vec<Lane>,
    expected: u16,
    time: Duration,
) -> Result<Brought, String> {
    let start = Instant::now();
    let mut tasks = Working::new();
    if let Some(at_once) = target.http2 {
        let mut lanes = lanes.into_iter();
        loop {
            let on_one: Vec<Lane> = lanes.by_ref().take(at_once).collect();
            if on_one.is_empty() {
                break;
            }
            tasks.spawn_local(h2::drive(target.clone(), on_one, expected, start + time));
        }
    } else {
        for lane in lanes {
            tasks.spawn_local(drive(target.clone(), lane, expected, start + time));
        }
    }
    gathered(tasks, start).await
}

async fn drive(target: Target, lane: Lane, expected: u16, deadline: Instant) -> Result<Vec<u64>, String> {
    let mut nanos = Vec::new();
    let mut connection = Connection::open(&target).await?;
    while Instant::now() < deadline {
        let Some(request) = lane.next() else { break };
        let start = Instant::now();
        let answer = connection.ask(&request).await?;
        nanos.push(since(start));
        check(&answer, Some(expected), &connection)?;
        if answer.closes {
            connection = Connection::open(&target).await?;
        }
    }
    Ok(nanos)
}

/// Sends so many requests a second, whatever the answers do, on as many connections as there are lanes. With
/// `expected: None` any status will do.
pub(crate) async fn paced(
    target: &Target,
    lanes: Vec<Lane>,
    expected: Option<u16>,
    time: Duration,
    per_second: u32,
) -> Result<Brought, String> {
    let queue = Rc::new(Queue { due: RefCell::default(), waits: Semaphore::new(0) });
    let mut tasks = Working::new();
    for lane in lanes {
        let (target, queue) = (target.clone(), Rc::clone(&queue));
        tasks.spawn_local(async move {
            let mut nanos = Vec::new();
            let mut connection = Connection::open(&target).await?;
            while let Some(due) = queue.next().await {
                let Some(request) = lane.next() else { break };
                let answer = connection.ask(&request).await?;
                nanos.push(since(due));
                check(&answer, expected, &connection)?;
                if answer.closes {
                    connection = Connection::open(&target).await?;
                }
            }
            Ok(nanos)
        });
    }
    let start = Instant::now();
    let ticks = Ticks::every(Duration::from_secs(1) / per_second)?;
    let mut due = start;
    while due < start + time {
        for _ in 0..ticks.next().await? {
            due += Duration::from_secs(1) / per_second;
            queue.put(due);
        }
    }
    queue.waits.close();
    let brought = gathered(tasks, start).await?;
    match brought.took.checked_sub(time) {
        Some(behind) if behind > BEHIND_MAX => {
            Err(format!("cannot keep up with {per_second}/s: {behind:?} behind"))
        }
        Some(_) | None => Ok(brought),
    }
}

/// Requests whose time has come.
struct Queue {
    due: RefCell<VecDeque<Instant>>,
    waits: Semaphore,
}

impl Queue {
    fn put(&self, due: Instant) {
        self.due.borrow_mut().push_back(due);
        self.waits.add_permits(1);
    }

    /// When the next one was due; none when there are no more.
    async fn next(&self) -> Option<Instant> {
        // Closed: what is due already is still to be sent.
        if let Ok(permit) = self.waits.acquire().await {
            permit.forget();
        }
        self.due.borrow_mut().pop_front()
    }
}

fn since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn check(answer: &Answer, expected: Option<u16>, connection: &Connection) -> Result<(), String> {
    match expected {
        Some(expected) if expected != answer.status => {
            Err(format!("status {} instead of {expected}: {}", answer.status, connection.said()))
        }
        Some(_) | None => Ok(()),
    }
}

/// Sends one request on a connection of its own: status and head of the answer.
pub(crate) async fn ask_once(target: &Target, request: &[u8]) -> Result<(u16, String), String> {
    let mut connection = Connection::open(target).await?;
    let answer = connection.ask(request).await?;
    let text = String::from_utf8_lossy(&connection.buffer).into_owned();
    let head = text.split("\r\n\r\n").next().unwrap_or_default().to_owned();
    Ok((answer.status, head))
}

/// A connection that one request after the other is sent on.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    pub(crate) buffer: Vec<u8>,
}

/// What carries a connection.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// The answer to a request; its bytes are in the connection's buffer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) closes: bool,
}

/// How the end of a body is known.
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClosed,
}

impl Connection {
    pub(crate) async fn open(to: &Target) -> Result<Self, String> {
        let stream = to.connect().await?;
        let buffer = Vec::with_capacity(16 << 10);
        let Some(tls) = &to.tls else { return Ok(Self { stream: Box::new(stream), buffer }) };
        let connected = TlsConnector::from(Arc::clone(tls)).connect(tls::name()?, stream).await;
        let stream = connected.map_err(|error| format!("{}: {error}", to.address))?;
        Ok(Self { stream: Box::new(stream), buffer })
    }

    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Answer, String> {
        match tokio::time::timeout(ANSWER_TIME_MAX, self.ask_now(request)).await {
            Ok(answer) => answer.map_err(|error| format!("{error} after {:?}", self.said())),
            Err(_) => Err(format!("no whole answer in {ANSWER_TIME_MAX:?}: {:?}", self.said())),
        }
    }

    /// Sends a request and reads the head of its answer: its status, how its body ends, and where that begins.
    pub(crate) async fn begin(&mut self, request: &[u8]) -> std::io::Result<(Answer, Framing, usize)> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let body = loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let (status, framing, closes) = read_head(self.buffer.get(..body).unwrap_or_default());
        Ok((Answer { status, closes }, framing, body))
    }

    /// Reads what has come, as much at once as fits.
    ///
    /// # Errors
    /// The peer has closed.
    pub(crate) async fn more(&mut self) -> std::io::Result<()> {
        self.buffer.reserve(4 << 10);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn ask_now(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        let (answer, framing, body) = self.begin(request).await?;
        let mut chunk_at = body;
        loop {
            let whole = match framing {
                Framing::Length(length) => self.buffer.len() - body >= length,
                Framing::Chunked => skip_chunks(&self.buffer, &mut chunk_at),
                Framing::UntilClosed => false,
            };
            if whole {
                return Ok(answer);
            }
            match (self.more().await, &framing) {
                (Ok(()), _) => {}
                (Err(error), Framing::UntilClosed) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Ok(answer);
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// The answer as far as it came, for a complaint.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&self.buffer).chars().take(2000).collect()
    }
}

fn read_head(head: &[u8]) -> (u16, Framing, bool) {
    let head = std::str::from_utf8(head).unwrap_or_default();
    let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    let (mut framing, mut closes) = (Framing::UntilClosed, false);
    for line in head.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            framing = Framing::Length(value.parse().unwrap_or(0));
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            closes = value.eq_ignore_ascii_case("close");
        }
    }
    let closes = closes || matches!(framing, Framing::UntilClosed);
    (status, framing, closes)
}

/// Moves `at` behind the chunks that have come whole; true behind the last one and its trailers.
pub(crate) fn skip_chunks(buffer: &[u8], at: &mut usize) -> bool {
    while let Some(rest) = buffer.get(*at..) {
        let Some(line) = memmem::find(rest, b"\r\n") else { return false };
        let digits = rest.get(..line).and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
        let size =
            usize::from_str_radix(digits.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
        if size == 0 {
            // Trailers end with an empty line; without any it follows at once.
            return rest.get(line..).is_some_and(|tail| memmem::find(tail, b"\r\n\r\n").is_some());
        }
        let next = line + 2 + size + 2;
        if rest.len() < next {
            return false;
        }
        *at += next;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{Framing, read_head, skip_chunks};

    #[test]
    fn heads() {
        for (head, status, length, closes) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n", 200, Some(12), false),
            (
                "HTTP/1.1 402 Payment Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                402,
                Some(0),
                true,
            ),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", 200, None, false),
            // Only its end says where the body ends.
            ("HTTP/1.1 200 OK\r\n\r\n", 200, None, true),
        ] {
            let (read, framing, closed) = read_head(head.as_bytes());
            let read_length = if let Framing::Length(length) = framing { Some(length) } else { None };
            assert_eq!((read, read_length, closed), (status, length, closes), "{head}");
        }
    }

    #[test]
    fn chunks_in_pieces() {
        let body = b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n";
        for cut in 0..body.len() {
            let mut at = 0;
            assert!(!skip_chunks(&body[..cut], &mut at), "ended at {cut}");
            assert!(skip_chunks(body, &mut at), "cut at {cut}");
        }
    }
}
