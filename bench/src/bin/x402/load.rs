//! A closed-loop client: each connection sends its next request when the answer to the last one has come.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Longest that one answer is waited for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// What one connection sends.
#[derive(Clone)]
pub(crate) enum Lane {
    /// The same again and again, until the time is over.
    Repeat(Bytes),
    /// Each once, until the time is over or nothing is left. Connections may share a queue.
    Once(Rc<RefCell<VecDeque<Bytes>>>),
}

impl Lane {
    /// A queue for one connection alone: in its order.
    pub(crate) fn in_order(requests: impl IntoIterator<Item = Bytes>) -> Self {
        Self::Once(Rc::new(RefCell::new(requests.into_iter().collect())))
    }

    fn next(&self) -> Option<Bytes> {
        match self {
            Self::Repeat(request) => Some(request.clone()),
            Self::Once(queue) => queue.borrow_mut().pop_front(),
        }
    }
}

/// What a load brought.
#[derive(Default)]
pub(crate) struct Brought {
    /// Microseconds that each answer took.
    pub(crate) micros: Vec<u64>,
    /// From the first request to the last answer.
    pub(crate) took: Duration,
}

/// Sends on all lanes for so long. Any other status than `expected` makes it void (PERF-42).
pub(crate) async fn run(
    address: SocketAddr,
    lanes: Vec<Lane>,
    expected: u16,
    time: Duration,
) -> Result<Brought, String> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for lane in lanes {
        tasks.spawn_local(drive(address, lane, expected, start + time));
    }
    let mut brought = Brought::default();
    while let Some(done) = tasks.join_next().await {
        let micros = done.map_err(|error| error.to_string())??;
        brought.micros.extend(micros);
    }
    brought.took = start.elapsed();
    brought.micros.sort_unstable();
    Ok(brought)
}

async fn drive(
    address: SocketAddr,
    lane: Lane,
    expected: u16,
    deadline: Instant,
) -> Result<Vec<u64>, String> {
    let mut micros = Vec::new();
    let mut connection = Connection::open(address).await?;
    while Instant::now() < deadline {
        let Some(request) = lane.next() else { break };
        let start = Instant::now();
        let answer = connection.ask(&request).await?;
        micros.push(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
        if answer.status != expected {
            return Err(format!("status {} instead of {expected}: {}", answer.status, connection.said()));
        }
        if answer.closes {
            connection = Connection::open(address).await?;
        }
    }
    Ok(micros)
}

/// Sends one request on a connection of its own: status and head of the answer.
pub(crate) async fn ask_once(address: SocketAddr, request: &[u8]) -> Result<(u16, String), String> {
    let mut connection = Connection::open(address).await?;
    let answer = connection.ask(request).await?;
    let text = String::from_utf8_lossy(&connection.buffer).into_owned();
    let head = text.split("\r\n\r\n").next().unwrap_or_default().to_owned();
    Ok((answer.status, head))
}

/// When the parts of one answer came, counted from the request.
pub(crate) struct Timed {
    pub(crate) first_body_byte: Duration,
    pub(crate) last_byte: Duration,
    /// How many reads brought something of the body: 1 for an answer that was gathered first.
    pub(crate) reads: u32,
}

/// Sends one request on a connection of its own and looks at the clock while the answer comes.
pub(crate) async fn time_one(address: SocketAddr, request: &[u8], expected: u16) -> Result<Timed, String> {
    let mut connection = Connection::open(address).await?;
    let answer = connection.ask(request).await?;
    if answer.status != expected {
        return Err(format!("status {} instead of {expected}: {}", answer.status, connection.said()));
    }
    let first_body_byte = answer.first_body_byte.ok_or("an answer without a body")?;
    Ok(Timed { first_body_byte, last_byte: answer.last_byte, reads: answer.body_reads })
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

struct Answer {
    status: u16,
    closes: bool,
    first_body_byte: Option<Duration>,
    last_byte: Duration,
    body_reads: u32,
}

/// How the end of a body is known.
enum Framing {
    Length(usize),
    Chunked,
    UntilClosed,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 << 10) })
    }

    async fn ask(&mut self, request: &[u8]) -> Result<Answer, String> {
        match tokio::time::timeout(ANSWER_TIME_MAX, self.ask_now(request)).await {
            Ok(answer) => answer.map_err(|error| format!("{error} after {:?}", self.said())),
            Err(_) => Err(format!("no whole answer in {ANSWER_TIME_MAX:?}: {:?}", self.said())),
        }
    }

    async fn ask_now(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        let start = Instant::now();
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let body = loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        };
        let (status, framing, closes) = read_head(self.buffer.get(..body).unwrap_or_default());
        let mut answer =
            Answer { status, closes, first_body_byte: None, last_byte: Duration::ZERO, body_reads: 0 };
        let (mut seen, mut chunk_at) = (body, body);
        loop {
            if self.buffer.len() > seen {
                seen = self.buffer.len();
                answer.body_reads += 1;
                answer.first_body_byte.get_or_insert_with(|| start.elapsed());
            }
            let whole = match framing {
                Framing::Length(length) => seen - body >= length,
                Framing::Chunked => skip_chunks(&self.buffer, &mut chunk_at),
                Framing::UntilClosed => false,
            };
            if whole {
                break;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                if matches!(framing, Framing::UntilClosed) {
                    break;
                }
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        answer.last_byte = start.elapsed();
        Ok(answer)
    }

    /// The answer as far as it came, for a complaint.
    fn said(&self) -> String {
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
fn skip_chunks(buffer: &[u8], at: &mut usize) -> bool {
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
