use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ::http::Method;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::kept::WAIT_MAX;
use super::{Answer, Exchange, ExchangeError};
use crate::dial::{Dialer, Origin};

const PATIENCE: Duration = Duration::from_secs(20);

/// What a service does about a question.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Answers,
    SaysThatItCloses,
    ClosesInstead,
}

/// A service that takes as many connections as there are lists, one after the other, and as many questions over each as its list is
/// long.
struct Service {
    origin: Origin,
    /// A message for each connection that it has closed.
    closed: mpsc::UnboundedReceiver<()>,
    /// The questions it was asked, as they ended: connection and body.
    asked: JoinHandle<Vec<(usize, String)>>,
}

fn service(connections: Vec<Vec<Does>>) -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = Origin { tls: false, host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    let (closes, closed) = mpsc::unbounded_channel();
    let asked = thread::spawn(move || {
        let mut asked = Vec::new();
        for (number, does) in connections.iter().enumerate() {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            for does in does {
                asked.push((number, question(&mut reader)));
                answer(&stream, *does);
            }
            drop((reader, stream));
            closes.send(()).unwrap();
        }
        asked
    });
    Service { origin, closed, asked }
}

fn question(reader: &mut BufReader<TcpStream>) -> String {
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

fn answer(mut stream: &TcpStream, does: Does) {
    let head = match does {
        Does::Answers => "content-length: 2\r\n\r\n{}",
        Does::SaysThatItCloses => "content-length: 2\r\nconnection: close\r\n\r\n{}",
        Does::ClosesInstead => return,
    };
    write!(stream, "HTTP/1.1 200 OK\r\n{head}").unwrap();
}

async fn ask(origin: &Origin, dialer: &Dialer, body: &'static str) -> Result<Answer, ExchangeError> {
    let (method, body) = (Method::POST, Bytes::from_static(body.as_bytes()));
    let exchange =
        Exchange { origin, method, path: "/settle", body, time_max: PATIENCE, answer_bytes_max: 64 };
    exchange.run_kept(dialer).await
}

/// Asks twice. What came of the second question, and which connections the questions came over.
async fn twice(connections: Vec<Vec<Does>>) -> (Option<ExchangeError>, Vec<(usize, String)>) {
    let closes_first = connections[0].len() == 1;
    let Service { origin, mut closed, asked } = service(connections);
    let dialer = Dialer::new(&[], PATIENCE).unwrap();
    assert_eq!(ask(&origin, &dialer, "1").await.unwrap().body, "{}");
    if closes_first {
        // Whoever is told this was told of the end of the connection before.
        closed.recv().await.unwrap();
        // What the system knows of it is seen when the runtime has looked.
        tokio::task::yield_now().await;
    }
    let second = ask(&origin, &dialer, "2").await;
    drop(dialer);
    let asked = tokio::task::spawn_blocking(move || asked.join().unwrap()).await.unwrap();
    (second.err(), asked)
}

/// X402-40, X402-43: a connection is asked over again while it stands, and no question is ever sent twice.
#[tokio::test]
async fn a_question_goes_over_a_kept_connection_once() {
    use Does::{Answers, ClosesInstead, SaysThatItCloses};
    let over = |connections: [usize; 2]| vec![(connections[0], "1".into()), (connections[1], "2".into())];
    for (what, connections, error, asked) in [
        ("kept", vec![vec![Answers, Answers]], None, over([0, 0])),
        ("closed without a word", vec![vec![Answers], vec![Answers]], None, over([0, 1])),
        ("closed as it has said", vec![vec![SaysThatItCloses], vec![Answers]], None, over([0, 1])),
        // It may have acted: whoever asks has to find out, and nobody is asked anew here.
        (
            "closed under the question",
            vec![vec![Answers, ClosesInstead]],
            Some(ExchangeError::Lost),
            over([0, 0]),
        ),
    ] {
        assert_eq!(twice(connections).await, (error, asked), "{what}");
    }
}

/// The first to be asked on may close: no connection is kept for longer than usual servers keep theirs, nor moved by a
/// runtime that it was not made in, nor given to whoever trusts other roots.
#[tokio::test]
async fn a_kept_connection_is_for_a_short_time_and_for_one_thread() {
    let Service { origin, asked, closed: _told } = service(vec![vec![Does::Answers, Does::Answers]]);
    let dialer = Dialer::new(&[], PATIENCE).unwrap();
    ask(&origin, &dialer, "1").await.unwrap();
    let (kept, now) = (&dialer.kept, Instant::now());
    assert!(dialer.speaking(b"h2").kept.pop(&origin, now).is_none());
    let other = Origin { port: 1, ..origin.clone() };
    assert!(kept.pop(&other, now).is_none());
    thread::scope(|scope| scope.spawn(|| assert!(kept.pop(&origin, now).is_none())).join().unwrap());
    // Still there: all the others have left it.
    ask(&origin, &dialer.within(PATIENCE), "2").await.unwrap();
    assert!(kept.pop(&origin, Instant::now() + WAIT_MAX).is_none());
    assert!(kept.pop(&origin, Instant::now()).is_none(), "it was closed when its time was over");
    tokio::task::spawn_blocking(move || asked.join().unwrap()).await.unwrap();
}
