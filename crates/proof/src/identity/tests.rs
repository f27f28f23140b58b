//! Rules by hand, and vectors of agents that are not ours: the request decides what was signed, never the recorded base.

use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use serde_json::Value;
use wire::base64;
use wire::message_signature::{BaseError, MessageSignature, Request, Unsigned, read};

use super::{
    AgentError, AgentKey, Ambiguous, Profile, Proven, Refused, SignatureAgent, Tag, Unproven, pick, sign,
};

const NOW: u64 = 1_800_000_000;
const WBA: Profile<'_> = Profile::WebBotAuth { window_s: 480, needs_nonce: true };
const TAP: Profile<'_> = Profile::VisaTap { window_s: 480 };
const HOLDER: Profile<'_> = Profile::Holder { credential_fields: &["authorization"], has_body: true };

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn key() -> AgentKey {
    AgentKey::new(&signer().verifying_key().to_bytes()).unwrap()
}

/// A request by its parts, as the gateway sees it.
#[derive(Clone)]
struct Seen {
    method: String,
    authority: String,
    path: String,
    query: Option<String>,
    fields: Vec<(String, String)>,
}

impl Seen {
    fn new(method: &str, url: &str) -> Self {
        let rest = url.strip_prefix("https://").unwrap();
        let (authority, target) = rest.split_once('/').unwrap();
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        Self {
            method: method.to_owned(),
            authority: authority.to_owned(),
            path: format!("/{path}"),
            query: query.map(str::to_owned),
            fields: Vec::new(),
        }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    fn of_vector(method: &Value, url: &Value, headers: &Value) -> Self {
        let seen = Self::new(method.as_str().unwrap(), url.as_str().unwrap());
        let headers = headers.as_object().unwrap();
        headers.iter().fold(seen, |seen, (name, value)| seen.with(name, value.as_str().unwrap()))
    }

    fn lines(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_bytes()).collect()
    }

    fn as_request<T>(&self, look: impl FnOnce(&Request<'_>) -> T) -> T {
        let fields = |name: &str| self.lines(name);
        look(&Request {
            method: &self.method,
            scheme: "https",
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            fields: &fields,
        })
    }

    fn signatures(&self) -> Vec<MessageSignature> {
        read(&self.lines("signature-input"), &self.lines("signature")).unwrap()
    }

    fn signed(self, unsigned: &Unsigned) -> Self {
        let fields = self.as_request(|request| sign(&signer(), "s", unsigned, request)).unwrap();
        self.with("signature-input", &fields.input).with("signature", &fields.signature)
    }

    fn examined(&self, profile: Profile<'_>, now_s: u64) -> Result<Unproven, Refused> {
        self.as_request(|request| profile.examine(&self.signatures()[0], request, now_s))
    }

    fn verdict(&self, profile: Profile<'_>, now_s: u64) -> Result<Proven, Refused> {
        self.examined(profile, now_s)?.prove(&key())
    }
}

fn unsigned(tag: Tag, components: &[&str]) -> Unsigned {
    Unsigned {
        components: components.iter().map(|name| (*name).to_owned()).collect(),
        created: NOW,
        expires: NOW + 60,
        nonce: Some("n1".into()),
        tag: tag.name().into(),
    }
}

fn vectors(path: &str) -> Value {
    let text = match path {
        "mpp" => include_str!("../../../../specs/vectors/mpp/http-message-signatures-agent-identity.json"),
        "rails" => include_str!("../../../../specs/vectors/rails/agent_rfc9421.json"),
        "holder" => include_str!("../../../../specs/vectors/identity/holder_proofs.json"),
        other => panic!("{other}"),
    };
    serde_json::from_str(text).unwrap()
}

fn key_of(jwk: &Value) -> AgentKey {
    let x = base64::decode_url(jwk["x"].as_str().unwrap(), 43).unwrap();
    AgentKey::new(&x.try_into().unwrap()).unwrap()
}

/// What a request proves under the profiles for agents; None: nobody signed for any of them.
fn as_agent(seen: &Seen, key: &AgentKey, now_s: u64) -> Option<Result<Proven, Refused>> {
    let signatures = seen.signatures();
    for (tag, profile) in [(Tag::WebBotAuth, WBA), (Tag::AgentBrowser, TAP), (Tag::AgentPayer, TAP)] {
        if let Some(signature) = pick(&signatures, tag).unwrap() {
            let examined = seen.as_request(|request| profile.examine(signature, request, now_s));
            return Some(examined.and_then(|unproven| unproven.prove(key)));
        }
    }
    None
}

#[test]
fn agents_of_mppx_are_recognised() {
    let file = vectors("mpp");
    let key = key_of(&file["jwk"]);
    assert_eq!(key.thumbprint(), file["jwk_thumbprint"]);
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let seen = Seen::of_vector(&case["method"], &case["url"], &case["headers"]);
        let base = seen.as_request(|request| seen.signatures()[0].base(request)).unwrap();
        assert_eq!(base, case["expected_signature_base"], "{}", case["name"]);
        let proven = as_agent(&seen, &key, 1_795_000_010).unwrap().unwrap();
        assert_eq!(proven.thumbprint, key.thumbprint(), "{}", case["name"]);
        let tag = match case["name"].as_str().unwrap() {
            "web-bot-auth" => Tag::WebBotAuth,
            "visa-tap-browse" => Tag::AgentBrowser,
            _ => Tag::AgentPayer,
        };
        assert_eq!(proven.tag, tag, "IDN-13 {}", case["name"]);
    }
}

