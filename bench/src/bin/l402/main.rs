//! What checking an L402 credential costs on this machine: cold, by its parts, and once it is known; beside one SHA-256 of
//! 32 bytes in the same run. `cargo run --release -p farthing-bench --bin l402 [-- --peer]`
//!
//! Rounds are interleaved, so that a noisy neighbour hits all rows alike.

#![expect(clippy::expect_used, reason = "a measurement that cannot be set up has no result")]

mod peer;
mod report;
mod subject;

use std::hint::black_box;
use std::time::Instant;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use wire::l402::Credential;
use wire::macaroon::Macaroon;

use peer::Peer;
use report::{Machine, Report, Series};
use subject::{Known, Subject};

/// Short ones, many of them: on a machine that others use, most are then over before somebody else has his turn.
const ROUNDS: usize = 501;
/// Credentials that a thread remembers at most, as the gateway has it; and many more.
const KNOWN: usize = 4096;
const KNOWN_MANY: usize = 100_000;

struct Row {
    name: &'static str,
    calls: u32,
    run: Box<dyn FnMut(u32) -> u128>,
    nanos: Vec<f64>,
}

/// `run` once is one operation.
fn row(name: &'static str, calls: u32, mut run: impl FnMut() + 'static) -> Row {
    timed(name, calls, move |calls| {
        let start = Instant::now();
        for _ in 0..calls {
            run();
        }
        start.elapsed().as_nanos()
    })
}

/// `run` tells how long so many operations took.
fn timed(name: &'static str, calls: u32, run: impl FnMut(u32) -> u128 + 'static) -> Row {
    Row { name, calls, run: Box::new(run), nanos: Vec::new() }
}

fn main() {
    let with_peer = std::env::args().skip(1).any(|argument| argument == "--peer");
    let subject = Subject::new();
    let machine = Machine::look();
    let mut rows = rows(&subject);
    let peer = with_peer.then(|| Peer::start(&subject));
    let missing = match peer {
        None => Some("not asked for".to_owned()),
        Some(Err(why)) => Some(why),
        Some(Ok(mut peer)) => {
            let name = "crate macaroon 0.3.0: base64, decode, chain, caveats";
            rows.push(timed(name, 50, move |calls| peer.run(calls)));
            None
        }
    };
    for _ in 0..ROUNDS {
        for row in &mut rows {
            let nanos = (row.run)(row.calls);
            #[expect(clippy::cast_precision_loss, reason = "a few milliseconds in nanoseconds")]
            row.nanos.push(nanos as f64 / f64::from(row.calls));
        }
    }
    let series = rows.into_iter().map(|row| Series { name: row.name, nanos: row.nanos }).collect();
    Report::new(machine, &subject, series, missing).write();
}

fn rows(subject: &Subject) -> Vec<Row> {
    let Subject { header, token_text, token_bytes, .. } = subject.clone();
    let preimage = subject.preimage;
    let sha = move || {
        black_box(Sha256::digest(black_box(&preimage)));
    };
    let hmac = || {
        let mut mac = Hmac::<Sha256>::new_from_slice(black_box(&[7; 32])).expect("any key length");
        mac.update(black_box(&[1; 66]));
        black_box(mac.finalize());
    };
    let base64 = move || {
        black_box(wire::base64::decode_any(black_box(&token_text), 4096)).expect("base64");
    };
    let decode = move || {
        black_box(Macaroon::decode(black_box(&token_bytes))).expect("a macaroon");
    };
    let parse = move || {
        black_box(Credential::parse(black_box(&header))).expect("reads").expect("is L402's");
    };
    let (verify, permit) = (subject.clone(), subject.clone());
    let (cold, guessed) = (subject.clone(), subject.clone());
    let credential = subject.credential();
    let verified = subject.verified();
    let mut one = Known::new(subject, 1);
    let mut known = Known::new(subject, KNOWN);
    let mut many = Known::new(subject, KNOWN_MANY);
    vec![
        row("SHA-256 of 32 bytes", 2000, sha),
        row("HMAC-SHA-256, key of 32 bytes, message of 66", 500, hmac),
        row("base64 of the token", 1000, base64),
        row("macaroon, decoded", 2000, decode),
        row("header, read: split, base64, macaroon, hex", 400, parse),
        row("preimage, root key, chain, caveats read", 50, move || verify.verify(black_box(&credential))),
        row("caveats held against a request", 5000, move || permit.permit(black_box(&verified))),
        row("**cold: all of it**", 50, move || cold.cold()),
        row("cold, wrong preimage", 250, move || guessed.guessed()),
        row("**known: the same again and again**", 500, move || one.look_up()),
        row("**known: each time another of 4,096**", 500, move || known.look_up()),
        row("known: each time another of 100,000", 500, move || many.look_up()),
    ]
}
