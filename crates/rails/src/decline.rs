//! Why a processor has declined, in words that a payer can act on and that tell nothing of anybody's fraud checks
//! (RAIL-20).

/// What a payer has to do first himself: 3-D Secure.
pub const AUTHENTICATION: &str = "authentication_required";
/// Declined, and nothing more is told: also for codes that nobody knows.
pub const DECLINED: &str = "declined";
/// What was granted is no token that this processor can charge for us.
pub const TOKEN: &str = "token_refused";

/// Stripe's codes by what a payer can do. Fraud checks have none: they are [`DECLINED`] like what nobody knows.
const CODES: [(&str, &[&str]); 4] = [
    (
        AUTHENTICATION,
        &["authentication_required", "authentication_not_handled", "payment_intent_authentication_failure"],
    ),
    (
        "insufficient_funds",
        &["insufficient_funds", "card_velocity_exceeded", "withdrawal_count_limit_exceeded"],
    ),
    (
        "card_details",
        &["expired_card", "incorrect_zip", "incorrect_address", "incorrect_cvc", "invalid_expiry_year"],
    ),
    (
        // A prepaid card says the same where it may not pay abroad; what kind of card it is is not told with it.
        "issuer_blocked_international",
        &["transaction_not_allowed", "card_not_supported", "currency_not_supported", "do_not_honor"],
    ),
];

/// The word for a processor's code.
#[must_use]
pub fn reason(code: &str) -> &'static str {
    let known = CODES.iter().find(|(_, codes)| codes.contains(&code));
    known.map_or(DECLINED, |(reason, _)| reason)
}

#[cfg(test)]
mod tests {
    use super::reason;
    use serde_json::Value;

    #[test]
    fn the_map_of_declines() {
        let file: Value =
            serde_json::from_str(include_str!("../../../specs/vectors/rails/decline_map.json")).unwrap();
        let mut seen = Vec::new();
        for row in file["map"].as_array().unwrap() {
            for code in row.get("stripe").and_then(Value::as_array).into_iter().flatten() {
                let code = code.as_str().unwrap();
                // Two rows share two codes; the card's kind would decide, and Stripe's error does not tell it.
                let shared = ["card_not_supported", "transaction_not_allowed"].contains(&code);
                let expected = if shared {
                    "issuer_blocked_international"
                } else {
                    row["gateway_code"].as_str().unwrap()
                };
                assert_eq!(reason(code), expected, "{code}");
                seen.push(code);
            }
        }
        assert_eq!(seen.len(), 24);
        assert_eq!(reason("a_code_of_tomorrow"), "declined");
    }
}