/// All nine signatures stand over the base that is recorded: only the request tells which are good.
#[test]
fn agents_by_rule_are_judged_by_their_requests() {
    let file = vectors("rails");
    let key = key_of(&file["public_jwk"]);
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let request = &case["request"];
        let seen = Seen::of_vector(&request["method"], &request["url"], &request["headers"]);
        let verdict = as_agent(&seen, &key, case["now_unix"].as_u64().unwrap());
        let expected = match case["name"].as_str().unwrap() {
            "tap_browse" => Some(Ok(Tag::AgentBrowser)),
            "tap_pay" => Some(Ok(Tag::AgentPayer)),
            "web_bot_auth" => Some(Ok(Tag::WebBotAuth)),
            "window_60min" => Some(Err(Refused::Window(480))),
            "expired" => Some(Err(Refused::Expired)),
            "not_yet_valid" => Some(Err(Refused::TooEarly)),
            "path_changed" => Some(Err(Refused::Signature)),
            // IDN-13: not an error, nobody.
            "unknown_tag" => None,
            "authority_not_covered" => Some(Err(Refused::Uncovered("@authority"))),
            other => panic!("{other}"),
        };
        assert_eq!(verdict.map(|verdict| verdict.map(|proven| proven.tag)), expected, "{}", case["name"]);
        assert_eq!(case["verify"] == "pass", matches!(expected, Some(Ok(_))), "{}", case["name"]);
    }
}

