//! Whoever leaves, and whatever breaks, at whatever point: within a second nothing is held any more, the
//! charge is what was metered to the unit, and the books close (T9, LED-7, MTR-3, MTR-30).

use std::time::Duration;

use farthing_tests::by_hand::Call;
use farthing_tests::crowd::at_once;
use farthing_tests::gateway::{Gateway, free_address, wait_for};
use farthing_tests::http;
use farthing_tests::http2::Http2;
use farthing_tests::refused::assert_refused;
use farthing_tests::socket::Socket;
use farthing_tests::spoken::{Ending, Owed, Talk};
use farthing_tests::stand::{CREDIT, Stand};

/// Gateways that end a call in different ways: holds that grow with almost every piece (MTR-35), and charges that
/// are waited for (LED-26), beside the usual one.
fn stands(drain: &str) -> impl Iterator<Item = Stand> {
    let steps = "hold: { step: 4 }, ";
    let sync = "store: { path: \"{folder}/store\", durability: sync }\n";
    let gone = format!("on_client_gone: {{ drain_up_to: {drain} }}");
    [("", ""), (steps, ""), ("", sync)]
        .into_iter()
        .map(move |(hold, store)| Stand::new(&format!("metering: {{ {hold}{gone} }}\n{store}")))
}

/// MTR-30: without a drain the upstream is let go at once, and what was delivered is charged.
#[test]
fn client_leaves_at_every_index_without_a_drain() {
    stands("0s").for_each(client_leaves_at_every_index);
}

fn client_leaves_at_every_index(mut stand: Stand) {
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
            assert!(stand.held() > 0 && stand.gateway.metric("farthing_holds_open") == 1);
            drop(client);
            stand.settles(talk.path, after, Owed::NOTHING);
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
    for mut stand in stands("0s").chain([Stand::draining("20s")]) {
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
    // Long enough for pieces that do come to come in time.
    const IDLE: Duration = Duration::from_secs(1);
    let talks = Talk::all();
    at_once(talks.len(), |at| {
        let (talk, drain) = (&talks[at], ["0s", "20s"][at % 2]);
        let mut stand = Stand::new(&format!(
            "metering: {{ on_client_gone: {{ drain_up_to: {drain} }} }}\nserver: {{ listen: [\"{{address}}\"], threads: 2, \
             timeouts: {{ stream_idle: 1s, first_byte: 2s }} }}\n"
        ));
        let (mut client, call) = stand.ask(talk);
        assert_eq!(client.answer().unwrap().code(), "upstream_timeout");
        stand.settles("silent before the head", Duration::ZERO, Owed::NOTHING);
        drop(call);
        for heard in 0..=talk.pieces.len() {
            let (mut client, call) = stand.hear(talk, heard);
            let what = format!("{} silent after {heard}", talk.path);
            stand.settles(&what, IDLE, talk.owed(heard, Ending::Broken));
            assert!(client.answer().is_none(), "{what}: a cut answer must not look whole");
            call.wait_until_left();
        }
        stand.close();
    });
}

/// T9: an upstream that breaks off before there is an answer. Nothing is owed, and the client is told.
#[test]
fn upstream_fails_before_the_head() {
    for drain in ["0s", "20s"] {
        let mut stand = Stand::draining(drain);
        for talk in Talk::all() {
            type Fails = fn(Call);
            let failures: [(&str, Fails); 4] = [
                ("resets", |call| call.reset()),
                ("hangs up", |call| drop(call)),
                ("hangs up within its head", |mut call| call.send("HTTP/1.1 200 OK\r\ncontent-")),
                ("speaks another protocol", |mut call| call.send("SSH-2.0-OpenSSH_9.2\r\n\r\n")),
            ];
            for (what, fails) in failures {
                let (mut client, call) = stand.ask(&talk);
                assert!(stand.held() > 0);
                fails(call);
                let answer = client.answer().unwrap();
                assert_refused(&answer, 502, "upstream_failed", "nothing_taken");
                stand.settles(&format!("{} {what}", talk.path), Duration::ZERO, Owed::NOTHING);
            }
        }
        stand.close();
    }
}

/// T9: an upstream that cannot be reached at all.
#[test]
fn upstream_refuses_the_connection() {
    let gateway = Gateway::start(free_address(), "");
    let key = gateway.key("1 TEST");
    for talk in Talk::all() {
        let answer = http::post(gateway.address, talk.path, &[("x-api-key", &key)], &talk.body);
        assert_refused(&answer, 502, "upstream_failed", "nothing_taken");
        assert_eq!((gateway.balance(&key), gateway.metric("farthing_holds_open")), ((CREDIT, 0), 0));
    }
    assert_eq!(gateway.books().count("capture"), 0);
}

/// MTR-30: an HTTP/2 client leaves its call and keeps its connection.
#[test]
fn http2_client_resets_its_stream_at_every_index() {
    let mut stand = Stand::draining("0s");
    let client = Http2::connect(stand.gateway.address);
    for talk in Talk::all() {
        let call = client.post(talk.path, &stand.key, &talk.body);
        let line = stand.upstream.next();
        drop(call);
        stand.settles("before the head", Duration::ZERO, Owed::NOTHING);
        line.wait_until_left();
        for heard in 0..=talk.pieces.len() {
            let mut call = client.post(talk.path, &stand.key, &talk.body);
            let mut line = stand.upstream.next();
            line.send(talk.head());
            assert_eq!(call.head(), 200);
            for piece in &talk.pieces[..heard] {
                line.chunk(&piece.text);
                call.read_until(&piece.mark);
            }
            drop(call);
            let what = format!("{} reset after {heard}", talk.path);
            stand.settles(&what, Duration::ZERO, talk.owed(heard, Ending::Left));
            line.wait_until_left();
        }
    }
    stand.close();
}

/// MTR-30, LED-24: a named call that was left goes on under its name: nothing of it is charged when it had not
/// begun, it can be asked for again at once, and then it is charged once.
#[test]
fn named_call_that_was_left_can_be_asked_for_again() {
    let mut stand = Stand::draining("0s");
    for talk in Talk::all() {
        let name = format!("name of {} {}", talk.path, talk.is_streamed()).replace(' ', "-");
        let fields = [("x-api-key", stand.key.as_str()), ("idempotency-key", name.as_str())];
        let request = http::posted(stand.gateway.address, talk.path, &fields, &talk.body);
        let mut client = Socket::connect(stand.gateway.address);
        client.send(&request);
        let call = stand.upstream.next();
        drop(client);
        call.wait_until_left();
        stand.settles("left before the head", Duration::ZERO, Owed::NOTHING);

        let mut client = Socket::connect(stand.gateway.address);
        client.send(&request);
        let mut call = stand.upstream.next();
        call.send(talk.head());
        say_the_rest(&talk, 0, &mut call);
        call.send(if talk.is_streamed() { "0\r\n\r\n" } else { "" });
        let first = client.answer().unwrap();
        assert_eq!(first.status, 200, "{}", first.text());
        stand.settles("the second time", Duration::ZERO, Owed::REPORTED);
        let again = wait_for("the call to be written down", || {
            client.send(&request);
            client.answer().filter(|again| again.refusal() != "in_progress")
        });
        assert_eq!((again.header("farthing-replayed"), &again.body), (Some("true"), &first.body));
    }
    stand.close();
}
