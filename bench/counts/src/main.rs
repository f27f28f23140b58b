//! Runs one pure part of a paid call a number of times, for somebody who counts instructions: `cargo xtask counts`.
//!
//! `farthing-counts` names the parts; `farthing-counts NAME TIMES` does one. What is set up before is done once whatever the
//! number, so that the difference of two runs is the part alone. Nothing here is random and no clock is read: the same
//! program counts the same twice. Timing is the business of `farthing-bench`.

#![expect(clippy::expect_used, reason = "a count of what cannot be set up means nothing")]

mod credentials;
mod metering;
mod money_step;

use std::process::ExitCode;

/// Now, everywhere here.
const NOW_S: u64 = 1_795_170_499;

/// A part: what it is called, and how it is set up to be done again and again.
type Case = (&'static str, fn() -> Box<dyn FnMut()>);

const CASES: [Case; 17] = [
    ("credit-key", credentials::credit_key),
    ("credit-key-known", credentials::credit_key_known),
    ("l402", credentials::l402),
    ("l402-known", credentials::l402_known),
    ("x402-exact", credentials::x402_exact),
    ("test-rail", credentials::test_rail),
    ("holder-proof", credentials::holder_proof),
    ("quote", credentials::quote),
    ("mpp-challenge", credentials::mpp_challenge),
    ("request-scan", metering::request_scan),
    ("answer-usage", metering::answer_usage),
    ("stream-usage", metering::stream_usage),
    ("bill", metering::bill),
    ("reserve-capture", money_step::reserve_capture),
    ("reserve-capture-budgets", money_step::reserve_capture_budgets),
    ("call-counted", money_step::call_counted),
    ("journal-entry", money_step::journal_entry),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => {
            CASES.iter().for_each(|(name, _)| println!("{name}"));
            ExitCode::SUCCESS
        }
        [name, times] => match (CASES.iter().find(|(known, _)| known == name), times.parse::<u32>()) {
            (Some((_, set_up)), Ok(times)) => {
                let mut part = set_up();
                (0..times).for_each(|_| part());
                ExitCode::SUCCESS
            }
            (None | Some(_), _) => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: farthing-counts [NAME TIMES]");
    ExitCode::from(2)
}

/// A file of test vectors.
fn vector(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("vectors are JSON")
}