/// IDN-10, to the second.
#[test]
fn idn_10_times() {
    let seen = |created: u64, expires: u64| {
        let unsigned = Unsigned { created, expires, ..unsigned(Tag::AgentPayer, &["@authority", "@path"]) };
        Seen::new("GET", "https://gw.test/v1").signed(&unsigned)
    };
    for (what, created, expires, expected) in [
        ("now", NOW, NOW + 60, Ok(())),
        ("30 s ahead", NOW + 30, NOW + 90, Ok(())),
        ("31 s ahead", NOW + 31, NOW + 91, Err(Refused::TooEarly)),
        ("a second left", NOW - 60, NOW + 1, Ok(())),
        ("over", NOW - 60, NOW, Err(Refused::Expired)),
        ("the longest", NOW, NOW + 480, Ok(())),
        ("longer", NOW, NOW + 481, Err(Refused::Window(480))),
        ("no time at all", NOW, NOW, Err(Refused::TooEarly)),
        ("backwards", NOW, NOW - 1, Err(Refused::TooEarly)),
    ] {
        assert_eq!(seen(created, expires).verdict(TAP, NOW).map(|_| ()), expected, "{what}");
    }
    let day = Profile::WebBotAuth { window_s: u64::MAX, needs_nonce: false };
    let wba = |expires: u64| {
        let unsigned = Unsigned { expires, ..unsigned(Tag::WebBotAuth, &["@authority"]) };
        Seen::new("GET", "https://gw.test/").signed(&unsigned)
    };
    assert!(wba(NOW + 24 * 3600).verdict(day, NOW).is_ok());
    assert_eq!(wba(NOW + 24 * 3600 + 1).verdict(day, NOW), Err(Refused::Window(24 * 3600)));
}

/// IDN-11
#[test]
fn idn_11_nonces() {
    let seen = |tag: Tag, nonce: Option<&str>| {
        let nonce = nonce.map(str::to_owned);
        Seen::new("GET", "https://gw.test/v1")
            .signed(&Unsigned { nonce, ..unsigned(tag, &["@authority", "@path"]) })
    };
    let optional = Profile::WebBotAuth { window_s: 480, needs_nonce: false };
    let (longest, longer) = ("x".repeat(128), "x".repeat(129));
    for (what, tag, profile, nonce, expected) in [
        ("none where it must be", Tag::AgentPayer, TAP, None, Err(Refused::Nonce)),
        ("empty", Tag::AgentPayer, TAP, Some(""), Err(Refused::Nonce)),
        ("the longest", Tag::AgentPayer, TAP, Some(longest.as_str()), Ok(true)),
        ("longer", Tag::AgentPayer, TAP, Some(longer.as_str()), Err(Refused::Nonce)),
        ("none where it may be", Tag::WebBotAuth, optional, None, Ok(false)),
        ("empty where it may be", Tag::WebBotAuth, optional, Some(""), Err(Refused::Nonce)),
        ("there all the same", Tag::WebBotAuth, optional, Some("n"), Ok(true)),
    ] {
        let claims = seen(tag, nonce).verdict(profile, NOW).map(|proven| proven.nonce.is_some());
        assert_eq!(claims, expected, "{what}");
    }
    let claim = |tag, profile, nonce| seen(tag, Some(nonce)).verdict(profile, NOW).unwrap().nonce.unwrap();
    let own = claim(Tag::AgentPayer, TAP, "n");
    assert_eq!(own, claim(Tag::AgentPayer, TAP, "n"));
    assert_eq!(own.expires_s, NOW + 60);
    for other in [
        claim(Tag::AgentPayer, TAP, "m"),
        claim(Tag::AgentBrowser, TAP, "n"),
        claim(Tag::WebBotAuth, optional, "n"),
    ] {
        assert_ne!(own.id, other.id);
        assert_eq!(own.key, other.key);
    }
}

