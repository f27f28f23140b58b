use proptest::prelude::*;
use serde_json::Value;

use super::three_caveats;
use crate::base64;
use crate::hex;
use crate::l402::offered::{
    INVOICE_BYTES_MAX, LINE_BYTES_MAX, LINES_MAX, OFFERS_MAX, Offered, OfferedError as E, Scheme,
    TOKEN_BYTES_MAX,
};
use crate::l402::preimage::Preimage;

const INVOICE: &str = "lnbcrt10n1p4tzwuqpp5";

fn read(lines: &[&str]) -> Vec<Result<(Scheme, String, String), E>> {
    let offers = Offered::read(lines.iter().map(|line| line.as_bytes()));
    let parts =
        |offered: Offered| (offered.scheme(), offered.token().to_owned(), offered.invoice().to_owned());
    offers.into_iter().map(|offered| offered.map(parts)).collect()
}

/// Every form that sellers were seen to send.
#[test]
fn l402_90_all_known_forms_are_read() {
    let matrix: Value =
        serde_json::from_str(include_str!("../../../../../specs/vectors/l402/challenge_client_matrix.json"))
            .unwrap();
    let (_, token) = three_caveats();
    let standard = token.to_base64();
    let url_safe = base64::encode_url(&token.macaroon().encode());
    let forms = matrix["forms"].as_object().unwrap();
    assert_eq!(forms.len(), 13);
    for (name, form) in forms {
        let fill = |line: &Value| {
            let line = line.as_str().unwrap().replace("{T url-safe unpadded}", &url_safe);
            line.replace("{T}", &standard).replace("{I}", INVOICE)
        };
        let lines: Vec<String> = form["lines"].as_array().unwrap().iter().map(fill).collect();
        let token = if name == "K_urlsafe_nopad" { &url_safe } else { &standard };
        let expected = vec![Ok((Scheme::L402, token.clone(), INVOICE.to_owned()))];
        let separate: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(read(&separate), expected, "{name}");
        // As a proxy may fold them, for which an ellipsis is a value like another.
        assert_eq!(read(&[&lines.join(", ")]), expected, "{name}, on one line");
    }
}

#[test]
fn l402_90_91_challenge_table() {
    let of = |scheme, token: &str| vec![Ok((scheme, token.to_owned(), INVOICE.to_owned()))];
    let good = || of(Scheme::L402, "AgE=");
    let i = INVOICE;
    let long = "a".repeat(TOKEN_BYTES_MAX);
    let line = |head: &str| format!("L402 {head}, invoice=\"{i}\"");
    for (what, line, expected) in [
        ("the old name alone", format!("LSAT macaroon=\"AgE=\", invoice=\"{i}\""), of(Scheme::Lsat, "AgE=")),
        ("names in any case", format!("lsat MACAROON=AgE=, Invoice={i}"), of(Scheme::Lsat, "AgE=")),
        ("white space around the sign", line("token = \"AgE=\""), good()),
        ("tabs and empty members", format!("L402\ttoken=AgE= ,, ,invoice=\"{i}\""), good()),
        ("no comma between parameters", format!("L402 token=\"AgE=\" invoice=\"{i}\""), good()),
        ("others are ignored", line("version=\"0\", y=\"a,b\", token=AgE="), good()),
        ("an escaped letter", line("token=\"A\\gE=\""), good()),
        (
            "a comma in another's value",
            format!("Basic realm=\"a, L402 b\", L402 token=AgE=, invoice={i}"),
            good(),
        ),
        ("a token68 before it", format!("Negotiate YWJj==, L402 token=AgE=, invoice={i}"), good()),
        ("both names of one token", line("token=AgE=, macaroon=\"AgE=\""), good()),
        (
            "another seller's idea of a token",
            line("token=\"eyJ9.0aff~_-\""),
            of(Scheme::L402, "eyJ9.0aff~_-"),
        ),
        ("a list", line("token=\"AgE=,AgF=\""), of(Scheme::L402, "AgE=,AgF=")),
        ("the longest token", line(&format!("token={long}")), of(Scheme::L402, &long)),
        ("too long a token", line(&format!("token={long}a")), vec![Err(E::Token)]),
        ("a quote in the token", line("token=\"Ag\\\"E=\""), vec![Err(E::Token)]),
        ("a backslash in the token", line("token=\"Ag\\\\E=\""), vec![Err(E::Token)]),
        ("a colon in the token", line("token=\"Ag:E=\""), vec![Err(E::Token)]),
        ("a space in the token", line("token=\"Ag E=\""), vec![Err(E::Token)]),
        ("a line break in the token", line("token=\"Ag\r\nX: y\""), vec![Err(E::Token)]),
        ("another alphabet", line("token=\"Agé\""), vec![Err(E::Token)]),
        ("an empty token", line("token=\"\""), vec![Err(E::Token)]),
        ("no token", format!("L402 invoice=\"{i}\""), vec![Err(E::Token)]),
        ("no invoice", "L402 token=\"AgE=\"".to_owned(), vec![Err(E::Invoice)]),
        ("the invoice has a sign", "L402 token=AgE=, invoice=\"lnbc-1\"".to_owned(), vec![Err(E::Invoice)]),
        (
            "too long an invoice",
            format!("L402 token=AgE=, invoice={}", "l".repeat(INVOICE_BYTES_MAX + 1)),
            vec![Err(E::Invoice)],
        ),
        ("two invoices", line("token=AgE=, invoice=lnbc1"), vec![Err(E::Contradiction)]),
        ("two tokens", line("token=AgE=, macaroon=AgF="), vec![Err(E::Contradiction)]),
        ("cut off", format!("L402 token=AgE=, invoice=\"{i}"), vec![Err(E::Syntax)]),
        ("too long", format!("L402 {}", "a".repeat(LINE_BYTES_MAX)), vec![Err(E::Syntax)]),
        ("another protocol, too long", format!("Basic {}", "a".repeat(LINE_BYTES_MAX)), vec![]),
        ("another protocol", "Bearer realm=\"x\"".to_owned(), vec![]),
        ("the scheme is a whole word", format!("L402x token=AgE=, invoice={i}"), vec![]),
        ("scheme alone", "L402".to_owned(), vec![Err(E::Token)]),
        ("nothing", String::new(), vec![]),
        ("parameters of nobody", format!("token=AgE=, invoice={i}"), vec![]),
    ] {
        assert_eq!(read(&[&line]), expected, "{what}");
    }
}

