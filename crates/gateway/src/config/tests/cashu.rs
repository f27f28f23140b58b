//! `rails.cashu`, right and wrong.

use std::time::Duration;

use money::Amount;

use super::{Mode, check};

fn with(mode: &str, cashu: &str) -> String {
    format!(
        "mode: {mode}\nupstreams: {{ a: {{ url: http://127.0.0.1:8000, dialect: openai }} }}\n\
         prices: {{ \"*\": {{ input: 1 USD/Mtok, output: 2 USD/Mtok }} }}\n\
         rails: {{ cashu: {{ {cashu} }} }}\n"
    )
}

const PRICE: &str = "price: { usd_per_btc: 95000 }";

#[test]
fn mints_have_their_terms() {
    let config =
        check(&with("live", &format!("mints: [https://Mint.Example/Bitcoin/], unit: sat, {PRICE}"))).unwrap();
    assert_eq!(config.mode, Mode::Live);
    let cashu = config.rails.cashu.unwrap();
    assert_eq!(cashu.mints[0].to_string(), "https://mint.example/Bitcoin");
    assert_eq!((cashu.deposit, cashu.ceiling_max.units()), (None, 1_000_000_000));
    assert_eq!(cashu.time_max, Duration::from_secs(15));
    let own = "mints: http://127.0.0.1:3338, deposit: 0.02 USD, ceiling_max: 2 USD, timeout: 3s";
    let cashu = check(&with("test", &format!("{own}, {PRICE}"))).unwrap().rails.cashu.unwrap();
    assert_eq!(
        (cashu.deposit, cashu.time_max),
        (Some(Amount::from_units(20_000_000)), Duration::from_secs(3))
    );
}

/// CASHU-4: which mints, and where.
#[test]
fn cashu_4_a_wrong_section_says_what_is_wrong() {
    for (mode, cashu, wrong) in [
        ("test", PRICE.to_owned(), "needs \"mints\": whose ecash is taken?"),
        ("test", format!("mints: [], {PRICE}"), "between 1 and 8"),
        ("test", format!("mints: [https://a.example, https://a.example/], {PRICE}"), "stands twice"),
        ("test", format!("mints: http://mint.example, {PRICE}"), "a mint is reached by https"),
        ("live", format!("mints: http://127.0.0.1:3338, {PRICE}"), "by https in mode live"),
        ("live", format!("mints: https://testnut.cashu.space, {PRICE}"), "worth nothing"),
        ("test", "mints: https://mint.example".to_owned(), "needs \"price\": what does a bitcoin cost?"),
        ("test", format!("mints: https://mint.example, unit: usd, {PRICE}"), "this version has sat"),
        ("test", format!("mints: https://mint.example, deposit: 2 USD, {PRICE}"), "more than ceiling_max"),
        ("test", "mints: https://mint.example, price: { usd_per_btc: 0 }".to_owned(), "0"),
    ] {
        let error = check(&with(mode, &cashu)).map(drop).unwrap_err().to_string();
        assert!(error.contains(wrong), "{cashu}: {error}");
    }
}