/// IDN-8, IDN-13, IDN-21, IDN-27: what must be signed, and for what.
#[test]
fn idn_27_coverage_and_tags() {
    let holder = ["@method", "@authority", "@path", "@query", "authorization", "content-digest"];
    let without =
        |name: &str| -> Vec<&str> { holder.iter().copied().filter(|other| *other != name).collect() };
    let crawl = Profile::Crawl { window_s: 480, price_field: "crawler-max-price" };
    let digest = wire::content_digest::of(b"{}");
    let seen = |tag: Tag, components: &[&str]| {
        Seen::new("POST", "https://gw.test/v1/chat?x=1")
            .with("authorization", "Bearer fk_test_A")
            .with("content-digest", &digest)
            .with("crawler-max-price", "USD 0.01")
            .signed(&unsigned(tag, components))
    };
    for (rule, tag, profile, components, expected) in [
        ("IDN-27", Tag::Holder, HOLDER, holder.to_vec(), Ok(())),
        ("IDN-27", Tag::Holder, HOLDER, without("@method"), Err(Refused::Uncovered("@method"))),
        ("IDN-27", Tag::Holder, HOLDER, without("@authority"), Err(Refused::Uncovered("@authority"))),
        ("IDN-27", Tag::Holder, HOLDER, without("@path"), Err(Refused::Uncovered("@path"))),
        ("IDN-27", Tag::Holder, HOLDER, without("@query"), Err(Refused::Uncovered("@query"))),
        ("IDN-27", Tag::Holder, HOLDER, without("authorization"), Err(Refused::Uncovered("authorization"))),
        ("IDN-27", Tag::Holder, HOLDER, without("content-digest"), Err(Refused::Uncovered("content-digest"))),
        ("IDN-13", Tag::WebBotAuth, HOLDER, holder.to_vec(), Err(Refused::Tag)),
        ("IDN-13", Tag::Holder, TAP, holder.to_vec(), Err(Refused::Tag)),
        ("IDN-13", Tag::Holder, WBA, holder.to_vec(), Err(Refused::Tag)),
        ("IDN-13", Tag::AgentPayer, WBA, holder.to_vec(), Err(Refused::Tag)),
        ("TAP", Tag::AgentBrowser, TAP, vec!["@authority", "@path"], Ok(())),
        ("TAP", Tag::AgentBrowser, TAP, vec!["@target-uri", "@path"], Err(Refused::Uncovered("@authority"))),
        ("TAP", Tag::AgentBrowser, TAP, vec!["@authority"], Err(Refused::Uncovered("@path"))),
        ("WBA", Tag::WebBotAuth, WBA, vec!["@authority"], Ok(())),
        ("WBA", Tag::WebBotAuth, WBA, vec!["@target-uri"], Ok(())),
        ("WBA", Tag::WebBotAuth, WBA, vec!["@path"], Err(Refused::Uncovered("@authority"))),
        ("IDN-21", Tag::WebBotAuth, crawl, vec!["@authority", "crawler-max-price"], Ok(())),
        ("IDN-21", Tag::WebBotAuth, crawl, vec!["@authority"], Err(Refused::Uncovered("crawler-max-price"))),
    ] {
        assert_eq!(
            seen(tag, &components).verdict(profile, NOW).map(|_| ()),
            expected,
            "{rule} {components:?}"
        );
    }
}

/// Section 4 of the rules: both dialects.
#[test]
fn idn_14_signature_agents() {
    let profile = Profile::WebBotAuth { window_s: 480, needs_nonce: false };
    let seen = |field: &str, components: &[&str]| {
        Seen::new("GET", "https://gw.test/v1")
            .with("signature-agent", field)
            .signed(&unsigned(Tag::WebBotAuth, components))
    };
    let whole = ["@authority", "signature-agent"];
    let member = ["@authority", "signature-agent;key=\"a\""];
    let directory = |name: &str| Ok(Some(name.to_owned()));
    let bad = |error: AgentError| Err(Refused::Agent(error));
    for (what, field, components, expected) in [
        ("old", "\"https://agent.example\"", &whole[..], directory("https://agent.example")),
        ("new", "a=\"https://agent.example\"", &member, directory("https://agent.example")),
        ("one of two", "b=\"https://b.test\", a=\"https://a.test\"", &member, directory("https://a.test")),
        ("a type", "a=\"https://a.test\";type=directory", &member, directory("https://a.test")),
        ("not fetched", "a=\"https://a.test/jwks\";type=jwks_uri", &member, Ok(Some("unfetched".into()))),
        ("not fetched", "a=\"https://a.test/c\";type=cimd", &member, Ok(Some("unfetched".into()))),
        ("a new type", "a=\"https://a.test\";type=x", &member, bad(AgentError::NotFetched)),
        ("plain HTTP", "a=\"http://a.test\"", &member, bad(AgentError::NotHttps)),
        ("inline keys", "\"data:application/json,{}\"", &whole, bad(AgentError::NotHttps)),
        ("not signed", "\"https://a.test\"", &["@authority"], Err(Refused::Uncovered("signature-agent"))),
        ("a token", "a=x", &member, bad(AgentError::Malformed)),
        ("a dictionary signed whole", "a=\"https://a.test\"", &whole, bad(AgentError::Malformed)),
    ] {
        let agent = seen(field, components).examined(profile, NOW).map(|unproven| {
            unproven.agent.map(|agent| match agent {
                SignatureAgent::Directory(origin) => origin.to_string(),
                SignatureAgent::Unfetched => "unfetched".to_owned(),
            })
        });
        assert_eq!(agent, expected, "{what}: {field}");
    }
    let other = seen("a=\"https://a.test\"", &member).signatures();
    let seen = Seen::new("GET", "https://gw.test/v1").with("signature-agent", "b=\"https://b.test\"");
    let examined = seen.as_request(|request| profile.examine(&other[0], request, NOW));
    assert_eq!(examined, Err(Refused::Agent(AgentError::Malformed)), "another member than was signed");
}

