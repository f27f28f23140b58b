use proptest::prelude::*;
use serde_json::Value;

use super::{cases, vectors};
use crate::mpp::AcceptPayment;
use crate::mpp::accept::{RANGES_MAX, VALUE_BYTES_MAX};

fn ranked<'a>(header: &str, offers: &[(&'a str, &'a str)]) -> Option<Vec<&'a str>> {
    let accepted = AcceptPayment::parse(header)?;
    Some(accepted.rank(offers.iter().copied()).into_iter().map(|at| offers[at].0).collect())
}

#[test]
fn mpp_20_headers_of_mppx() {
    let file = vectors!("accept-payment");
    let names: Vec<&str> =
        file["offers"].as_array().unwrap().iter().map(|offer| offer.as_str().unwrap()).collect();
    let offers: Vec<_> = names.iter().map(|name| name.split_once('/').unwrap()).collect();
    let mut malformed = 0;
    for case in cases(&file, 14) {
        let header = case["header"].as_str().unwrap();
        match (AcceptPayment::parse(header), case.get("error")) {
            (None, Some(_)) => malformed += 1,
            (Some(accepted), None) => {
                let ranked: Vec<_> =
                    accepted.rank(offers.iter().copied()).into_iter().map(|at| names[at]).collect();
                assert_eq!(Value::from(ranked), case["ranked"], "{header}");
            }
            (accepted, error) => panic!("{header}: {accepted:?}, expected {error:?}"),
        }
    }
    assert_eq!(malformed, 4);
}

/// Settled 22: a named method, then a named intent, then the higher q.
#[test]
fn mpp_20_which_range_counts() {
    let offers = [("a", "charge"), ("b", "charge")];
    for (header, expected) in [
        ("*/charge;q=0.9, a/*;q=0.2", Some(vec!["b", "a"])),
        ("*/charge;q=0.2, a/*;q=0.9", Some(vec!["a", "b"])),
        ("*/charge;q=0, */*", Some(vec![])),
        ("a/*;q=0, a/charge", Some(vec!["a"])),
        ("a/charge;q=0.1, a/charge;q=0.3, b/charge;q=0.2", Some(vec!["a", "b"])),
        ("a/charge;q=0, a/charge", Some(vec!["a"])),
        ("b/charge, a/charge", Some(vec!["a", "b"])),
        ("b/charge;q=1.000, a/charge;q=0.999", Some(vec!["b", "a"])),
        (" ,a/charge ; q = 0.5 ;;x=y , ", Some(vec!["a"])),
        ("a/charge;Q=0.5, b/charge", Some(vec!["b", "a"])),
        ("a/session", Some(vec![])),
        (" , ,", None),
        ("a/charge;q=0.1234", None),
        ("a/charge;q=1.001", None),
        ("a/charge;q=-1", None),
        ("a/charge;q=.5", None),
        ("a/charge;q=", None),
        ("a/charge;q", None),
        ("a/charge;q=0 5", None),
        ("a/charge;=5", None),
        ("a/Charge", None),
        ("a/", None),
        ("/charge", None),
        ("a/b/c", None),
        ("*a/charge", None),
        ("a/charge, b", None),
    ] {
        assert_eq!(ranked(header, &offers), expected, "{header}");
    }
}

#[test]
fn what_is_read_is_bounded() {
    let many = |count: usize| vec!["a/charge"; count].join(",");
    assert!(AcceptPayment::parse(&many(RANGES_MAX)).is_some());
    assert!(AcceptPayment::parse(&many(RANGES_MAX + 1)).is_none());
    let long = |length: usize| "a/charge".to_owned() + &" ".repeat(length - 8);
    assert!(AcceptPayment::parse(&long(VALUE_BYTES_MAX)).is_some());
    assert!(AcceptPayment::parse(&long(VALUE_BYTES_MAX + 1)).is_none());
}

proptest! {
    #[test]
    fn any_header_is_read_or_not(header in "\\PC{0,60}", near in "[ab*/;q=01.,é ]{0,40}") {
        for header in [header, near] {
            if let Some(accepted) = AcceptPayment::parse(&header) {
                let ranked = accepted.rank([("a", "b"), ("b", "a")]);
                prop_assert!(ranked.len() <= 2);
            }
        }
    }
}
