//! `Accept-Payment`.

use mpp::accept_payment::{self, HasMethodIntent};
use proptest::prelude::*;
use wire::mpp::AcceptPayment;

#[derive(Clone, Debug, PartialEq)]
struct Offer(String, String);

impl HasMethodIntent for Offer {
    fn method(&self) -> &str {
        &self.0
    }

    fn intent(&self) -> &str {
        &self.1
    }
}

fn offers() -> Vec<Offer> {
    let names = ["a/charge", "a/session", "b/charge", "b/session", "c-1/charge"];
    names.iter().map(|name| name.split_once('/').unwrap()).map(|(a, b)| Offer(a.into(), b.into())).collect()
}

/// Whether an offer's best ranges are `method/*` and `*/intent`: theirs weighs them alike and takes the higher q, ours
/// takes the one that names the method.
fn is_tie(header: &[accept_payment::Entry], offer: &Offer) -> bool {
    let has = |method: &str, intent: &str| {
        header.iter().any(|entry| entry.method == method && entry.intent == intent)
    };
    !has(&offer.0, &offer.1) && has(&offer.0, "*") && has("*", &offer.1)
}

fn header() -> impl Strategy<Value = String> {
    let range =
        ("(a|b|c-1|\\*|d)", "(charge|session|\\*|x)", "(|;q=0|;q=1|; q = 0\\.[0-9]{1,3}|;q=0\\.5;x=y)");
    let range = range.prop_map(|(method, intent, q)| format!("{method}/{intent}{q}"));
    proptest::collection::vec(range, 1..7).prop_map(|ranges| ranges.join(", "))
}

fn agree(header: &str) -> Result<(), TestCaseError> {
    let (our, their) = (AcceptPayment::parse(header), accept_payment::parse(header).ok());
    prop_assert_eq!(our.is_some(), their.is_some(), "{}", header);
    let (Some(our), Some(their)) = (our, their) else { return Ok(()) };
    let offers: Vec<Offer> = offers().into_iter().filter(|offer| !is_tie(&their, offer)).collect();
    let ranked = our.rank(offers.iter().map(|offer| (offer.0.as_str(), offer.1.as_str())));
    let ranked: Vec<&Offer> = ranked.into_iter().map(|at| &offers[at]).collect();
    prop_assert_eq!(ranked, accept_payment::rank(&offers, &their), "{}", header);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn ranking_is_the_same(header in header()) {
        agree(&header)?;
    }

    #[test]
    fn a_changed_header_is_read_by_both_or_by_none(header in header(), changes in crate::given::changes()) {
        agree(&crate::given::changed(&header, &changes))?;
    }
}

/// Settled 22 of the reference: a named method beats a wildcard one.
#[test]
fn the_difference_that_is_meant() {
    let header = "*/charge;q=0.9, a/*;q=0.2";
    let our = AcceptPayment::parse(header).unwrap();
    assert_eq!(our.quality("a", "charge"), Some(200));
    let offers = [
        Offer("b".into(), "charge".into()),
        Offer("a".into(), "charge".into()),
        Offer("a".into(), "x".into()),
    ];
    let their = accept_payment::parse(header).unwrap();
    assert_eq!(accept_payment::rank(&offers, &their), offers.iter().collect::<Vec<_>>());
}
