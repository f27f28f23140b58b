//! Signs requests (RFC 9421): as the holder of a credit key that demands it, and as an agent that has a key directory.
//!
//! A signature stands for one request, for a minute, and is made when the request goes out: what is sent again is signed
//! again. It pays for nothing.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proof::identity::{HOLDER_WINDOW_S, Origin, Tag, sign};
use wire::caveat::Caveat;
use wire::credit_key::CreditKey;
use wire::message_signature::{Fields, Request, Unsigned};
use wire::{base64, content_digest};

use crate::request::KEY_FIELDS;
use crate::{IdentityKey, Target, now_unix_s};

static SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
static SIGNATURE: HeaderName = HeaderName::from_static("signature");
static SIGNATURE_AGENT: HeaderName = HeaderName::from_static("signature-agent");
static CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// Fields, beside those of keys, that a credential may stand in: what stands there is signed.
static CREDENTIAL_FIELDS: [HeaderName; 4] = [
    HeaderName::from_static("payment-authorization"),
    HeaderName::from_static("macaroon"),
    HeaderName::from_static("grpc-metadata-macaroon"),
    HeaderName::from_static("token"),
];
/// The name of our entry in `Signature-Agent`.
const AGENT: &str = "agent";
/// Random bytes of a nonce.
const NONCE_BYTES: usize = 16;

/// Who signs.
#[derive(Clone, Debug)]
pub struct Signer {
    key: Arc<IdentityKey>,
    agent: Option<Origin>,
}

/// Why a request is not signed, and so not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignError {
    #[error("the operating system gives no random bytes")]
    Randomness,
    #[error("the request has something that cannot be signed")]
    Unsignable,
}

/// A request as it is about to go out.
pub(crate) struct Unsent<'a> {
    pub(crate) method: &'a Method,
    pub(crate) target: &'a Target,
    pub(crate) headers: &'a mut HeaderMap,
    pub(crate) body: &'a [u8],
}

impl Signer {
    /// Signs for credit keys that are bound to this key pair.
    #[must_use]
    pub fn new(key: IdentityKey) -> Self {
        Self { key: Arc::new(key), agent: None }
    }

    /// Signs every request too, as the agent whose key directory is at this origin: `https://agent.example`. `None` if it is
    /// no such origin.
    #[must_use]
    pub fn as_agent(self, origin: &str) -> Option<Self> {
        Some(Self { agent: Some(Origin::parse(origin)?), ..self })
    }

    /// Whether a key is bound to another key pair, so that nothing we sign opens it.
    pub(crate) fn lacks(signer: Option<&Self>, key: &CreditKey) -> Option<String> {
        let holder = holder_of(key)?;
        let ours = signer.is_some_and(|signer| signer.key.public() == holder);
        (!ours).then(|| format!("ed25519:{}", base64::encode_url(&holder)))
    }

    /// Adds the signatures that this request needs: none where it shows no key of ours to hold and we are no agent.
    pub(crate) fn sign(&self, unsent: Unsent<'_>) -> Result<bool, SignError> {
        // A caller who signs by himself is not disturbed.
        if unsent.headers.contains_key(&SIGNATURE_INPUT) || unsent.headers.contains_key(&SIGNATURE) {
            return Ok(false);
        }
        let Unsent { method, target, headers, body } = unsent;
        let is_holder = keys_in(headers).any(|key| holder_of(&key) == Some(self.key.public()));
        let mut wanted = Vec::new();
        if is_holder {
            let digest = if body.is_empty() { None } else { Some(content_digest::of(body)) };
            insert(headers, &CONTENT_DIGEST, digest)?;
            wanted.push(("holder", Tag::Holder, holder_components(target, headers)));
        }
        if let Some(agent) = &self.agent {
            insert(headers, &SIGNATURE_AGENT, Some(format!("{AGENT}=\"{agent}\"")))?;
            let named = format!("{};key=\"{AGENT}\"", SIGNATURE_AGENT.as_str());
            wanted.push((AGENT, Tag::WebBotAuth, vec!["@authority".to_owned(), "@path".to_owned(), named]));
        }
        if wanted.is_empty() {
            return Ok(false);
        }
        let mut fields = Vec::new();
        for (label, tag, components) in wanted {
            fields.push(self.one(label, tag, components, method, target, headers)?);
        }
        let joined = |part: fn(&Fields) -> &str| fields.iter().map(part).collect::<Vec<_>>().join(", ");
        insert(headers, &SIGNATURE_INPUT, Some(joined(|fields| &fields.input)))?;
        insert(headers, &SIGNATURE, Some(joined(|fields| &fields.signature)))?;
        Ok(true)
    }

