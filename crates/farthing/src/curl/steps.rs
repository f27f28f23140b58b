//! What `farthing curl` says of a call while it runs, on standard error. No step holds a key, a token or a preimage.

use client::{Challenge, Step};

/// How much is said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Talk {
    /// Errors only.
    pub(super) silent: bool,
    /// Each step.
    pub(super) verbose: bool,
}

impl Talk {
    /// What happened to the money, and why it takes so long.
    pub(super) fn say(self, text: &str) {
        if !self.silent || self.verbose {
            eprintln!("farthing: {text}");
        }
    }

    /// One step.
    pub(super) fn step(self, step: &Step<'_>) {
        match step {
            Step::Resuming { paid } => {
                self.say(&format!("sending the payment of {paid} that an earlier run left"));
            }
            Step::Waiting { pause, why } => {
                self.say(&format!("{why}; the same payment again in {} s", pause.as_secs()));
            }
            Step::Warning(error) => self.say(&error.to_string()),
            // Not silenced: it is about money.
            Step::Doubt(doubt) => eprintln!("farthing: {doubt}"),
            Step::TokenRefused { .. }
            | Step::Request { .. }
            | Step::Challenge(_)
            | Step::Paying { .. }
            | Step::PayingInvoice { .. }
            | Step::InvoicePaid { .. }
            | Step::Token { .. }
            | Step::TokenSaved
            | Step::Response { .. }
            | Step::KeySaved
            | Step::Receipt(_) => {
                if self.verbose {
                    for line in detail(step) {
                        eprintln!("farthing: {line}");
                    }
                }
            }
        }
    }
}

/// A step as `-v` tells it.
fn detail(step: &Step<'_>) -> Vec<String> {
    let one = |text: String| vec![text];
    match step {
        Step::Request { method, url, credentials } if credentials.is_empty() => {
            one(format!("> {method} {url}"))
        }
        Step::Request { method, url, credentials } => {
            one(format!("> {method} {url} with {}", credentials.join(", ")))
        }
        Step::Challenge(challenge) => offers(challenge),
        Step::Paying { offer, payment } => {
            one(format!("signed {} on {} as {}", offer.scheme(), offer.network(), payment.header_name()))
        }
        Step::PayingInvoice { payment_hash, fee_max_msat, .. } => {
            one(format!("paying invoice {payment_hash} for a fee of at most {fee_max_msat} msat"))
        }
        Step::InvoicePaid { payment_hash, fee_msat } => {
            one(format!("invoice {payment_hash} is paid, for a fee of {fee_msat} msat"))
        }
        Step::Token { payment_hash } => {
            one(format!("with the token of invoice {payment_hash}, paid earlier"))
        }
        Step::TokenRefused { status } => one(format!("the token is not taken: {status}")),
        Step::TokenSaved => one("the token is kept for later calls".to_owned()),
        Step::KeySaved => one("a credit key came and is kept for later calls".to_owned()),
        Step::Response { status, .. } => one(format!("< {status}")),
        Step::Receipt(receipt) => one(receipt.line()),
        Step::Resuming { .. } | Step::Waiting { .. } | Step::Warning(_) | Step::Doubt(_) => vec![],
    }
}

fn offers(challenge: &Challenge) -> Vec<String> {
    let mut lines = vec!["< 402, and what it offers:".to_owned()];
    for offer in &challenge.offers {
        let name = format!("  {} on {}", offer.scheme().escape_debug(), offer.network().escape_debug());
        lines.push(match &offer.terms {
            Ok(terms) => {
                let (price, asset) = (terms.price.short(terms.asset), terms.asset.name());
                format!("{name}: {price} {asset} to {}", offer.pay_to().escape_debug())
            }
            Err(why) => format!("{name}: {why}"),
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::detail;
    use client::Step;
    use http::{Method, StatusCode};

    #[test]
    fn steps_are_lines() {
        let url = "http://127.0.0.1:1/";
        for (step, expected) in [
            (
                Step::Request { method: &Method::GET, url: url.into(), credentials: vec!["authorization"] },
                "> GET http://127.0.0.1:1/ with authorization",
            ),
            (
                Step::InvoicePaid { payment_hash: "ab", fee_msat: 1 },
                "invoice ab is paid, for a fee of 1 msat",
            ),
            (
                Step::TokenRefused { status: StatusCode::PAYMENT_REQUIRED },
                "the token is not taken: 402 Payment Required",
            ),
        ] {
            assert_eq!(detail(&step), [expected]);
        }
    }
}
