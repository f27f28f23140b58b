//! The connection to the wallet's relays: one at a time, kept open by a task of its own, which ends with its [`Line`].

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use zeroize::Zeroizing;

use super::books::Books;
use super::connection::{Connection, Relay};
use super::message::Request;
use super::seal::Seal;
use super::session::{Ask, Offer, Session, Step, Turn, Unanswered};
use crate::dial::{Dialer, Stream};
use crate::random;

/// Questions that wait to be sent.
const ASKS_MAX: usize = 64;
/// Largest message of a relay: relays pass on 64 KiB and more of an event.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Longest WebSocket handshake, and longest that a message is written.
const STEP_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest that a relay takes to show the wallet's info event.
const OFFER_TIME_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether the connection lives.
const BEAT: Duration = Duration::from_secs(1);
/// A connection on which nothing came for so long is asked for a sign of life, and is dead after twice that.
const QUIET_MAX: Duration = Duration::from_secs(25);
/// Most messages from one beat to the next: looking at what a relay sends takes time from those who pay.
const MESSAGES_MAX: u32 = 5_000;
/// So many questions in a row without an answer: the wallet may listen elsewhere.
const UNANSWERED_MAX: usize = 2;
/// How long is waited after all relays failed: doubled each time, and at most.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);

/// What it takes to reach a wallet.
pub(super) struct Line {
    connection: Connection,
    dialer: Dialer,
    books: Arc<Books>,
    asks: Mutex<Option<mpsc::Sender<Ask>>>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Line").field(&self.connection).finish()
    }
}

impl Line {
    pub(super) fn new(connection: Connection, dialer: Dialer) -> Self {
        Self { connection, dialer, books: Arc::default(), asks: Mutex::default() }
    }

    /// Payments that the wallet has told of.
    pub(super) fn books(&self) -> &Books {
        &self.books
    }

    /// Sends a question and waits for its answer.
    ///
    /// # Cancel safety
    /// Dropped midway, the question may have been sent.
    pub(super) async fn ask(
        &self,
        request: &Request<'_>,
        time_max: Duration,
    ) -> Result<Zeroizing<String>, Unanswered> {
        let body = serde_json::to_string(request).map_err(|_| Unanswered::NotAsked)?;
        let (reply, answer) = oneshot::channel();
        let turn = Arc::new(Turn::default());
        let ask = Ask {
            method: request.method(),
            body: Zeroizing::new(body),
            time_max,
            turn: Arc::clone(&turn),
            reply,
        };
        self.open().try_send(ask).map_err(|_| Unanswered::NotAsked)?;
        match timeout(time_max, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(if turn.give_up() { Unanswered::NotAsked } else { Unanswered::Lost }),
        }
    }

    /// Where questions go. The first one opens the connection, on the runtime that it is asked on.
    pub(super) fn open(&self) -> mpsc::Sender<Ask> {
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asks) = asks.as_ref().filter(|asks| !asks.is_closed()) {
            return asks.clone();
        }
        let (sender, receiver) = mpsc::channel(ASKS_MAX);
        let link = Link {
            connection: self.connection.clone(),
            dialer: self.dialer.clone(),
            books: Arc::clone(&self.books),
            asks: receiver,
            offer: None,
        };
        tokio::spawn(link.run());
        *asks = Some(sender.clone());
        sender
    }
}

/// The task that holds the connection.
struct Link {
    connection: Connection,
    dialer: Dialer,
    books: Arc<Books>,
    asks: mpsc::Receiver<Ask>,
    offer: Option<Offer>,
}

/// How a connection ended.
enum End {
    /// Nobody will ask any more.
    Released,
    /// It has been of use: the same relay again.
    Broken,
    /// Nothing comes of this relay: the next one.
    Useless(&'static str),
}

impl Link {
    async fn run(mut self) {
        let Some(seal) = Seal::new(&self.connection.keys, self.connection.wallet) else { return };
        let relays = self.connection.relays.clone();
        let mut failures = 0;
        for relay in relays.iter().cycle() {
            // A relay that was of use is the first to be tried again.
            let reason = loop {
                match self.attend(relay, &seal).await {
                    End::Released => return,
                    End::Broken => failures = 0,
                    End::Useless(reason) => break reason,
                }
            };
            tracing::warn!(?relay, reason, "a wallet's relay is left");
            failures += 1;
            let rounds = failures / relays.len();
            if failures % relays.len() == 0 && !self.rest(rest(rounds)).await {
                return;
            }
        }
    }

