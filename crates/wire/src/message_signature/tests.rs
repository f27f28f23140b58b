use proptest::prelude::*;

use super::{BaseError, MessageSignature, Request, SignatureError as E, Unsigned, read};

fn of(input: &str, signature: &str) -> Result<Vec<MessageSignature>, E> {
    read(&[input.as_bytes()], &[signature.as_bytes()])
}

fn one(input: &str) -> MessageSignature {
    of(&format!("s={input}"), "s=:AAAA:").unwrap().remove(0)
}

/// IDN-6
#[test]
fn idn_6_fields() {
    let labels = |count: usize, value: &str| {
        (0..count).map(|at| format!("s{at}={value}")).collect::<Vec<_>>().join(", ")
    };
    let many = |count: usize| {
        let names: Vec<String> = (0..count).map(|at| format!("\"x-{at}\"")).collect();
        format!("s=({})", names.join(" "))
    };
    for (what, input, signature, expected) in [
        ("one", "s=(\"@path\");created=1".to_owned(), "s=:AAAA:".to_owned(), Ok(1)),
        ("four", labels(4, "()"), labels(4, ":AAAA:"), Ok(4)),
        ("five", labels(5, "()"), labels(5, ":AAAA:"), Err(E::TooLarge)),
        ("16 components", many(16), "s=:AAAA:".to_owned(), Ok(1)),
        ("17 components", many(17), "s=:AAAA:".to_owned(), Err(E::TooLarge)),
        ("other labels", "s=()".to_owned(), "t=:AAAA:".to_owned(), Err(E::Labels)),
        ("more labels", "s=(), t=()".to_owned(), "s=:AAAA:".to_owned(), Err(E::Labels)),
        ("an item", "s=\"@path\"".to_owned(), "s=:AAAA:".to_owned(), Err(E::Malformed)),
        ("no bytes", "s=()".to_owned(), "s=AAAA".to_owned(), Err(E::Malformed)),
        ("a list of bytes", "s=()".to_owned(), "s=(:AAAA:)".to_owned(), Err(E::Malformed)),
        ("a token as name", "s=(path)".to_owned(), "s=:AAAA:".to_owned(), Err(E::Malformed)),
        ("upper case", "s=(\"Date\")".to_owned(), "s=:AAAA:".to_owned(), Err(E::Malformed)),
        ("twice", "s=(\"date\" \"date\")".to_owned(), "s=:AAAA:".to_owned(), Err(E::Component)),
        ("twice, told apart", "s=(\"d\" \"d\";key=\"a\")".to_owned(), "s=:AAAA:".to_owned(), Ok(1)),
        ("itself", "s=(\"@signature-params\")".to_owned(), "s=:AAAA:".to_owned(), Err(E::Component)),
        ("a time in quotes", "s=();created=\"1\"".to_owned(), "s=:AAAA:".to_owned(), Err(E::Malformed)),
        ("a time before 1970", "s=();created=-1".to_owned(), "s=:AAAA:".to_owned(), Err(E::Malformed)),
        ("a time with a fraction", "s=();created=1.0".to_owned(), "s=:AAAA:".to_owned(), Err(E::Malformed)),
        ("a tag as token", "s=();tag=x".to_owned(), "s=:AAAA:".to_owned(), Err(E::Malformed)),
        // The vendor's sample: a name with a capital letter is none.
        ("keyId", "s=();keyId=\"x\"".to_owned(), "s=:AAAA:".to_owned(), Err(E::Malformed)),
        ("no list", String::new(), "s=:AAAA:".to_owned(), Err(E::Alone)),
        ("no signature", "s=()".to_owned(), String::new(), Err(E::Alone)),
        ("both empty", String::new(), String::new(), Err(E::Malformed)),
        ("8 KiB", format!("s=();x=\"{}\"", "x".repeat(8183)), "s=:AAAA:".to_owned(), Ok(1)),
        ("more", format!("s=();x=\"{}\"", "x".repeat(8184)), "s=:AAAA:".to_owned(), Err(E::TooLarge)),
    ] {
        assert_eq!(of(&input, &signature).map(|found| found.len()), expected, "{what}");
    }
    assert_eq!(read(&[], &[]), Ok(Vec::new()));
    assert_eq!(read(&[b"s=()"], &[]), Err(E::Alone));
    assert_eq!(read(&[], &[b"s=:AAAA:"]), Err(E::Alone));
    let lines = read(&[b"a=()", b" b=();tag=\"t\""], &[b"b=:BBBB:", b"a=:AAAA:"]).unwrap();
    assert_eq!(lines[1].tag.as_deref(), Some("t"));
    assert_eq!(lines.iter().map(|found| found.signature[0]).collect::<Vec<_>>(), [0, 4]);
}

fn base(input: &str, query: Option<&str>, fields: &[(&str, &[u8])]) -> Result<String, BaseError> {
    let lines = |name: &str| {
        fields.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value).collect::<Vec<_>>()
    };
    let request = Request {
        method: "POST",
        scheme: "https",
        authority: "gw.test",
        path: "/v1/%41",
        query,
        fields: &lines,
    };
    one(input).base(&request)
}

