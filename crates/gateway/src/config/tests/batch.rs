//! `rails.x402.batch`, right and wrong.

use std::time::Duration;

use money::Amount;

use super::{Mode, check};
use crate::config::X402Scheme;

fn with(mode: &str, network: &str, schemes: &str, batch: &str) -> String {
    format!(
        "mode: {mode}\nupstreams: {{ a: {{ url: http://127.0.0.1:8000, dialect: openai }} }}\n\
         prices: {{ \"*\": {{ input: 1 USD/Mtok, output: 2 USD/Mtok }} }}\n\
         rails: {{ x402: {{ schemes: {schemes}, facilitators: [https://f.example], networks: {{ \
         \"{network}\": {{ pay_to: \"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\" }} }}{batch} }} }}\n"
    )
}

const KEY: &str = "authorizer_key: \"${file:/etc/farthing/master-1.key}\"";

#[test]
fn channels_have_their_terms() {
    let usual = with("live", "eip155:8453", "[batch-settlement, exact]", &format!(", batch: {{ {KEY} }}"));
    let x402 = check(&usual).unwrap().rails.x402.unwrap();
    assert_eq!(x402.schemes, [X402Scheme::Batch, X402Scheme::Exact]);
    let batch = x402.batch.unwrap();
    assert_eq!((batch.withdraw_delay, batch.min_deposit), (86_400, None));
    assert_eq!((batch.claim_above.units(), batch.claim_idle), (1_000_000_000, Duration::from_secs(3600)));
    let more = "withdraw_delay: 15m, min_deposit: 0.5 USD, claim_above: 0 USD, claim_idle: 2m";
    let own = with("live", "eip155:8453", "batch-settlement", &format!(", batch: {{ {KEY}, {more} }}"));
    let batch = check(&own).unwrap().rails.x402.unwrap().batch.unwrap();
    assert_eq!((batch.withdraw_delay, batch.min_deposit), (900, Some(Amount::from_units(500_000_000))));
    assert_eq!((batch.claim_above, batch.claim_idle), (Amount::ZERO, Duration::from_secs(120)));
    assert!(!format!("{batch:?}").contains("3f3f"), "the key is hidden");
}

/// X402-32, X402-49, and terms that channels cannot have.
#[test]
fn x402_49_a_wrong_section_says_what_is_wrong() {
    let section = |keys: &str| format!(", batch: {{ {keys} }}");
    let public = "authorizer_key: \"${file:/etc/farthing/public.key}\"";
    for (schemes, batch, wrong) in [
        ("batch-settlement", String::new(), "scheme batch-settlement needs \"batch\""),
        (
            "batch-settlement",
            section("withdraw_delay: 1h"),
            "needs \"authorizer_key\": who signs the claims?",
        ),
        ("exact", section(KEY), "scheme batch-settlement is not among the schemes"),
        (
            "batch-settlement",
            section(&format!("{KEY}, withdraw_delay: 14m")),
            "between 15 minutes and 30 days",
        ),
        (
            "batch-settlement",
            section(&format!("{KEY}, withdraw_delay: 31d")),
            "between 15 minutes and 30 days",
        ),
        ("batch-settlement", section("authorizer_key: 0x3f3f"), "a secret never stands in the file"),
        ("batch-settlement", section(public), "this is a public test key; never use it in mode live"),
        (
            "batch-settlement",
            section("authorizer_key: \"${file:/etc/farthing/order.key}\""),
            "no secp256k1 key",
        ),
    ] {
        let errors = check(&with("live", "eip155:8453", schemes, &batch)).unwrap_err().to_string();
        assert!(errors.contains(wrong), "{wrong}: {errors}");
    }
    let test = check(&with("test", "eip155:84532", "batch-settlement", &section(public)));
    assert_eq!(test.unwrap().mode, Mode::Test, "whoever tests may use one");
}
