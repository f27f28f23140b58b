use serde_json::Value;

use super::three_caveats;
use crate::l402::challenge::{Challenge, ChallengeError, INVOICE_BYTES_MAX};
use crate::l402::grpc::{Status, Trailers, is_grpc};

/// The forms that were tried with real clients: what we emit is one of them, byte for byte.
#[test]
fn l402_1_the_lines_are_those_that_every_client_paid() {
    let matrix: Value =
        serde_json::from_str(include_str!("../../../../../specs/vectors/l402/challenge_client_matrix.json"))
            .unwrap();
    let (_, token) = three_caveats();
    let challenge = Challenge::new(token.clone(), "lnbcrt10n1p4tzwuqpp5").unwrap();
    let form = |name: &str| &matrix["forms"][name];
    let rendered = |name: &str, line: usize| {
        let template = form(name)["lines"][line].as_str().unwrap();
        template.replace("{T}", &token.to_base64()).replace("{I}", "lnbcrt10n1p4tzwuqpp5")
    };
    assert_eq!(challenge.lines(false), [rendered("C_superset", 0)]);
    assert_eq!(challenge.lines(true), [rendered("A_aperture", 0), rendered("C_superset", 0)]);
    for name in ["A_aperture", "C_superset"] {
        let clients = form(name)["clients"].as_object().unwrap();
        assert_eq!(clients.len(), 5, "{name}");
        assert!(clients.values().all(|client| client["works"] == true), "{name}");
    }
}

#[test]
fn l402_1_nothing_in_an_invoice_ends_the_quotes() {
    let (_, token) = three_caveats();
    let too_long = "l".repeat(INVOICE_BYTES_MAX + 1);
    for invoice in ["", "lnbc\"", "ln bc", "lnbc\r\nX: y", "lnbc,", "lnbcé", &too_long] {
        assert_eq!(Challenge::new(token.clone(), invoice), Err(ChallengeError), "{invoice:?}");
    }
    assert!(Challenge::new(token, &too_long[1..]).is_ok());
}

/// Invoices of another encoder and of real nodes stand in a header.
#[test]
fn l402_1_real_invoices_fit() {
    let (_, token) = three_caveats();
    let paid: Value =
        serde_json::from_str(include_str!("../../../../../specs/vectors/l402/paid_regtest_ldk.json"))
            .unwrap();
    let made: Value =
        serde_json::from_str(include_str!("../../../../../specs/vectors/l402/invoices.json")).unwrap();
    let rows = paid["payments"].as_array().unwrap().iter().chain(made["invoices"].as_array().unwrap());
    let mut count = 0;
    for row in rows {
        let invoice = row["bolt11"].as_str().unwrap();
        let challenge = Challenge::new(token.clone(), invoice).unwrap();
        assert_eq!(challenge.invoice(), invoice);
        assert!(challenge.l402_line().len() < 2048);
        count += 1;
    }
    assert_eq!(count, 26);
}

#[test]
fn l402_2_grpc_says_payment_required_in_trailers() {
    let trailers = Trailers::of_http(402, "anything");
    assert_eq!(
        trailers.lines(),
        [("grpc-status", "13".to_owned()), ("grpc-message", "payment required".to_owned())]
    );
    for (http, status, number) in [
        (401, Status::Unauthenticated, 16),
        (403, Status::PermissionDenied, 7),
        (404, Status::Unimplemented, 12),
        (400, Status::Internal, 13),
        (429, Status::Unavailable, 14),
        (503, Status::Unavailable, 14),
        (409, Status::Unknown, 2),
    ] {
        assert_eq!((Status::of_http(http), Status::of_http(http).code()), (status, number), "{http}");
    }
    assert_eq!(Trailers::of_http(403, "50 % off\nné~").message, "50 %25 off%0An%C3%A9~");
}

#[test]
fn l402_2_grpc_is_told_by_its_content_type() {
    for (content_type, expected) in [
        ("application/grpc", true),
        ("Application/gRPC+proto", true),
        ("application/grpc; charset=utf-8", true),
        ("application/grpc-web", false),
        ("application/grpcx", false),
        ("application/json", false),
        ("", false),
        ("application/grp\u{e9}", false),
    ] {
        assert_eq!(is_grpc(content_type), expected, "{content_type}");
    }
}
