//! Whoever leaves, and whatever breaks, at whatever point: within a second nothing is held any more, the
//! charge is what was metered to the unit, and the books close (T9, LED-7, MTR-3, MTR-30).

use std::time::{Duration, Instant};

use farthing_tests::by_hand::{ByHand, Call};
use farthing_tests::gateway::{Gateway, PATIENCE, free_address, nano, wait_for};
use farthing_tests::http;
use farthing_tests::socket::Socket;
use farthing_tests::spoken::{Ending, Owed, Talk};
use serde_json::Value;

/// Longest anything may stay held after a call has ended (MTR-30).
const HELD_MAX: Duration = Duration::from_secs(1);
const CREDIT: i64 = 1_000_000_000;

/// A gateway, its upstream, a payer, and what was owed so far.
struct Stand {
    upstream: ByHand,
    gateway: Gateway,
    key: String,
    account: String,
    owed: Vec<Owed>,
}

impl Stand {
    fn new(more: &str) -> Self {
        let upstream = ByHand::start();
        let gateway = Gateway::start(upstream.address, more);
        let new = gateway.operator(&["key", "new", "--credit", "1 TEST"]);
        let text = |name: &str| new[name].as_str().unwrap().to_owned();
        Self { upstream, key: text("key"), account: text("account"), gateway, owed: Vec::new() }
    }

    /// A gateway that reads on for so long when its client has gone.
    fn draining(drain: &str) -> Self {
        Self::new(&format!("metering: {{ on_client_gone: {{ drain_up_to: {drain} }} }}\n"))
    }

    /// A client that has asked, and the upstream's end of it.
    fn ask(&self, talk: &Talk) -> (Socket, Call) {
        let mut client = Socket::connect(self.gateway.address);
        assert!(client.send(talk.request(&self.gateway.address.to_string(), &self.key)));
        (client, self.upstream.next())
    }

    /// A client that has asked and received so many pieces of the answer.
    fn hear(&self, talk: &Talk, pieces: usize) -> (Socket, Call) {
        let (mut client, mut call) = self.ask(talk);
        call.send(talk.head());
        assert!(client.read_until("\r\n\r\n"));
        for piece in &talk.pieces[..pieces] {
            call.chunk(&piece.text);
            assert!(client.read_until(&piece.mark), "{} of {}", piece.mark, talk.path);
        }
        (client, call)
    }

    fn held(&self) -> i64 {
        self.gateway.balance(&self.key).1
    }

    /// The call has ended, or will when `after` has passed: nothing stays held, and this is what it cost.
    fn settles(&mut self, what: &str, after: Duration, owed: Owed) {
        let start = Instant::now();
        wait_for("the hold to end", || {
            let open = gauge(&self.gateway, "farthing_holds_open");
            (self.held() == 0 && open == 0).then_some(())
        });
        let took = start.elapsed();
        assert!(took < after + HELD_MAX, "{what}: held for {took:?}");
        self.owed.push(owed);
        let spent: i64 = self.owed.iter().map(|owed| owed.nano).sum();
        assert_eq!(CREDIT - self.gateway.balance(&self.key).0, spent, "{what}: {owed:?}");
    }

    /// The journal says the same, call by call.
    fn close(self) {
        let owed: Vec<Owed> = self.owed.into_iter().filter(|owed| owed.nano > 0).collect();
        let books = self.gateway.books_after(owed.len());
        let captures = books.entries.iter().filter(|entry| entry["kind"] == "capture");
        let charged: Vec<Owed> = captures.map(|entry| charge_of(entry, &self.account)).collect();
        assert_eq!(charged, owed);
    }
}

fn charge_of(capture: &Value, account: &str) -> Owed {
    let legs = capture["legs"].as_array().unwrap();
    let own = legs.iter().find(|leg| leg["account"] == account).unwrap();
    Owed { nano: -nano(&own["amount"]["amount"]), estimated: capture["estimated"] == true }
}

/// A number on the page of metrics.
fn gauge(gateway: &Gateway, name: &str) -> i64 {
    let page = http::get(gateway.admin, "/metrics", &[]).text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}: {page}")).parse().unwrap()
}

/// MTR-30: without a drain the upstream is let go at once, and what was delivered is charged.
#[test]
fn client_leaves_at_every_index_without_a_drain() {
    let mut stand = Stand::draining("0s");
    for talk in Talk::all() {
        for heard in 0..=talk.pieces.len() {
            let (client, call) = stand.hear(&talk, heard);
            assert!(talk.is_over(heard) || stand.held() > 0, "the hold stands while the answer comes");
            drop(client);
            call.wait_until_left();
            let what = format!("{} left after {heard}", talk.path);
            stand.settles(&what, Duration::ZERO, talk.owed(heard, Ending::Left));
        }
    }
    stand.close();
}

/// MTR-30: with a drain the rest is read, and the provider's own report decides.
#[test]
fn client_leaves_at_every_index_and_the_report_is_waited_for() {
    let mut stand = Stand::draining("20s");
    for talk in Talk::all() {
        for heard in 0..=talk.pieces.len() {
            let (client, mut call) = stand.hear(&talk, heard);
            drop(client);
            assert!(talk.is_over(heard) || stand.held() > 0, "the hold stands while the rest is read");
            say_the_rest(&talk, heard, &mut call);
            let what = format!("{} left after {heard}", talk.path);
            stand.settles(&what, Duration::ZERO, Owed::REPORTED);
        }
    }
    stand.close();
}

/// The rest of an answer. Only a document ends with its body: a stream ends with its end mark, whatever the
/// body does.
fn say_the_rest(talk: &Talk, heard: usize, call: &mut Call) {
    talk.pieces[heard..].iter().for_each(|piece| call.chunk(&piece.text));
    if !talk.is_streamed() {
        call.send("0\r\n\r\n");
    }
}

