//! What the pure parts of a paid call cost on this machine, as ratios to one HMAC-SHA-256 of 64 bytes
//! measured in the same run. `cargo run --release -p farthing-bench`
//!
//! Time is that of the CPU, of all threads together, and rounds are interleaved: a noisy neighbour costs little, and all rows
//! alike; the median round is shown.

#![expect(clippy::expect_used, reason = "a measurement that cannot be set up has no result")]

mod limits;
mod money_step;

use std::hint::black_box;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use meter::{Dialect, End, Head, Meter};
use proof::test_rail::Transfer;
use proof::{EpochState, MasterKey, MasterKeys, SigningKey, credit_key};
use rustix::time::{ClockId, clock_gettime};
use sha2::Sha256;
use wire::credit_key::{CreditKey, Mode};
use zeroize::Zeroizing;

const ROUNDS: usize = 15;
const NOW_S: u64 = 1_795_000_000;

struct Row {
    name: String,
    calls: u32,
    /// Done in one call of `run`.
    operations: u32,
    run: Box<dyn FnMut()>,
    nanos: Vec<u128>,
}

fn row(name: impl Into<String>, calls: u32, run: impl FnMut() + 'static) -> Row {
    Row { name: name.into(), calls, operations: 1, run: Box::new(run), nanos: Vec::new() }
}

fn main() {
    let memory = [money_step::memory(), limits::memory()].join("\n");
    let mut rows = vec![hmac_row()];
    rows.extend(money_step::rows());
    rows.extend(limits::rows());
    rows.extend([key_row(), request_row(), stream_row(), test_payment_row()]);
    for _ in 0..ROUNDS {
        for row in &mut rows {
            let start = cpu_nanos();
            for _ in 0..row.calls {
                (row.run)();
            }
            let operations = u128::from(row.calls) * u128::from(row.operations);
            row.nanos.push((cpu_nanos() - start) / operations);
        }
    }
    let median = |row: &Row| {
        let mut sorted = row.nanos.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    };
    let unit = rows.first().map_or(1, median).max(1);
    println!("| operation | ns, median of {ROUNDS} rounds | x HMAC |\n|---|---|---|");
    for row in &rows {
        let nanos = median(row);
        println!("| {} | {nanos} | {}.{:02} |", row.name, nanos / unit, nanos % unit * 100 / unit);
    }
    println!("\n{}\n{memory}", money_step::tail());
}

/// What this process has had of the CPU.
fn cpu_nanos() -> u128 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let [seconds, nanos] = [spent.tv_sec, spent.tv_nsec].map(|part| u128::try_from(part).unwrap_or_default());
    seconds * 1_000_000_000 + nanos
}

/// What this process takes of the machine's memory.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes * 1024
}

fn hmac_row() -> Row {
    row("HMAC-SHA-256 of 64 bytes", 20_000, || {
        let mut mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).expect("any key length");
        mac.update(black_box(&[1; 64]));
        black_box(mac.finalize());
    })
}

fn key_row() -> Row {
    let key = MasterKey { epoch: 1, state: EpochState::Mint, secret: Zeroizing::new([9; 32]) };
    let masters = MasterKeys::new([key]).expect("one epoch");
    let caveats = [format!("expires={}", NOW_S + 3600)];
    let text = credit_key::mint(&masters, Mode::Test, [1; 16], [2; 16], &caveats).expect("mints");
    row("credit key, parse + verify", 5_000, move || {
        let parsed = CreditKey::parse(black_box(&text)).expect("parses");
        black_box(credit_key::verify(&masters, Mode::Test, &parsed, NOW_S)).expect("verifies");
    })
}

fn request_row() -> Row {
    let text = "a word or two. ".repeat(260);
    let body = format!(
        r#"{{"model":"m","stream":true,"max_tokens":64,"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    row("scan of a 4 kB chat request", 5_000, move || {
        black_box(meter::scan_request(Dialect::OpenAiChat, black_box(body.as_bytes()))).expect("scans");
    })
}

fn stream_row() -> Row {
    let event = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
    let event = Bytes::from(event);
    row("metering 100 streamed events", 200, move || {
        let head = Head {
            status: 200,
            content_type: Some("text/event-stream"),
            content_encoding: None,
            hide_usage_chunk: false,
        };
        let mut meter = Meter::new(Dialect::OpenAiChat, head);
        let mut out = Vec::with_capacity(128);
        for _ in 0..100 {
            meter.feed(event.clone(), &mut out);
        }
        black_box(meter.end(End::Eof, &mut out));
    })
}

fn test_payment_row() -> Row {
    let key = SigningKey::from_bytes(&[3; 32]);
    let from = key.verifying_key().to_bytes();
    let transfer =
        Transfer { from, to: [4; 32], value: 1, valid_after: 0, valid_before: NOW_S, nonce: [5; 32] };
    let signature = transfer.sign(&key);
    row("test payment, verify_strict", 200, move || {
        transfer.verify(black_box(&signature)).expect("verifies");
    })
}
