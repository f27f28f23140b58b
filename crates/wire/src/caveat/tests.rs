use super::{Caveat, CaveatError as E, Pattern, Service};
use money::{Amount, Asset};
use proptest::prelude::*;

fn exact(name: &str) -> Pattern {
    Pattern::Exact(name.to_owned())
}

fn prefix(name: &str) -> Pattern {
    Pattern::Prefix(name.to_owned())
}

#[test]
fn known_names() {
    let usd = |units| (Asset::Usd, Amount::from_units(units));
    let service = |name: &str, tier| Service { name: name.to_owned(), tier };
    for (text, expected) in [
        ("expires=1900000000", Caveat::Expires(1_900_000_000)),
        ("not_before=0", Caveat::NotBefore(0)),
        ("per_call=USD:20000000", Caveat::PerCall(usd(20_000_000).0, usd(20_000_000).1)),
        (
            "budget=kid1:TEST:5",
            Caveat::Budget { id: "kid1".into(), asset: Asset::Test, limit: Amount::from_units(5) },
        ),
        ("models=deepseek-*,gpt-5,*", Caveat::Models(vec![prefix("deepseek-"), exact("gpt-5"), prefix("")])),
        ("models=a=b", Caveat::Models(vec![exact("a=b")])),
        ("routes=chat,embed", Caveat::Routes(vec!["chat".into(), "embed".into()])),
        ("services=a:0,b:255", Caveat::Services(vec![service("a", 0), service("b", 255)])),
        (
            "chat_capabilities=x,y",
            Caveat::Capabilities { service: "chat".into(), names: vec!["x".into(), "y".into()] },
        ),
        ("my-svc.v2_valid_until=7", Caveat::ValidUntil { service: "my-svc.v2".into(), until: 7 }),
        ("expiration=1900000000123", Caveat::Expiration(1_900_000_000_123)),
        (&format!("preimage={}", "0A".repeat(32)), Caveat::Preimage([10; 32])),
        ("holder=ed25519:CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk", Caveat::Holder([9; 32])),
        ("note=付费调用", Caveat::Unknown("note".into())),
        ("max_tokens=5", Caveat::Unknown("max_tokens".into())),
    ] {
        assert!(Caveat::parse(text.as_bytes()) == Ok(expected), "{text}");
    }
}

#[test]
fn refused_table() {
    let long_value = format!("x={}", "a".repeat(401));
    let long_name = format!("{}=1", "a".repeat(65));
    for (rule, text, expected) in [
        ("no equals sign", "expires", E::Malformed),
        ("empty value", "expires=", E::Malformed),
        ("value too long", &long_value, E::Malformed),
        ("name too long", &long_name, E::Malformed),
        ("no name", "=1", E::Malformed),
        ("nothing is trimmed", " expires=1", E::Malformed),
        ("upper case", "Expires=1", E::Malformed),
        ("other dialects", "RequestPath = /x", E::Malformed),
        ("L402-56 sign", "expires=+1", E::Malformed),
        ("L402-56 leading zero", "expires=01", E::Malformed),
        ("L402-56 white space", "expires=1 ", E::Malformed),
        ("L402-56 beyond i64", "expires=9223372036854775808", E::Malformed),
        ("L402-56 negative", "per_call=USD:-1", E::Malformed),
        ("L402-56 fraction", "per_call=USD:1.5", E::Malformed),
        ("unknown asset", "per_call=DOGE:1", E::Malformed),
        ("no asset", "per_call=1", E::Malformed),
        ("budget without id", "budget=USD:1", E::Malformed),
        ("budget id empty", "budget=:USD:1", E::Malformed),
        ("budget id too long", "budget=aaaaaaaaaaaaaaaaaaaaaaa:USD:1", E::Malformed),
        ("budget id alphabet", "budget=a.b:USD:1", E::Malformed),
        ("star inside", "models=a*b", E::Malformed),
        ("empty pattern", "models=a,,b", E::Malformed),
        ("empty route", "routes=a,", E::Malformed),
        ("known names are ASCII", "routes=付费", E::Malformed),
        ("service without tier", "services=a", E::Malformed),
        ("tier beyond u8", "services=a:256", E::Malformed),
        ("service twice", "services=a:0,a:1", E::Malformed),
        ("no service before suffix", "_valid_until=1", E::Malformed),
        ("preimage of 33 bytes", &format!("preimage={}", "00".repeat(33)), E::Malformed),
        ("holder of another kind", "holder=rsa:AAAA", E::Malformed),
        ("holder too short", "holder=ed25519:AAAA", E::Malformed),
        ("reserved", "ip=10.0.0.1", E::Reserved("ip")),
        ("reserved", "budget_window=x", E::Reserved("budget_window")),
        ("reserved", "methods=GET", E::Reserved("methods")),
    ] {
        assert_eq!(Caveat::parse(text.as_bytes()).map(|_| ()), Err(expected), "{rule}: {text}");
    }
    assert_eq!(Caveat::parse(b"note=\xff").map(|_| ()), Err(E::Malformed));
}

#[test]
fn patterns() {
    assert!(prefix("gpt-").matches("gpt-5") && prefix("").matches("x") && exact("a").matches("a"));
    assert!(!prefix("gpt-").matches("gpt") && !exact("a").matches("ab"));
    for (wide, narrow, covers) in [
        (prefix("a"), prefix("ab"), true),
        (prefix("a"), exact("ab"), true),
        (prefix("a"), prefix("a"), true),
        (exact("a"), exact("a"), true),
        (prefix("ab"), prefix("a"), false),
        (prefix("ab"), exact("a"), false),
        (exact("a"), prefix("a"), false),
        (exact("a"), exact("b"), false),
    ] {
        assert_eq!(wide.covers(&narrow), covers, "{wide:?} {narrow:?}");
    }
}

#[test]
fn debug_prints_no_value() {
    assert_eq!(format!("{:?}", Caveat::Preimage([10; 32])), "Caveat(preimage)");
}

proptest! {
    #[test]
    fn any_bytes_are_a_caveat_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Caveat::parse(&bytes);
    }

    #[test]
    fn caveat_like_text_too(text in "(expires|per_call|budget|models|services|a_valid_until|holder)=[a-zA-Z0-9:,*=_-]{0,40}") {
        let _ = Caveat::parse(text.as_bytes());
    }

    /// Covering is what matching says: a name that the narrow pattern takes, the wide one takes.
    #[test]
    fn covers_implies_matches(a in "[ab]{0,2}\\*?", b in "[ab]{0,2}\\*?", name in "[ab]{0,4}") {
        if let (Some(wide), Some(narrow)) = (Pattern::parse(&a), Pattern::parse(&b))
            && wide.covers(&narrow) && narrow.matches(&name)
        {
            prop_assert!(wide.matches(&name));
        }
    }
}
