//! How the demo looks: what goes over the wire, in the order in which it does.

use std::io::{IsTerminal, Write};

use client::{Receipt, Secret, Step};
use money::{Amount, Asset};
use serde_json::Value;
use wire::x402::SettlementResponse;

use super::stage::Stage;

/// Text in a colour, where the output is a terminal that wants it.
fn paint(colour: &str, text: &str) -> String {
    let plain = !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some();
    if plain { text.to_owned() } else { format!("\x1b[{colour}m{text}\x1b[0m") }
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

fn heading(number: u8, text: &str) {
    println!("\n{} {}", paint(CYAN, &format!("{number} ")), paint(BOLD, text));
}

fn line(text: &str) {
    println!("   {text}");
}

fn fact(name: &str, value: &str) {
    println!("   {} {value}", paint(DIM, &format!("{name:<18}")));
}

pub(super) fn title() {
    println!("{}", paint(BOLD, "farthing demo"));
    println!(
        "{}",
        paint(DIM, "an agent pays for an AI call: real signatures, play money, nothing leaves this machine")
    );
}

/// The first call, step by step.
pub(super) struct Scene {
    question: String,
    asked: u8,
}

impl Scene {
    pub(super) fn new(question: &Value) -> Self {
        Self { question: question.to_string(), asked: 0 }
    }

    pub(super) fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::Request { method, url, credentials } => {
                self.asked += 1;
                if self.asked == 1 {
                    heading(1, "The agent asks, without paying");
                    line(&format!("{method} {url}"));
                    line(&paint(DIM, &self.question));
                } else {
                    line(&format!(
                        "{method} {url}   {}",
                        paint(DIM, &format!("with {}", credentials.join(", ")))
                    ));
                }
            }
            Step::Challenge(challenge) => {
                heading(2, "402 Payment Required: every way to pay that this gateway takes");
                line(&paint(YELLOW, &challenge.refusal.message));
                for offer in &challenge.offers {
                    let (scheme, network) = (offer.scheme(), offer.network());
                    line(&format!(
                        "{scheme} on {network}: {} to {}",
                        play_money(offer.amount()),
                        short(offer.pay_to())
                    ));
                }
            }
            Step::Paying { offer, payment } => {
                heading(3, "The agent signs one payment, for this request only");
                fact("amount", &format!("{} on {}", play_money(offer.amount()), offer.network()));
                fact("signature", "Ed25519 over payer, payee, amount, time window and nonce");
                fact("header", &format!("{payment:?}"));
            }
            Step::Response { status, headers } => {
                heading(4, &format!("{status}: the answer streams while it is written"));
                for name in ["farthing-request-id", "farthing-hold", "farthing-balance"] {
                    if let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) {
                        fact(name, value);
                    }
                }
                let settled = headers.get("payment-response").and_then(|value| value.to_str().ok());
                if let Some(Ok(said)) = settled.map(wire::x402::header::decode::<SettlementResponse>) {
                    fact("payment-response", &format!("settled as {} on {}", said.transaction, said.network));
                }
            }
            Step::KeySaved => fact("farthing-key", "a credit key for the change, kept by the agent"),
            Step::Resuming { .. }
            | Step::PayingInvoice { .. }
            | Step::InvoicePaid { .. }
            | Step::Token { .. }
            | Step::TokenRefused { .. }
            | Step::TokenSaved
            | Step::Waiting { .. }
            | Step::Warning(_)
            | Step::Doubt(_)
            | Step::Receipt(_) => brief(step),
        }
    }
}

/// The second call: only what is new.
pub(super) fn brief(step: &Step<'_>) {
    match step {
        Step::Request { method, url, credentials } => {
            line(&format!("{method} {url}   {}", paint(DIM, &format!("with {}", credentials.join(", ")))));
        }
        Step::Response { status, headers } => {
            line(&paint(GREEN, &status.to_string()));
            for name in ["farthing-hold", "farthing-balance"] {
                if let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) {
                    fact(name, value);
                }
            }
        }
        Step::Waiting { why, .. } => line(why),
        Step::Warning(error) => line(&error.to_string()),
        Step::Doubt(doubt) => line(doubt),
        Step::Challenge(_)
        | Step::Paying { .. }
        | Step::PayingInvoice { .. }
        | Step::InvoicePaid { .. }
        | Step::Token { .. }
        | Step::TokenRefused { .. }
        | Step::TokenSaved
        | Step::Resuming { .. }
        | Step::KeySaved
        | Step::Receipt(_) => {}
    }
}

/// Prints the words of a stream as they arrive.
pub(super) struct Spoken {
    pending: Vec<u8>,
    pointer: &'static str,
}

impl Spoken {
    pub(super) fn openai() -> Self {
        Self::begin("/choices/0/delta/content")
    }

    pub(super) fn anthropic() -> Self {
        Self::begin("/delta/text")
    }