#[test]
fn only_ed25519_is_judged_and_only_by_its_key() {
    let seen =
        Seen::new("GET", "https://gw.test/v1").signed(&unsigned(Tag::AgentPayer, &["@authority", "@path"]));
    let altered = |from: &str, to: &str| {
        let mut seen = seen.clone();
        for (_, value) in &mut seen.fields {
            *value = value.replace(from, to);
        }
        seen.verdict(TAP, NOW)
    };
    for (what, from, to, expected) in [
        ("IDN-9", "ed25519", "rsa-pss-sha512", Refused::Algorithm),
        ("IDN-9", "ed25519", "rsa-pss-sha256", Refused::Algorithm),
        ("IDN-9", "ed25519", "hmac-sha256", Refused::Algorithm),
        ("IDN-9, not signed so", ";alg=\"ed25519\"", "", Refused::Signature),
        ("keyid", &key().thumbprint()[..4], "AAAA", Refused::Keyid),
        ("a nonce changed", "n1", "n2", Refused::Signature),
    ] {
        assert_eq!(altered(from, to), Err(expected), "{what}");
    }
    let mut short = seen.clone();
    short.fields[1].1 = format!("s=:{}:", base64::encode_std(&[1; 63]));
    assert_eq!(short.verdict(TAP, NOW), Err(Refused::Algorithm));
    let other = AgentKey::new(&SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes()).unwrap();
    assert_eq!(seen.examined(TAP, NOW).unwrap().prove(&other), Err(Refused::Keyid));
    let named = other.clone().registered_as(key().thumbprint().to_owned());
    assert_eq!(seen.examined(TAP, NOW).unwrap().prove(&named), Err(Refused::Signature));
    assert!(Refused::Signature.is_bad() && !Refused::Algorithm.is_bad());
}

/// IDN-6, third item.
#[test]
fn idn_6_one_signature_per_tag() {
    let twice = Seen::new("GET", "https://gw.test/v1")
        .with("signature-input", "a=();tag=\"web-bot-auth\", b=();tag=\"web-bot-auth\", c=();tag=\"other\"")
        .with("signature", "a=:AAAA:, b=:AAAA:, c=:AAAA:");
    let signatures = twice.signatures();
    assert_eq!(pick(&signatures, Tag::WebBotAuth), Err(Ambiguous(Tag::WebBotAuth)));
    assert_eq!(pick(&signatures[1..], Tag::WebBotAuth).unwrap().unwrap().label, "b");
    assert_eq!(pick(&signatures, Tag::Holder), Ok(None));
}