    fn one(
        &self,
        label: &str,
        tag: Tag,
        components: Vec<String>,
        method: &Method,
        target: &Target,
        headers: &HeaderMap,
    ) -> Result<Fields, SignError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SignError::Randomness)?;
        let now_s = now_unix_s();
        let unsigned = Unsigned {
            components,
            created: now_s,
            expires: now_s.saturating_add(HOLDER_WINDOW_S),
            nonce: Some(base64::encode_url(&nonce)),
            tag: tag.name().to_owned(),
        };
        let (path, query) = parts(target);
        let lines = |name: &str| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        let request = Request {
            method: method.as_str(),
            scheme: if target.origin().tls { "https" } else { "http" },
            authority: &target.origin().authority(),
            path,
            query,
            fields: &lines,
        };
        sign(self.key.signing(), label, &unsigned, &request).map_err(|_| SignError::Unsignable)
    }
}

/// What a holder's proof covers (IDN-27).
fn holder_components(target: &Target, headers: &HeaderMap) -> Vec<String> {
    let fixed = ["@method", "@authority", "@path"].map(str::to_owned);
    let query = parts(target).1.map(|_| "@query".to_owned());
    let fields = KEY_FIELDS.iter().chain(&CREDENTIAL_FIELDS).chain([&CONTENT_DIGEST]);
    let present = fields.filter(|name| headers.contains_key(*name)).map(ToString::to_string);
    fixed.into_iter().chain(query).chain(present).collect()
}

fn parts(target: &Target) -> (&str, Option<&str>) {
    match target.path().split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target.path(), None),
    }
}

fn insert(headers: &mut HeaderMap, name: &HeaderName, value: Option<String>) -> Result<(), SignError> {
    if let Some(value) = value {
        headers.insert(name, HeaderValue::try_from(value).map_err(|_| SignError::Unsignable)?);
    }
    Ok(())
}

/// Every credit key among the headers.
fn keys_in(headers: &HeaderMap) -> impl Iterator<Item = CreditKey> {
    let values = KEY_FIELDS.iter().flat_map(|name| headers.get_all(name));
    let words = values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split([' ', ',']));
    words.filter_map(|word| CreditKey::parse(word).ok())
}