    fn begin(pointer: &'static str) -> Self {
        print!("   {}", paint(GREEN, "> "));
        Self { pending: Vec::new(), pointer }
    }

    pub(super) fn hear(&mut self, chunk: &[u8]) {
        self.pending.extend_from_slice(chunk);
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let data =
                line.strip_prefix(b"data: ").and_then(|data| serde_json::from_slice::<Value>(data).ok());
            if let Some(word) = data.as_ref().and_then(|data| data.pointer(self.pointer)?.as_str()) {
                print!("{}", paint(GREEN, word));
                let _ = std::io::stdout().flush();
            }
        }
    }

    pub(super) fn end(self) {
        println!();
    }
}

pub(super) fn receipt(receipt: &Receipt) {
    let payload = &receipt.payload;
    let number = if payload["protocol"] == "key" { 8 } else { 5 };
    heading(number, "The receipt: signed by the gateway, checked by the agent");
    for row in payload["lines"].as_array().into_iter().flatten() {
        let bucket = row["bucket"].as_str().unwrap_or_default();
        line(&format!("{:>6} {bucket:<8} x {}", row["quantity"].to_string(), money(&row["rate"])));
    }
    fact("exact cost", &format!("{} femto-USD", payload["cost_femto_usd"].as_str().unwrap_or_default()));
    fact("held, then charged", &format!("{} -> {}", money(&payload["held"]), money(&payload["charged"])));
    fact("balance after", &money(&payload["balance_after"]));
    fact("usage basis", payload["basis"].as_str().unwrap_or_default());
    line(&paint(GREEN, &receipt.line()));
}

pub(super) fn ledger(shown: &Value) {
    heading(6, "The ledger: debits equal credits in every entry");
    for entry in shown["entries"].as_array().into_iter().flatten() {
        line(&format!(
            "{} {} {}",
            paint(BOLD, &format!("{:>3}", entry["lsn"].to_string())),
            entry["kind"].as_str().unwrap_or_default(),
            paint(DIM, entry["reference"].as_str().unwrap_or_default())
        ));
        for leg in entry["legs"].as_array().into_iter().flatten() {
            let account = leg["name"].as_str().or(leg["account"].as_str()).unwrap_or_default();
            line(&format!(
                "      {account:<32}  {:>20}   balance {:>20}",
                money(&leg["amount"]),
                money(&leg["balance_after"])
            ));
        }
    }
}

pub(super) fn second(key: &Secret, question: &Value) {
    heading(7, "Again, with the credit key alone: no payment, no signature");
    let text = key.expose();
    line(&format!("key {}...  ({} characters)", text.get(..16).unwrap_or_default(), text.len()));
    line(&paint(DIM, &question.to_string()));
}

pub(super) fn balance(shown: &Value) {
    heading(9, "What is left belongs to the agent");
    fact("account", shown["account"].as_str().unwrap_or_default());
    fact("balance", &money(&shown["balance"]));
    fact("held", &money(&shown["held"]));
    println!();
}

pub(super) fn keep(stage: &Stage, key: &Secret) {
    let base = stage.url("");
    println!("{}", paint(BOLD, "The gateway stays up. Copy and paste:"));
    println!("\n  curl -N {base}/v1/chat/completions -H 'Authorization: Bearer {}' \\", key.expose());
    println!("    -H 'Content-Type: application/json' \\");
    println!(
        "    -d '{{\"model\":\"play-1\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}'"
    );
    println!("\n  # see the 402");
    println!("  curl -i {base}/v1/chat/completions -H 'Content-Type: application/json' \\");
    println!("    -d '{{\"model\":\"play-1\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}'");
    println!("\n  # an unmodified OpenAI SDK");
    println!("  export OPENAI_BASE_URL={base}/v1 OPENAI_API_KEY={}", key.expose());
    println!(
        "  python3 -c 'from openai import OpenAI; print(OpenAI().chat.completions.create(model=\"play-1\", messages=[{{\"role\":\"user\",\"content\":\"hi\"}}]).choices[0].message.content)'"
    );
    println!("\n{}", paint(DIM, "Ctrl-C ends it and removes its folder."));
}

fn money(value: &Value) -> String {
    format!(
        "{} {}",
        value["amount"].as_str().unwrap_or_default(),
        value["currency"].as_str().unwrap_or_default()
    )
}

/// Atomic units of the test rail, as people read them.
fn play_money(units: &str) -> String {
    let units = units.parse().map(Amount::from_units).unwrap_or_default();
    format!("{} {}", units.short(Asset::Test), Asset::Test)
}

fn short(text: &str) -> String {
    const SHOWN: usize = 44;
    if text.len() <= SHOWN {
        text.to_owned()
    } else {
        format!("{}...", text.get(..SHOWN).unwrap_or_default())
    }
}
