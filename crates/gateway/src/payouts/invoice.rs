//! Whether an invoice that a holder hands in can be paid at all: cheap questions, before anything is set aside.

use rails::lightning::Network;
use rails::lightning::bolt11::{self, Bolt11Error};

use crate::refusal::{Code, Facts, Refusal};

/// An invoice must be payable for so long yet: our node needs time to find a way.
const LEFT_S_MIN: u64 = 60;
/// And for no longer than that: for so long the money may stay set aside where nobody tells what became of it.
const LEFT_S_MAX: u64 = 8 * 24 * 3600;
/// That of a session is handed in before anybody knows when it ends (MPP 10.2).
const RETURN_LEFT_S_MAX: u64 = 400 * 24 * 3600;

/// An invoice that can be paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invoice {
    pub(super) text: String,
    pub(super) hash: [u8; 32],
    pub(super) amount_msat: u64,
    /// Unix seconds.
    pub(super) expires_s: u64,
    network: Network,
    payee: [u8; 33],
    left_s_max: u64,
}

impl Invoice {
    /// Reads what was handed in. A wallet may give it as a URI, or in capitals.
    ///
    /// # Errors
    /// It is no invoice, or does not say how much it is for.
    pub(super) fn read(text: &str) -> Result<Self, Refusal> {
        let invoice = Self::of_any_amount(text, LEFT_S_MAX)?;
        if invoice.amount_msat == 0 {
            let detail = "The invoice does not say how much it is for.";
            return Err(unfit("invoice_without_amount", detail));
        }
        Ok(invoice)
    }

    /// Reads one to which a session gives back what is left: how much that is, nobody knows before (MPP 10.2).
    ///
    /// # Errors
    /// It is no invoice, or says how much it is for.
    pub(super) fn read_return(text: &str) -> Result<Self, Refusal> {
        let invoice = Self::of_any_amount(text, RETURN_LEFT_S_MAX)?;
        if invoice.amount_msat > 0 {
            let detail = "An invoice that a session gives back to leaves its amount open.";
            return Err(unfit("invoice_with_amount", detail));
        }
        Ok(invoice)
    }

    fn of_any_amount(text: &str, left_s_max: u64) -> Result<Self, Refusal> {
        let plain = text.trim().to_ascii_lowercase();
        let plain = plain.strip_prefix("lightning:").unwrap_or(&plain);
        let decoded = bolt11::decode(plain).map_err(|error| unreadable(&error))?;
        Ok(Self {
            text: plain.to_owned(),
            hash: decoded.payment_hash,
            amount_msat: decoded.amount_msat.unwrap_or(0),
            expires_s: decoded.expires_at_s,
            network: decoded.network,
            payee: decoded.payee,
            left_s_max,
        })
    }

    /// The same, for so much.
    pub(super) fn of(self, amount_msat: u64) -> Self {
        Self { amount_msat, ..self }
    }

    /// Whether it is one of this network that can be paid for a while yet.
    pub(super) fn can_be_paid(&self, network: Network, now_s: u64) -> bool {
        self.network == network && self.expires_s.saturating_sub(now_s) >= LEFT_S_MIN
    }

    /// # Errors
    /// Our node could not, or must not, pay it. `ours` signs the invoices of our node.
    pub(super) fn check(&self, network: Network, ours: &[u8; 33], now_s: u64) -> Result<(), Refusal> {
        if self.network != network {
            let detail = format!("The invoice is of {}, and this gateway is on {network}.", self.network);
            return Err(unfit("invoice_of_another_network", detail));
        }
        // A payment to itself moves nothing, and may look as if it had.
        if self.payee == *ours {
            return Err(unfit("invoice_of_ours", "The invoice is of this gateway's own node."));
        }
        let left_s = self.expires_s.saturating_sub(now_s);
        if left_s < LEFT_S_MIN {
            return Err(unfit(
                "invoice_expires_too_soon",
                "The invoice has expired, or will within a minute.",
            ));
        }
        if left_s > self.left_s_max {
            return Err(unfit("invoice_expires_too_late", "The invoice can be paid for too long."));
        }
        Ok(())
    }
}

fn unreadable(error: &Bolt11Error) -> Refusal {
    unfit("invoice_unreadable", format!("What was handed in cannot be paid: {error}."))
}

/// A wish that cannot be granted. Nothing was taken.
pub(super) fn unfit(reason: &'static str, detail: impl Into<String>) -> Refusal {
    let facts = Facts { reason: Some(reason.to_owned()), ..Facts::default() };
    Refusal::new(Code::BadRequest, detail).facts(facts)
}

#[cfg(test)]
mod tests {
    use rails::lightning::{Network, Wanted, test_node};

    use super::Invoice;

    const NOW_S: u64 = 1_790_000_000;

    fn minted(amount_msat: u64, expiry_s: u32) -> String {
        test_node::mint(&Wanted { amount_msat, description: "r", expiry_s, label: "l" }, NOW_S).unwrap()
    }

    fn reason(text: &str, network: Network, ours: [u8; 33], now_s: u64) -> String {
        let checked = Invoice::read(text).and_then(|invoice| invoice.check(network, &ours, now_s));
        match checked {
            Ok(()) => "good".to_owned(),
            Err(refusal) => refusal.reason().unwrap_or_default().to_owned(),
        }
    }

    /// l402.md section 11: fixed amount, our network, 60 s left, payee not our node.
    #[test]
    fn invoices_that_cannot_be_paid() {
        let (foreign, regtest) = ([2; 33], Network::Regtest);
        let good = minted(10_000, 600);
        for (what, text, network, ours, now_s, expected) in [
            ("as it is", good.clone(), regtest, foreign, NOW_S, "good"),
            ("as a URI", format!(" LIGHTNING:{} ", good.to_uppercase()), regtest, foreign, NOW_S, "good"),
            ("61 s left", good.clone(), regtest, foreign, NOW_S + 539, "good"),
            ("60 s left", good.clone(), regtest, foreign, NOW_S + 540, "good"),
            ("59 s left", good.clone(), regtest, foreign, NOW_S + 541, "invoice_expires_too_soon"),
            ("expired", good.clone(), regtest, foreign, NOW_S + 9999, "invoice_expires_too_soon"),
            ("nine days", minted(10_000, 9 * 86_400), regtest, foreign, NOW_S, "invoice_expires_too_late"),
            ("elsewhere", good.clone(), Network::Mainnet, foreign, NOW_S, "invoice_of_another_network"),
            ("ours", good.clone(), regtest, test_node::node_key(), NOW_S, "invoice_of_ours"),
            ("no invoice", "lnbcrt1".to_owned(), regtest, foreign, NOW_S, "invoice_unreadable"),
            ("too long", "l".repeat(5000), regtest, foreign, NOW_S, "invoice_unreadable"),
            ("bent", good.replace('q', "p"), regtest, foreign, NOW_S, "invoice_unreadable"),
        ] {
            assert_eq!(reason(&text, network, ours, now_s), expected, "{what}");
        }
        let amountless = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../specs/vectors/l402/invoices.json"
        ));
        let vectors: serde_json::Value = serde_json::from_str(&amountless.unwrap()).unwrap();
        let invoices = vectors["invoices"].as_array().or(vectors.as_array()).unwrap();
        let free = invoices.iter().find(|invoice| invoice["amount_msat"].is_null()).unwrap();
        let text = free["invoice"].as_str().or(free["bolt11"].as_str()).unwrap();
        assert_eq!(reason(text, Network::Mainnet, foreign, NOW_S), "invoice_without_amount");
    }
}
