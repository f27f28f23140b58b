//! An LND node that does what the test says. Its invoices are those of the `test` node: real, signed, of regtest, and
//! payable by anybody. All nodes of a process share one network, so that one pays what another has issued.

mod serving;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard};

use serving::{door_of, serve};

use crate::upstream::{Seen, Upstream};

/// The key to every node here, in hexadecimal: a test's own.
pub const MACAROON: &str = "0201036c6e64030a1074657374206d616361726f6f6e";

/// Where a node is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// `POST /v1/invoices`.
    Create,
    /// `GET /v1/invoice/{hash}`.
    LookUp,
    /// `GET /v1/invoices`.
    List,
    /// `GET /v1/invoices/subscribe`.
    Subscribe,
    /// `POST /v2/router/send`.
    Send,
    /// `GET /v2/router/track/{hash}`.
    Track,
    /// `GET /v1/getinfo`.
    Info,
    /// `GET /v1/balance/channels`.
    Balance,
    /// Anything else.
    Unknown,
}

/// How a node answers once.
#[derive(Clone, Debug)]
pub enum Conduct {
    /// As LND does.
    Well,
    /// The same, once this is true.
    WellWhen(Arc<AtomicBool>),
    /// Does nothing, and says this.
    Says(u16, String),
    /// Nothing until the asker gives up.
    Silence,
    /// Does nothing, and closes the connection.
    Hangup,
    /// Does it, and closes the connection without a word.
    DoesThenHangup,
    /// `Create` only: an invoice that is not what was asked for.
    Lies(Lie),
    /// `Send` only: finds no way.
    Fails,
}

/// How an invoice differs from what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The hash beside it is another's.
    Hash,
    /// It asks for more.
    Amount,
    /// It can be paid for longer.
    Expiry,
    /// It is for something else.
    Description,
    /// It was made an hour ago.
    Timestamp,
    /// It is the one that was returned before.
    Again,
}

impl Lie {
    /// Each of them, with the field that gives it away.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Hash, "payment hash"),
        (Self::Amount, "amount"),
        (Self::Expiry, "expiry"),
        (Self::Description, "description"),
        (Self::Timestamp, "timestamp"),
        (Self::Again, "payment hash"),
    ];
}

/// An invoice that the node has issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// As returned.
    pub bolt11: String,
    /// Names it.
    pub payment_hash: [u8; 32],
    /// Millisatoshi.
    pub amount_msat: u64,
    /// What it is for.
    pub memo: String,
    /// `OPEN`, `SETTLED` or `CANCELED`.
    pub state: &'static str,
    settle_index: u64,
}

/// A scripted LND on loopback. Its threads end with the process.
pub struct Lnd {
    /// Where it listens, without TLS.
    pub address: SocketAddr,
    server: Upstream,
    books: Arc<Books>,
}

/// What a node knows, and a bell for whoever waits for settlements.
#[derive(Default)]
struct Books {
    desk: Mutex<Desk>,
    bell: Condvar,
}

#[derive(Default)]
struct Desk {
    plan: HashMap<Door, VecDeque<Conduct>>,
    always: HashMap<Door, Conduct>,
    issued: Vec<Issued>,
    settled: u64,
    /// What it has paid, with the fee.
    paid: HashMap<[u8; 32], u64>,
    /// The invoices that it was asked to pay, and began to.
    ordered: HashMap<[u8; 32], String>,
    fee_msat: u64,
    balance_msat: Option<u64>,
    tells_twice_and_backwards: bool,
}

/// Who has issued which invoice, over all nodes of this process.
static NETWORK: LazyLock<Mutex<HashMap<[u8; 32], Arc<Books>>>> = LazyLock::new(Mutex::default);

impl Lnd {
    /// Behaves well until it is told otherwise.
    pub fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into())
    }

    /// As [`Lnd::start`], at an address that somebody knows already.
    pub fn start_at(address: SocketAddr) -> Self {
        let books: Arc<Books> = Arc::default();
        let ours = Arc::clone(&books);
        let server = Upstream::start_at(address, move |request, stream| serve(&ours, request, stream));
        Self { address: server.address, server, books }
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The value of `rails.l402.lnd` without a certificate; `macaroon` names a file or variable as the configuration
    /// wants it: `{ env: NAME }`.
    pub fn section(&self, macaroon: &str) -> String {
        format!("lnd: {{ url: \"{}\", macaroon: {macaroon} }}", self.url())
    }

    /// Answers so once at this door, after what was planned before.
    pub fn next(&self, door: Door, conduct: Conduct) {
        self.books.open().plan.entry(door).or_default().push_back(conduct);
    }

    /// Answers so at this door from now on, where nothing is planned.
    pub fn always(&self, door: Door, conduct: Conduct) {
        self.books.open().always.insert(door, conduct);
    }

    /// Forgets what was planned: from now on it behaves well.
    pub fn behave(&self) {
        let mut desk = self.books.open();
        desk.plan.clear();
        desk.always.clear();
    }

    /// What a payment costs from now on, beside its amount.
    pub fn charge(&self, fee_msat: u64) {
        self.books.open().fee_msat = fee_msat;
    }

    /// What it may still spend.
    pub fn fund(&self, msat: u64) {
        self.books.open().balance_msat = Some(msat);
    }

    /// Tells each settlement twice from now on, the latest first.
    pub fn tell_twice_and_backwards(&self) {
        self.books.open().tells_twice_and_backwards = true;
    }

    /// Every invoice so far.
    pub fn issued(&self) -> Vec<Issued> {
        self.books.open().issued.clone()
    }

    /// Marks an invoice of its own as paid, as if the money had come from elsewhere.
    pub fn settle(&self, payment_hash: &[u8; 32]) {
        self.books.settle(payment_hash);
    }

    /// Invoices that it has paid: each counts once, however often it was asked to.
    pub fn payments(&self) -> usize {
        self.books.open().paid.len()
    }

    /// How often it was asked at this door.
    pub fn hits(&self, door: Door) -> usize {
        self.server.seen().iter().filter(|seen| door_of(seen) == door).count()
    }

    /// Everything it was asked.
    pub fn seen(&self) -> Vec<Seen> {
        self.server.seen()
    }
}

impl Books {
    fn open(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
    }

    fn settle(&self, payment_hash: &[u8; 32]) {
        let mut desk = self.open();
        let index = desk.settled + 1;
        let invoice = desk.issued.iter_mut().find(|issued| issued.payment_hash == *payment_hash);
        if let Some(invoice) = invoice.filter(|invoice| invoice.state == "OPEN") {
            invoice.state = "SETTLED";
            invoice.settle_index = index;
            desk.settled = index;
        }
        self.bell.notify_all();
    }
}