#[test]
fn l402_90_several_challenges() {
    let one = format!("L402 token=\"A\", invoice=\"{INVOICE}\"");
    let other = format!("LSAT token=\"B\", invoice=\"{INVOICE}\"");
    let broken = "L402 token=\"C\"";
    let tokens = |lines: &[&str]| -> Vec<Result<String, E>> {
        read(lines).into_iter().map(|offer| offer.map(|(_, token, _)| token)).collect()
    };
    let expected = vec![Ok("A".to_owned()), Err(E::Invoice), Ok("B".to_owned())];
    assert_eq!(tokens(&[&one, broken, &other]), expected);
    assert_eq!(tokens(&[&[one.as_str(), broken, &other].join(", ")]), expected);
    // The same under both names is one offer, whichever comes first.
    let old = one.replace("L402", "LSAT");
    for lines in [[one.as_str(), &old], [&old, one.as_str()]] {
        assert_eq!(read(&lines), vec![Ok((Scheme::L402, "A".to_owned(), INVOICE.to_owned()))]);
    }
    let many: Vec<String> = (0..2 * OFFERS_MAX).map(|n| one.replace("\"A\"", &n.to_string())).collect();
    assert_eq!(read(&many.iter().map(String::as_str).collect::<Vec<_>>()).len(), OFFERS_MAX);
    let foreign: Vec<&str> = std::iter::repeat_n("Basic", LINES_MAX).chain([one.as_str()]).collect();
    assert_eq!(read(&foreign), vec![]);
}

#[test]
fn l402_91_the_token_goes_back_as_it_came_and_is_not_shown() {
    let offered = Offered::new(Scheme::Lsat, "AgE_-,x==", INVOICE).unwrap();
    let preimage = Preimage::new([0x5a; 32]);
    assert_eq!(offered.credential(&preimage), format!("LSAT AgE_-,x==:{}", hex::encode(&[0x5a; 32])));
    assert!(!format!("{offered:?}").contains("AgE"));
}

proptest! {
    #[test]
    fn l402_90_any_bytes_are_read_or_passed_over(lines in prop::collection::vec(
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "(L402|LSAT|Basic|token|macaroon|invoice|=|\"|\\\\|,| |a|1){0,40}".prop_map(String::into_bytes),
        ], 0..5,
    )) {
        for offered in Offered::read(lines.iter().map(Vec::as_slice)).into_iter().flatten() {
            // Whatever was taken can be written and is read again as the same.
            let line = format!(
                "{} token=\"{}\", invoice=\"{}\"", offered.scheme().name(), offered.token(), offered.invoice()
            );
            prop_assert_eq!(Offered::read([line.as_bytes()]), vec![Ok(offered)]);
        }
    }

    #[test]
    fn l402_90_order_case_and_quotes_do_not_matter(
        token in "[!#-+\\--9;-\\[\\]-~]{1,80}",
        invoice in "ln[a-zA-Z0-9]{1,80}",
        scheme in "[lL]402|[lL][sS][aA][tT]",
        name in "[tT]oken|MACAROON|macaroon",
        quoted in any::<[bool; 2]>(),
        swapped in any::<bool>(),
        before in "(Basic realm=\"a,b\", |Payment …, |Bearer, |){1}",
        behind in "(, Basic|, Payment id=\"L402 token=1\"|){1}",
    ) {
        let value = |text: &str, quoted: bool| if quoted { format!("\"{text}\"") } else { text.to_owned() };
        let mut parameters = [
            format!("{name}={}", value(&token, quoted[0])),
            format!("invoice={}", value(&invoice, quoted[1])),
        ];
        if swapped {
            parameters.swap(0, 1);
        }
        let line = format!("{before}{scheme} {}{behind}", parameters.join(", "));
        let expected = (Scheme::parse(&scheme).unwrap(), token, invoice);
        prop_assert_eq!(read(&[&line]), vec![Ok(expected)]);
    }
}
