//! One payer before a gateway whose upstream is played by hand, and an account of what it owes.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::books::Books;
use crate::by_hand::{ByHand, Call};
use crate::gateway::{Gateway, nano, wait_for};
use crate::http;
use crate::socket::Socket;
use crate::spoken::{Owed, Talk};

/// Longest anything may stay held after a call has ended: a second (MTR-30), and what a machine that is kept busy takes to look.
pub const HELD_MAX: Duration = Duration::from_secs(5);
/// What the first estimate of a process may take longer: it loads the tokenizer's tables, which a build without
/// optimisations does slowly beside other tests.
const TABLES_MAX: Duration = Duration::from_secs(10);
/// What the payer has at first, in nano units.
pub const CREDIT: i64 = 1_000_000_000;

/// A gateway, its upstream, a payer, and what was owed so far.
pub struct Stand {
    /// Waits for the test at each call.
    pub upstream: ByHand,
    /// Before it.
    pub gateway: Gateway,
    /// The payer's key.
    pub key: String,
    account: String,
    owed: Vec<Owed>,
    /// Calls of which something stayed held for more than the second that they have.
    late: usize,
}

impl Stand {
    /// With `more` in the configuration. `{upstream}` stands for the address of the upstream.
    pub fn new(more: &str) -> Self {
        let upstream = ByHand::start();
        let gateway =
            Gateway::start(upstream.address, &more.replace("{upstream}", &upstream.address.to_string()));
        let new = gateway.operator(&["key", "new", "--credit", "1 TEST"]);
        let text = |name: &str| new[name].as_str().unwrap().to_owned();
        Self { upstream, key: text("key"), account: text("account"), gateway, owed: Vec::new(), late: 0 }
    }

    /// With a gateway that reads on for so long when its client has gone.
    pub fn draining(drain: &str) -> Self {
        Self::new(&format!("metering: {{ on_client_gone: {{ drain_up_to: {drain} }} }}\n"))
    }

    /// A client that has asked, and the upstream's end of it.
    pub fn ask(&self, talk: &Talk) -> (Socket, Call) {
        self.send(talk.path, &talk.body)
    }

    /// The same for any request.
    pub fn send(&self, path: &str, body: &Value) -> (Socket, Call) {
        let mut client = Socket::connect(self.gateway.address);
        assert!(client.send(http::posted(self.gateway.address, path, &[("x-api-key", &self.key)], body)));
        (client, self.upstream.next())
    }

    /// A client that has asked and received so many pieces of the answer.
    pub fn hear(&self, talk: &Talk, pieces: usize) -> (Socket, Call) {
        let (mut client, mut call) = self.ask(talk);
        call.send(talk.head());
        assert!(client.read_until("\r\n\r\n"));
        for piece in &talk.pieces[..pieces] {
            call.chunk(&piece.text);
            assert!(client.read_until(&piece.mark), "{} of {}", piece.mark, talk.path);
        }
        (client, call)
    }

    /// What is held for the payer's calls.
    pub fn held(&self) -> i64 {
        self.gateway.balance(&self.key).1
    }

    /// The call has ended, or will when `after` has passed: nothing stays held, and this is what it cost.
    pub fn settles(&mut self, what: &str, after: Duration, owed: Owed) {
        let start = Instant::now();
        wait_for("the hold to end", || {
            (self.held() == 0 && self.gateway.metric("farthing_holds_open") == 0).then_some(())
        });
        let took = start.elapsed();
        let is_first_estimate = owed.estimated && !self.owed.iter().any(|before| before.estimated);
        let held_max = if is_first_estimate { HELD_MAX + TABLES_MAX } else { HELD_MAX };
        assert!(took < after + held_max, "{what}: held for {took:?}");
        self.late += usize::from(!is_first_estimate && took >= after + Duration::from_secs(1));
        self.owed.push(owed);
        assert_eq!(CREDIT - self.gateway.balance(&self.key).0, self.owes(), "{what}: {owed:?}");
    }

    /// Sum of all that is owed so far.
    pub fn owes(&self) -> i64 {
        self.owed.iter().map(|owed| owed.nano).sum()
    }

    /// The journal says the same, call by call; and hardly any was late, which a machine that stands still may make a few.
    pub fn close(&self) -> Books {
        let owed: Vec<Owed> = self.owed.iter().copied().filter(|owed| owed.nano > 0).collect();
        let books = self.gateway.books_after(owed.len());
        let captures = books.entries.iter().filter(|entry| entry["kind"] == "capture");
        let charged: Vec<Owed> = captures.map(|entry| charge_of(entry, &self.account)).collect();
        assert_eq!(charged, owed);
        let late_max = 2.max(self.owed.len() / 10);
        assert!(self.late <= late_max, "{} of {} held for a second", self.late, self.owed.len());
        assert_eq!(books.balance(&self.account), CREDIT - self.owes());
        println!("settled: calls={} charged={} nano={}", self.owed.len(), owed.len(), self.owes());
        books
    }
}

fn charge_of(capture: &Value, account: &str) -> Owed {
    let legs = capture["legs"].as_array().unwrap();
    let own = legs.iter().find(|leg| leg["account"] == account && leg["memo"] == false).unwrap();
    Owed { nano: -nano(&own["amount"]["amount"]), estimated: capture["estimated"] == true }
}