#[test]
fn nobody_signs_with_a_weak_key_or_one_in_another_spelling() {
    // y = 1 written as p + 1: the identity, and on top not canonical.
    let mut not_canonical = [0xff; 32];
    (not_canonical[0], not_canonical[31]) = (0xee, 0x7f);
    let mut identity = [0; 32];
    identity[0] = 1;
    // y = 4 is on the curve and not of small order; p + 4 means the same point.
    let mut four = [0; 32];
    four[0] = 4;
    let mut four_again = [0xff; 32];
    (four_again[0], four_again[31]) = (0xf1, 0x7f);
    for (what, public, is_usable) in [
        ("p + 1", not_canonical, false),
        ("identity", identity, false),
        ("4", four, true),
        ("p + 4", four_again, false),
        ("an honest key", signer().verifying_key().to_bytes(), true),
    ] {
        assert_eq!(AgentKey::new(&public).is_some(), is_usable, "{what}");
    }
}

/// RFC 9421 appendix B, read in place: the base is that of the RFC, the signature stands, and every profile refuses it.
#[test]
fn rfc_9421_examples() {
    let Some(file) = crate::third_party_vectors::read("crypto/rfc9421_examples") else { return };
    let request = &file["test_request"];
    let target = request["target"].as_str().unwrap();
    let mut seen = Seen::new(request["method"].as_str().unwrap(), &format!("https://example.com{target}"));
    for header in request["headers"].as_array().unwrap() {
        seen = seen.with(header[0].as_str().unwrap(), header[1].as_str().unwrap());
    }
    let digest = seen.lines("content-digest")[0];
    let body = request["body"].as_str().unwrap();
    assert_eq!(wire::content_digest::check(std::str::from_utf8(digest).unwrap(), body.as_bytes()), Ok(()));
    let key = key_of(&file["keys"]["test-key-ed25519"]);
    for case in file["cases"].as_array().unwrap() {
        let (label, text) = (case["label"].as_str().unwrap(), case["signature"].as_str().unwrap());
        let seen = seen
            .clone()
            .with("signature-input", case["signature_input"].as_str().unwrap())
            .with("signature", &format!("{label}=:{text}:"));
        let signature = &seen.signatures()[0];
        let base = seen.as_request(|request| signature.base(request)).unwrap();
        assert_eq!(base, case["signature_base"], "{}", case["id"]);
        if case["alg"] == "ed25519" {
            let bytes: [u8; 64] = signature.signature.clone().try_into().unwrap();
            assert!(
                key.verifying()
                    .verify_strict(base.as_bytes(), &ed25519_dalek::Signature::from_bytes(&bytes))
                    .is_ok()
            );
        }
        for profile in [WBA, TAP, HOLDER] {
            assert_eq!(seen.examined(profile, 1_618_884_480), Err(Refused::Tag), "{}", case["id"]);
        }
    }
    let mutations = file["mutations"].as_array().unwrap();
    assert_eq!((file["cases"].as_array().unwrap().len(), mutations.len()), (2, 6));
    for mutation in mutations {
        let signature: [u8; 64] =
            base64::decode_std(mutation["signature"].as_str().unwrap()).unwrap().try_into().unwrap();
        let base = mutation["signature_base"].as_str().unwrap();
        let public = key.verifying().to_bytes();
        assert!(
            crate::ed25519::verify(&public, base.as_bytes(), &signature).is_err(),
            "{}",
            mutation["comment"]
        );
    }
}

