//! Codes of facilitators: an open list, of which we act on a few (X402-19, X402-20).

/// A code that changes what we do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The payer's token does not let Permit2 move anything: 412.
    AllowanceRequired,
    /// The proof's nonce stands used: after an unclear attempt a sign of success, else a refusal.
    NonceUsed,
    /// The same request again, once.
    SettlementPending,
    /// The facilitator is settling this very payment.
    DuplicateSettlement,
    /// A payment within its means would do.
    InsufficientFunds,
}

/// The code in front of a reason. Deployed facilitators append free text behind a colon, with addresses and call
/// data: it is for a log, never relayed.
#[must_use]
pub fn of(reason: &str) -> &str {
    reason.split(':').next().unwrap_or_default().trim()
}

/// What we make of a reason, in the specification's spelling or the deployed one. `None`: nothing in particular.
#[must_use]
pub fn known(reason: &str) -> Option<Code> {
    let code = of(reason);
    Some(match code {
        "permit2_allowance_required"
        | "PERMIT2_ALLOWANCE_REQUIRED"
        | "invalid_batch_settlement_evm_permit2_allowance_required" => Code::AllowanceRequired,
        "invalid_exact_evm_nonce_already_used" | "permit2_invalid_nonce" => Code::NonceUsed,
        "settlement_pending" => Code::SettlementPending,
        "duplicate_settlement" => Code::DuplicateSettlement,
        "insufficient_funds"
        | "invalid_exact_evm_insufficient_balance"
        | "permit2_insufficient_balance"
        | "invalid_batch_settlement_evm_insufficient_balance" => Code::InsufficientFunds,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Code, known, of};

    #[test]
    fn x402_19_20_both_spellings_and_no_free_text() {
        for (reason, code, expected) in [
            ("permit2_allowance_required", "permit2_allowance_required", Some(Code::AllowanceRequired)),
            ("PERMIT2_ALLOWANCE_REQUIRED", "PERMIT2_ALLOWANCE_REQUIRED", Some(Code::AllowanceRequired)),
            (
                "invalid_exact_evm_nonce_already_used: The contract function at 0x02",
                "invalid_exact_evm_nonce_already_used",
                Some(Code::NonceUsed),
            ),
            ("settlement_pending", "settlement_pending", Some(Code::SettlementPending)),
            ("duplicate_settlement ", "duplicate_settlement", Some(Code::DuplicateSettlement)),
            ("insufficient_funds", "insufficient_funds", Some(Code::InsufficientFunds)),
            ("something: new", "something", None),
            ("", "", None),
        ] {
            assert_eq!((of(reason), known(reason)), (code, expected), "{reason}");
        }
    }

    /// The word of a real facilitator about a missing allowance.
    #[test]
    fn the_captured_refusal_is_known() {
        let flow: serde_json::Value = serde_json::from_str(include_str!(
            "../../../../specs/vectors/x402/v2_exact_permit2_no_allowance.json"
        ))
        .unwrap();
        let reason = flow["facilitator"][0]["response"]["invalidReason"].as_str().unwrap();
        assert_eq!(known(reason), Some(Code::AllowanceRequired));
    }
}