/// The public key that a key's requests are to be signed with. A repeat is equal, or its issuer refuses the key.
fn holder_of(key: &CreditKey) -> Option<[u8; 32]> {
    key.macaroon().caveats.iter().find_map(|caveat| match Caveat::parse(caveat) {
        Ok(Caveat::Holder(public)) => Some(public),
        Ok(_) | Err(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method, header};
    use proof::identity::{AgentKey, Profile, SignatureAgent, Tag, pick};
    use proof::{EpochState, MasterKey, MasterKeys, credit_key};
    use wire::credit_key::{CreditKey, Mode};
    use wire::message_signature::{Request, read};

    use super::{Signer, Unsent};
    use crate::{IdentityKey, Target, now_unix_s};

    fn key(caveats: &[String]) -> String {
        let master = MasterKey { epoch: 1, state: EpochState::Mint, secret: [7; 32].into() };
        credit_key::mint(&MasterKeys::new([master]).unwrap(), Mode::Test, [1; 16], [2; 16], caveats).unwrap()
    }

    fn signer(seed: u8) -> Signer {
        Signer::new(IdentityKey::from_seed(&[seed; 32]))
    }

    fn bound(seed: u8) -> String {
        key(&[format!("holder={}", signer(seed).key.holder())])
    }

    fn signed(signer: &Signer, url: &str, key: &str, body: &[u8]) -> (bool, HeaderMap, Target) {
        let target = Target::parse(url).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}")).unwrap());
        let unsent = Unsent { method: &Method::POST, target: &target, headers: &mut headers, body };
        let done = signer.sign(unsent).unwrap();
        (done, headers, target)
    }

    /// What the verifier of the gateway says.
    fn proves(headers: &HeaderMap, target: &Target, tag: Tag, profile: Profile<'_>, seed: u8) -> bool {
        let lines = |name: &str| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        let signatures = read(&lines("signature-input"), &lines("signature")).unwrap();
        let Some(signature) = pick(&signatures, tag).unwrap() else { return false };
        let (path, query) = super::parts(target);
        let authority = target.origin().authority();
        let request =
            Request { method: "POST", scheme: "http", authority: &authority, path, query, fields: &lines };
        let key = AgentKey::new(&signer(seed).key.public()).unwrap();
        let Ok(unproven) = profile.examine(signature, &request, now_unix_s()) else { return false };
        if tag == Tag::WebBotAuth {
            assert!(
                matches!(&unproven.agent, Some(SignatureAgent::Directory(origin)) if origin.as_str() == "https://agent.example")
            );
        }
        unproven.prove(&key).is_ok()
    }

    /// IDN-26, IDN-27
    #[test]
    fn idn_27_a_holders_request_is_proven_as_its_verifier_wants_it() {
        for (url, body) in [
            ("http://127.0.0.1:1/v1/chat/completions", b"{}".as_slice()),
            ("http://127.0.0.1:1/v1/models?a=1&b=%20", b""),
            ("http://127.0.0.1:1/", b"x"),
        ] {
            let (done, headers, target) = signed(&signer(3), url, &bound(3), body);
            assert!(done);
            let has_body = !body.is_empty();
            assert_eq!(headers.contains_key("content-digest"), has_body);
            let profile = Profile::Holder { credential_fields: &["authorization"], has_body };
            assert!(proves(&headers, &target, Tag::Holder, profile, 3), "{url} {headers:?}");
            assert!(!proves(&headers, &target, Tag::Holder, profile, 4), "another key");
            let mut other = headers.clone();
            other.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer fk_test_other"));
            assert!(!proves(&other, &target, Tag::Holder, profile, 3), "another key in its place");
        }
        let nonce = |headers: &HeaderMap| headers["signature-input"].clone();
        let again = || nonce(&signed(&signer(3), "http://127.0.0.1:1/", &bound(3), b"").1);
        assert_ne!(again(), again(), "no two signatures are one");
    }

    #[test]
    fn only_what_has_to_be_signed_is_signed() {
        let url = "http://127.0.0.1:1/v1";
        let (done, headers, _) = signed(&signer(3), url, &key(&[]), b"{}");
        assert!(!done && headers.len() == 1, "a plain key: {headers:?}");
        let (done, headers, _) = signed(&signer(3), url, &bound(4), b"{}");
        assert!(!done && headers.len() == 1, "another holder's key: {headers:?}");
        for (seed, text, lacks) in [(3, bound(3), false), (3, bound(4), true), (3, key(&[]), false)] {
            let parsed = CreditKey::parse(&text).unwrap();
            assert_eq!(Signer::lacks(Some(&signer(seed)), &parsed).is_some(), lacks);
        }
        let parsed = CreditKey::parse(&bound(4)).unwrap();
        assert_eq!(Signer::lacks(None, &parsed), Some(signer(4).key.holder()));
        // Whoever signs by himself is left alone.
        let target = Target::parse(url).unwrap();
        let mut own = HeaderMap::new();
        own.insert("signature-input", HeaderValue::from_static("a=();created=1"));
        let agent = signer(3).as_agent("https://agent.example").unwrap();
        let unsent = Unsent { method: &Method::GET, target: &target, headers: &mut own, body: b"" };
        assert_eq!((agent.sign(unsent), own.len()), (Ok(false), 1));
    }

    /// IDN-13: two signatures, each for its own purpose.
    #[test]
    fn idn_13_an_agent_that_holds_a_key_signs_as_both() {
        assert!(signer(3).as_agent("http://agent.example").is_none());
        let agent = signer(3).as_agent("https://agent.example").unwrap();
        let (done, headers, target) = signed(&agent, "http://127.0.0.1:1/v1?x=1", &bound(3), b"{}");
        assert!(done);
        let wba = Profile::WebBotAuth { window_s: 480, needs_nonce: true };
        let holder = Profile::Holder { credential_fields: &["authorization"], has_body: true };
        assert!(proves(&headers, &target, Tag::WebBotAuth, wba, 3), "{headers:?}");
        assert!(proves(&headers, &target, Tag::Holder, holder, 3), "{headers:?}");
        let (_, headers, target) = signed(&agent, "http://127.0.0.1:1/v1", &key(&[]), b"{}");
        assert!(proves(&headers, &target, Tag::WebBotAuth, wba, 3), "without a key to hold too");
    }
}