/// MTR-30: what an upstream may do wrong while the rest of an answer is read ends the hold as well.
#[test]
fn client_leaves_at_every_index_and_then_the_upstream_fails() {
    let mut stand = Stand::draining("20s");
    for talk in Talk::all() {
        for failure in Failure::ALL {
            for heard in 0..=talk.pieces.len() {
                let (client, call) = stand.hear(&talk, heard);
                drop(client);
                let open = failure.happens(call);
                let what = format!("{} left after {heard}, then {failure:?}", talk.path);
                stand.settles(&what, Duration::ZERO, talk.owed(heard, failure.ending(&talk)));
                drop(open);
            }
        }
    }
    stand.close();
}

/// MTR-30: an upstream that says nothing more is waited for as long as the drain is, and no longer.
#[test]
fn client_leaves_at_every_index_and_the_drain_ends() {
    const DRAIN: Duration = Duration::from_millis(60);
    let mut stand = Stand::draining("60ms");
    for talk in Talk::all() {
        for heard in 0..=talk.pieces.len() {
            let (client, call) = stand.hear(&talk, heard);
            drop(client);
            let what = format!("{} left after {heard}, then silence", talk.path);
            stand.settles(&what, DRAIN, talk.owed(heard, Ending::Left));
            call.wait_until_left();
        }
    }
    stand.close();
}

/// MTR-30: a client may leave before there is an answer. The upstream has accepted nothing yet, so nothing is
/// owed when it is let go.
#[test]
fn client_leaves_before_the_head() {
    for (drain, after) in [("0s", Duration::ZERO), ("60ms", Duration::from_millis(60))] {
        let mut stand = Stand::draining(drain);
        for talk in Talk::all() {
            let (client, call) = stand.ask(&talk);
            assert!(stand.held() > 0);
            drop(client);
            stand.settles(talk.path, after, Owed { nano: 0, estimated: false });
            call.wait_until_left();
        }
        stand.close();
    }
    // Within the drain the answer may still begin, and is read to its end.
    let mut stand = Stand::draining("20s");
    for talk in Talk::all() {
        let (client, mut call) = stand.ask(&talk);
        drop(client);
        call.send(talk.head());
        say_the_rest(&talk, 0, &mut call);
        stand.settles(talk.path, Duration::ZERO, Owed::REPORTED);
    }
    stand.close();
}

/// What an upstream may do to an answer that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The connection is reset.
    Reset,
    /// The connection ends without the last chunk.
    Cut,
    /// What comes is no chunk.
    NoChunk,
    /// A clean end of the body, without the end mark of the dialect.
    CleanEnd,
}

impl Failure {
    const ALL: [Self; 4] = [Self::Reset, Self::Cut, Self::NoChunk, Self::CleanEnd];

    /// Does it. What is returned keeps the connection open where the failure is not its end.
    fn happens(self, mut call: Call) -> Option<Call> {
        match self {
            Self::Reset => call.reset(),
            Self::Cut => drop(call),
            Self::NoChunk => {
                call.send("no chunk\r\n");
                return Some(call);
            }
            Self::CleanEnd => {
                call.send("0\r\n\r\n");
                return Some(call);
            }
        }
        None
    }

    /// A document that is cut is broken, however its body ends.
    fn ending(self, talk: &Talk) -> Ending {
        if self == Self::CleanEnd && talk.is_streamed() { Ending::Ended } else { Ending::Broken }
    }
}

/// T9: the upstream fails after its head, after each piece, and after its report, with a client that stays.
#[test]
fn upstream_fails_at_every_index() {
    for drain in ["0s", "20s"] {
        let mut stand = Stand::draining(drain);
        for talk in Talk::all() {
            for failure in Failure::ALL {
                for heard in 0..=talk.pieces.len() {
                    let (mut client, call) = stand.hear(&talk, heard);
                    let open = failure.happens(call);
                    let what = format!("{} {failure:?} after {heard}", talk.path);
                    let whole = client.answer().is_some();
                    assert_eq!(
                        whole,
                        failure == Failure::CleanEnd,
                        "{what}: a cut answer must not look whole"
                    );
                    stand.settles(&what, Duration::ZERO, talk.owed(heard, failure.ending(&talk)));
                    drop(open);
                }
            }
        }
        stand.close();
    }
}

/// T9: an upstream that falls silent is given up, and the client is told by a cut answer.
#[test]
fn upstream_falls_silent_at_every_index() {
    const IDLE: Duration = Duration::from_millis(60);
    for drain in ["0s", "20s"] {
        let mut stand = Stand::new(&format!(
            "metering: {{ on_client_gone: {{ drain_up_to: {drain} }} }}\nserver: {{ listen: [\"{{address}}\"], threads: 2, \
             timeouts: {{ stream_idle: 60ms, first_byte: 60ms }} }}\n"
        ));
        for talk in Talk::all() {
            let (mut client, call) = stand.ask(&talk);
            assert_eq!(client.answer().unwrap().code(), "upstream_timeout");
            stand.settles("silent before the head", Duration::ZERO, Owed { nano: 0, estimated: false });
            drop(call);
            for heard in 0..=talk.pieces.len() {
                let (mut client, call) = stand.hear(&talk, heard);
                let what = format!("{} silent after {heard}", talk.path);
                stand.settles(&what, IDLE, talk.owed(heard, Ending::Broken));
                assert!(client.answer().is_none(), "{what}: a cut answer must not look whole");
                call.wait_until_left();
            }
        }
        stand.close();
    }
}
