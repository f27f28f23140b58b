//! Lines of `WWW-Authenticate`.

use mpp::{format_www_authenticate, parse_www_authenticate, parse_www_authenticate_all};
use proptest::prelude::*;
use wire::mpp::{Challenge, challenges};

use crate::{given, ours, theirs};

fn our_reading(line: &str) -> Vec<Challenge> {
    challenges([line.as_bytes()])
}

fn their_reading(line: &str) -> Vec<Challenge> {
    parse_www_authenticate_all([line]).iter().flatten().map(ours).collect()
}

/// Why one reader takes a challenge and the other does not, where that is meant (specs/mpp.md, "Deviations").
fn is_meant(challenge: &Challenge) -> bool {
    // Theirs takes the standard alphabet too, and `=` wherever it stands.
    let is_loose = |text: &str| wire::base64::decode_url(text.trim_end_matches('='), 1 << 16).is_err();
    let texts = [Some(&challenge.request), challenge.opaque.as_ref()];
    let is_padded =
        |text: &str| text.contains('=') && wire::base64::decode_url_any_padding(text, 1 << 16).is_err();
    // A request that our JSON reader refuses: a key twice, or nested too deep.
    let is_odd = challenge.request_object().is_err();
    // Theirs reads every RFC 3339 time; ours none before 1970, and takes a leap second wherever it stands.
    let is_time = challenge
        .expires
        .as_deref()
        .is_some_and(|at| wire::rfc3339::parse(at).is_none() || at.contains(":60"));
    texts.into_iter().flatten().any(|text| is_loose(text) || is_padded(text)) || is_odd || is_time
}

/// What is left of a text behind everything that `allowed` takes; `None` where it takes nothing.
fn behind(text: &str, allowed: impl Fn(char) -> bool) -> Option<&str> {
    let rest = text.trim_start_matches(allowed);
    (rest.len() < text.len()).then_some(rest)
}

fn is_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter)
}

fn spaces(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// What is left behind `name BWS "=" BWS ( token / quoted-string )`.
fn parameter(text: &str) -> Option<&str> {
    let value = spaces(spaces(behind(text, is_token)?).strip_prefix('=')?);
    let Some(mut quoted) = value.strip_prefix('"') else { return behind(value, is_token) };
    loop {
        let mut letters = quoted.chars();
        match letters.next()? {
            '"' => return Some(letters.as_str()),
            '\\' => drop(letters.next()?),
            _ => {}
        }
        quoted = letters.as_str();
    }
}

/// What is left behind a scheme with its first parameter or its token68. Theirs knows no scheme that stands alone.
fn scheme(text: &str) -> Option<&str> {
    let rest = behind(behind(text, is_token)?, |letter| letter == ' ')?;
    let token68 =
        |text| behind(text, |letter: char| letter.is_ascii_alphanumeric() || "-._~+/".contains(letter));
    parameter(rest).or_else(|| Some(token68(rest)?.trim_start_matches('=')))
}

/// Whether a line is one of RFC 9110: outside of its grammar each reader finds its own way back.
fn is_grammar(line: &str) -> bool {
    let mut rest = spaces(line).trim_start_matches(',');
    let mut is_first = true;
    loop {
        rest = spaces(rest);
        let next = if is_first { scheme(rest) } else { parameter(rest).or_else(|| scheme(rest)) };
        let Some(next) = next.map(spaces) else { return rest.is_empty() };
        if next.is_empty() {
            return true;
        }
        let Some(next) = behind(next, |letter| letter == ',') else { return false };
        (rest, is_first) = (next, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn they_read_what_we_write(challenge in given::challenge(), other in given::challenge()) {
        let (line, next) = (challenge.to_value().unwrap(), other.to_value().unwrap());
        prop_assert_eq!(ours(&parse_www_authenticate(&line).unwrap()), challenge.clone());
        prop_assert_eq!(their_reading(&format!("L402 macaroon=\"AA\", {line}, {next}")), vec![challenge, other]);
    }

    #[test]
    fn we_read_what_they_write(challenge in given::challenge(), other in given::challenge()) {
        let (line, next) =
            (format_www_authenticate(&theirs(&challenge)).unwrap(), format_www_authenticate(&theirs(&other)).unwrap());
        prop_assert_eq!(our_reading(&format!("Bearer realm=\"x\",{line} , {next}")), vec![challenge, other]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// A changed line of the grammar: both readers find the same challenges, and if not, for a reason that is meant.
    #[test]
    fn a_changed_line_says_the_same_to_both(challenge in given::challenge(), other in given::challenge(), changes in given::changes()) {
        let line = format!("{}, L402 macaroon=\"AA==\", {}", challenge.to_value().unwrap(), other.to_value().unwrap());
        prop_assert!(is_grammar(&line));
        let line = given::changed(&line, &changes);
        if !is_grammar(&line) {
            return Ok(());
        }
        let (our, their) = (our_reading(&line), their_reading(&line));
        for (one, rest) in [(&our, &their), (&their, &our)] {
            for challenge in one.iter().filter(|challenge| !rest.contains(challenge)) {
                prop_assert!(is_meant(challenge), "{line}\nours {our:#?}\ntheirs {their:#?}");
            }
        }
    }
}