/// IDN-7, IDN-8
#[test]
fn idn_7_the_base_is_built_from_the_request() {
    let fields: [(&str, &[u8]); 6] = [
        ("date", b"  today\t"),
        ("x-list", b"a"),
        ("x-list", b" b "),
        ("x-latin", b"\xe9"),
        ("x-dict", b"a=1, b=\"two\";  c, d=(1   2)"),
        ("x-empty", b""),
    ];
    for (rule, input, expected) in [
        ("IDN-7 method", "(\"@method\")", Ok("\"@method\": POST")),
        ("IDN-7 authority", "(\"@authority\")", Ok("\"@authority\": gw.test")),
        ("IDN-7 path as received", "(\"@path\")", Ok("\"@path\": /v1/%41")),
        ("IDN-7 query", "(\"@query\")", Ok("\"@query\": ?a=%20b&c")),
        ("IDN-7 URI", "(\"@target-uri\")", Ok("\"@target-uri\": https://gw.test/v1/%41?a=%20b&c")),
        ("IDN-7 field", "(\"date\")", Ok("\"date\": today")),
        ("IDN-7 lines", "(\"x-list\")", Ok("\"x-list\": a, b")),
        ("IDN-7 empty", "(\"x-empty\")", Ok("\"x-empty\": ")),
        ("IDN-7 member", "(\"x-dict\";key=\"b\")", Ok("\"x-dict\";key=\"b\": \"two\";c")),
        ("IDN-7 member, a list", "(\"x-dict\";key=\"d\")", Ok("\"x-dict\";key=\"d\": (1 2)")),
        ("IDN-8 no such field", "(\"x-none\")", Err(BaseError::Missing)),
        ("IDN-8 no such member", "(\"x-dict\";key=\"z\")", Err(BaseError::Missing)),
        ("IDN-7 no dictionary", "(\"x-latin\";key=\"b\")", Err(BaseError::Field)),
        ("IDN-7 no ASCII", "(\"x-latin\")", Err(BaseError::Field)),
        ("IDN-7 sf", "(\"x-dict\";sf)", Err(BaseError::Unread)),
        ("IDN-7 bs", "(\"x-dict\";bs)", Err(BaseError::Unread)),
        ("IDN-7 tr", "(\"x-dict\";tr)", Err(BaseError::Unread)),
        ("IDN-7 req", "(\"@path\";req)", Err(BaseError::Unread)),
        ("IDN-7 key and more", "(\"x-dict\";key=\"b\";sf)", Err(BaseError::Unread)),
        ("IDN-7 key of what is no field", "(\"@path\";key=\"b\")", Err(BaseError::Unread)),
        ("IDN-7 query-param", "(\"@query-param\";name=\"a\")", Err(BaseError::Unread)),
        ("IDN-7 status", "(\"@status\")", Err(BaseError::Unread)),
    ] {
        let own = base(input, Some("a=%20b&c"), &fields);
        let line = own.as_ref().map(|base| base.split_once('\n').unwrap().0);
        assert_eq!(line.map_err(|error| *error), expected, "{rule}");
        assert!(
            own.is_err() || own.is_ok_and(|own| own.ends_with(&format!("\n\"@signature-params\": {input}")))
        );
    }
    assert_eq!(base("(\"@query\")", None, &[]).unwrap().split_once('\n').unwrap().0, "\"@query\": ?");
    let spaced = "( \"date\"   \"@path\" ); tag=\"a\\\"b\"; created=007;x";
    let expected = "\"date\": today\n\"@path\": /v1/%41\n\"@signature-params\": (\"date\" \"@path\");tag=\"a\\\"b\";created=7;x";
    assert_eq!(base(spaced, None, &fields).as_deref(), Ok(expected));
}

#[test]
fn nothing_of_a_signature_is_printed() {
    let signature = one("(\"@path\");nonce=\"n0nce\";tag=\"t\"");
    assert_eq!(format!("{signature:?}"), "MessageSignature(tag Some(\"t\"), 1 components)");
}

proptest! {
    #[test]
    fn any_fields_are_read_without_panic(input in "[ -~\t]{0,80}", signature in "[ -~]{0,40}") {
        let _ = of(&input, &signature);
        let _ = of(&format!("a=({input})"), "a=:AAAA:");
    }

    /// What a signer writes is what a verifier reads, to the byte.
    #[test]
    fn a_draft_reads_as_it_was_written(
        nonce in proptest::option::of("[ -~]{1,40}"),
        tag in "[a-z-]{1,20}",
        keyid in "[ -~]{0,50}",
        created in 0_u64..1 << 40,
        bytes in proptest::collection::vec(any::<u8>(), 64),
    ) {
        let components = ["@method", "@query", "date", "signature-agent;key=\"a b\""];
        let components = components.iter().map(|name| (*name).to_owned()).collect();
        let unsigned = Unsigned { components, created, expires: created + 1, nonce, tag };
        let draft = unsigned.draft("label", &keyid, "ed25519").unwrap();
        let fields = draft.fields(&bytes);
        let read = of(&fields.input, &fields.signature).unwrap().remove(0);
        let lines = |name: &str| -> Vec<&[u8]> {
            if name == "date" { vec![b"today"] } else { vec![b"\"x\";y"] }
        };
        let request =
            Request { method: "GET", scheme: "https", authority: "a", path: "/", query: None, fields: &lines };
        prop_assert_eq!(read.base(&request).is_err(), draft.base(&request).is_err());
        prop_assert_eq!((&read.nonce, read.tag.as_deref()), (&unsigned.nonce, Some(unsigned.tag.as_str())));
        prop_assert_eq!((read.created, read.keyid.as_deref()), (Some(created), Some(keyid.as_str())));
        prop_assert_eq!(read.signature, bytes);
    }
}