/// Our own vectors, made by `holder_proofs.py` with another library.
#[test]
fn idn_26_holder_proofs() {
    let file = vectors("holder");
    let key = key_of(&file["public_jwk"]);
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() >= 20);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let seen = Seen::of_vector(&case["method"], &case["url"], &case["headers"]);
        let body = case["body"].as_str().unwrap();
        let fields: Vec<&'static str> = ["authorization", "x-api-key", "payment-authorization"]
            .into_iter()
            .filter(|field| !seen.lines(field).is_empty())
            .collect();
        let profile = Profile::Holder { credential_fields: &fields, has_body: !body.is_empty() };
        let signatures = seen.signatures();
        let verdict = match pick(&signatures, Tag::Holder) {
            Err(Ambiguous(_)) => "ambiguous",
            Ok(None) => "absent",
            Ok(Some(signature)) => {
                let now_s = case["now_unix"].as_u64().unwrap();
                let examined = seen.as_request(|request| profile.examine(signature, request, now_s));
                let proven = examined.and_then(|unproven| {
                    let covers_digest = unproven.covers_digest;
                    Ok((unproven.prove(&key)?, covers_digest))
                });
                match proven {
                    Err(refused) => refused.name(),
                    Ok((_, false)) => "good",
                    Ok((_, true)) => {
                        let field = seen.lines("content-digest")[0];
                        let field = std::str::from_utf8(field).unwrap();
                        match wire::content_digest::check(field, body.as_bytes()) {
                            Ok(()) => "good",
                            Err(_) => "content_digest",
                        }
                    }
                }
            }
        };
        assert_eq!(verdict, case["verdict"], "{name}");
    }
}

#[test]
fn a_component_that_is_not_read_is_no_proof() {
    let seen = Seen::new("GET", "https://gw.test/v1")
        .with("signature-input", "s=(\"@authority\" \"@path\" \"@status\");created=1800000000;expires=1800000060;keyid=\"k\";nonce=\"n\";tag=\"agent-payer-auth\"")
        .with("signature", &format!("s=:{}:", base64::encode_std(&[1; 64])));
    assert_eq!(seen.examined(TAP, NOW), Err(Refused::Base(BaseError::Unread)));
}

proptest! {
    /// Whatever single byte of what a holder signed is another one: no proof.
    #[test]
    fn idn_27_nothing_that_is_signed_can_be_changed(place in 0_usize..400, to in b'!'..=b'~') {
        let digest = wire::content_digest::of(b"{}");
        let components = ["@method", "@authority", "@path", "@query", "authorization", "content-digest"];
        let seen = Seen::new("POST", "https://gw.test/v1/chat?x=1")
            .with("authorization", "Bearer fk_test_A")
            .with("content-digest", &digest)
            .signed(&unsigned(Tag::Holder, &components));
        let mut changed = seen.clone();
        let Seen { method, authority, path, query, fields } = &mut changed;
        let query = query.iter_mut();
        let texts: Vec<&mut String> = [method, authority, path].into_iter().chain(query)
            .chain(fields.iter_mut().map(|(_, value)| value)).collect();
        let mut at = place;
        for text in texts {
            if at < text.len() {
                text.replace_range(at..=at, &char::from(to).to_string());
                break;
            }
            at -= text.len();
        }
        let same = |one: &Seen, other: &Seen| {
            (&one.method, &one.authority, &one.path, &one.query, &one.fields)
                == (&other.method, &other.authority, &other.path, &other.query, &other.fields)
        };
        // The label alone says nothing.
        let relabelled = |seen: &Seen| {
            let values = seen.fields.iter().map(|(name, value)| match name.starts_with("signature") {
                true => value.split_once('=').map_or(value.clone(), |(_, rest)| rest.to_owned()),
                false => value.clone(),
            });
            (seen.method.clone(), seen.authority.clone(), seen.path.clone(), seen.query.clone(), values.collect::<Vec<_>>())
        };
        let found = read(&changed.lines("signature-input"), &changed.lines("signature"));
        let stands = found.is_ok_and(|found| {
            let signature = found.first();
            signature.is_some_and(|signature| {
                let examined = changed.as_request(|request| HOLDER.examine(signature, request, NOW));
                examined.is_ok_and(|unproven| unproven.prove(&key()).is_ok())
            })
        });
        let is_same = same(&seen, &changed) || relabelled(&seen) == relabelled(&changed);
        prop_assert!(!stands || is_same, "{:?}", changed.fields);
    }
}