    /// One connection, from its beginning to its end.
    async fn attend(&mut self, relay: &Relay, seal: &Seal) -> End {
        let Some(mut socket) = connect(&self.dialer, relay).await else {
            return End::Useless("it cannot be reached");
        };
        let connection = self.connection.clone();
        let mut session = Session::new(&connection, seal, relay.url(), self.offer.take());
        let end = self.converse(&mut socket, &mut session).await;
        let was_of_use = session.answers() > 0;
        self.offer = session.end();
        match end {
            End::Useless(_) if was_of_use => End::Broken,
            End::Released | End::Broken | End::Useless(_) => end,
        }
    }

    async fn converse(&mut self, socket: &mut Socket, session: &mut Session<'_>) -> End {
        let began_at = Instant::now();
        let mut line = Pulse { heard_at: began_at, messages: 0, unanswered: 0, answers: 0 };
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut say = session.opening(now_s());
        loop {
            for text in say.drain(..) {
                if !write(socket, Message::text(text)).await {
                    return End::Useless("it takes no message");
                }
            }
            tokio::select! {
                message = socket.next() => {
                    let Some(Ok(message)) = message else { return End::Useless("it hung up") };
                    line.heard_at = Instant::now();
                    line.messages += 1;
                    if line.messages > MESSAGES_MAX {
                        return End::Useless("it floods");
                    }
                    let Message::Text(text) = message else { continue };
                    match session.take(&text, now_s()) {
                        Step::Wait => {}
                        Step::Say(texts) => say = texts,
                        Step::Received { payment_hash, msat } => self.books.note(payment_hash, msat, now_us()),
                        Step::Leave(reason) => return End::Useless(reason),
                    }
                }
                ask = self.asks.recv(), if session.is_ready() => {
                    let Some(ask) = ask else { return End::Released };
                    say.extend(session.ask(ask, now_s(), Instant::now()));
                }
                _ = beats.tick() => {
                    if self.asks.is_closed() {
                        return End::Released;
                    }
                    if !session.knows_offer() && began_at.elapsed() > OFFER_TIME_MAX {
                        return End::Useless("it shows no info event of the wallet");
                    }
                    if let Some(reason) = line.beat(session) {
                        return End::Useless(reason);
                    }
                    if line.heard_at.elapsed() > QUIET_MAX
                        && !write(socket, Message::Ping(Vec::new().into())).await
                    {
                        return End::Useless("it takes no message");
                    }
                }
            }
        }
    }

    /// Waits, with nothing to send questions over: they are given back. False: nobody will ask any more.
    async fn rest(&mut self, time: Duration) -> bool {
        let over = tokio::time::sleep(time);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return true,
                ask = self.asks.recv() => if ask.is_none() { return false },
            }
        }
    }
}

type Socket = WebSocketStream<Stream>;

/// What tells whether a connection lives, and the wallet behind it.
struct Pulse {
    heard_at: Instant,
    messages: u32,
    unanswered: usize,
    answers: u64,
}

impl Pulse {
    /// Why the connection is to be left, if it is.
    fn beat(&mut self, session: &mut Session<'_>) -> Option<&'static str> {
        self.messages = 0;
        if self.heard_at.elapsed() > 2 * QUIET_MAX {
            return Some("it is silent");
        }
        let (given_up, oldest) = session.sweep();
        // Even a relay that passes nothing on says that it has the question.
        if oldest.is_some_and(|sent_at| sent_at > self.heard_at) {
            return Some("it is silent");
        }
        if session.answers() != self.answers {
            self.answers = session.answers();
            self.unanswered = 0;
        }
        self.unanswered += given_up;
        let is_deaf = self.unanswered >= UNANSWERED_MAX && session.pending() == 0;
        is_deaf.then_some("the wallet does not answer over it")
    }
}

/// A WebSocket over a connection of ours (SEC-40): nothing of an answer is followed elsewhere.
async fn connect(dialer: &Dialer, relay: &Relay) -> Option<Socket> {
    let stream = dialer.dial(&relay.origin).await.ok()?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let handshake = client_async_with_config(relay.handshake_uri(), stream, Some(config));
    let (socket, _) = timeout(STEP_TIME_MAX, handshake).await.ok()?.ok()?;
    Some(socket)
}

async fn write(socket: &mut Socket, message: Message) -> bool {
    matches!(timeout(STEP_TIME_MAX, socket.send(message)).await, Ok(Ok(())))
}

/// How long to wait after so many rounds in vain: doubled, and a quarter less or more.
fn rest(rounds: usize) -> Duration {
    let doublings = rounds.saturating_sub(1).min(6);
    let rest = (REST * (1 << doublings)).min(REST_MAX);
    let random = random::bytes().map_or(0, u16::from_be_bytes);
    rest * 3 / 4 + rest * u32::from(random) / (2 * u32::from(u16::MAX))
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn now_s() -> u64 {
    now().as_secs()
}

fn now_us() -> u64 {
    now().as_micros().try_into().unwrap_or(u64::MAX)
}
