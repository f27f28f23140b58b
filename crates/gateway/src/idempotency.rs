//! Requests that may arrive twice and must be charged once: those that name themselves in `Idempotency-Key`, those whose
//! payment has a name (X402-34), and those that an SDK repeats by itself (LED-24, MTR-39..41).
//!
//! A name counts within the account that pays, so nobody reaches what another was told. What is stored is
//! the status, our headers and the receipt; the body is in memory for a while (reference item 39).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use ledger::AccountId;
use sha2::{Digest, Sha256};
use store::{Idempotent, Outcome};

use crate::call_id::CallId;
use crate::claims::Claim;
use crate::clock::Now;
use crate::config::Dedupe;
use crate::extensions::naming::{self, PaymentName};
use crate::gate::Gate;
use crate::identity;
use crate::payments::store_refusal;
use crate::refusal::{Code, Money, Refusal};
use crate::replays::Head;
use crate::retries::{self, Repeated, Verdict};

const KEY_FIELD: &str = "idempotency-key";
const RETRY_FIELD: &str = "x-stainless-retry-count";
/// Longest key, in characters.
const KEY_CHARS_MAX: usize = 255;

/// How a request says that it may have been sent before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Naming {
    /// SHA-256 of its idempotency key.
    key: Option<[u8; 32]>,
    /// Which try of an SDK it is, from 0.
    tries: Option<u32>,
    /// The name of the payment that came with it (X402-34).
    payment: Option<PaymentName>,
    /// The signature that debits an account (IDN-22).
    debit: Option<[u8; 32]>,
}

impl Naming {
    /// Reads the head of a request.
    ///
    /// # Errors
    /// A key that is empty, too long, or not of visible ASCII.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let bad = || {
            let detail = "An Idempotency-Key has 1 to 255 visible ASCII characters.";
            Refusal::new(Code::BadRequest, detail)
        };
        let (mut key, mut tries) = (None, None);
        // In one pass: each look by name is a hash of it, and most heads have neither. Of two lines the first counts.
        for (name, value) in headers {
            match name.as_str() {
                KEY_FIELD => key = key.or(Some(value.as_bytes())),
                RETRY_FIELD => tries = tries.or(Some(value)),
                _ => {}
            }
        }
        let key = match key {
            None => None,
            Some(key) if key.is_empty() || key.len() > KEY_CHARS_MAX => return Err(bad()),
            Some(key) if !key.iter().all(u8::is_ascii_graphic) => return Err(bad()),
            Some(key) => Some(Sha256::digest(key).into()),
        };
        let tries = tries.and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Self { key, tries, payment: None, debit: None })
    }

    /// The same, of a request that a signature debits an account for: that counts once.
    pub(crate) const fn debited_by(mut self, debit: [u8; 32]) -> Self {
        self.debit = Some(debit);
        self
    }

    pub(crate) const fn has_key(&self) -> bool {
        self.key.is_some()
    }
}

/// A request that is going to be charged, as it may be asked again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) naming: Naming,
    pub(crate) fingerprint: [u8; 32],
}

impl Asked {
    /// The same, with the name of its payment.
    pub(crate) fn paid_as(mut self, name: PaymentName) -> Self {
        self.naming.payment = Some(name);
        self
    }

    /// Every name that it gives itself.
    fn names(&self, account: AccountId) -> impl Iterator<Item = Name> {
        let key = self.naming.key.map(|key| Name {
            id: within("farthing/idempotency/1", account, &key),
            fingerprint: self.fingerprint,
            conflict: mismatch,
        });
        let payment = self.naming.payment.map(|name| Name {
            id: name.key,
            fingerprint: name.fingerprint,
            conflict: naming::conflict,
        });
        let debit = self.naming.debit.map(|debit| Name {
            id: within("farthing/crawl/1", account, &debit),
            fingerprint: self.fingerprint,
            conflict: identity::debited_otherwise,
        });
        key.into_iter().chain(payment).chain(debit)
    }
}

/// Under what a request is known by one of its names.
struct Name {
    id: [u8; 32],
    /// Of what the name stands for.
    fingerprint: [u8; 32],
    /// The refusal of what it does not stand for.
    conflict: fn() -> Refusal,
}

/// Names a request: the same bytes again are the same request.
pub(crate) fn fingerprint(method: &Method, target: &str, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(b"farthing/request/1");
    for part in [method.as_str().as_bytes(), target.as_bytes(), body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A name within an account. Every part has a fixed length.
fn within(label: &str, account: AccountId, name: &[u8; 32]) -> [u8; 32] {
    Sha256::new_with_prefix(label).chain_update(account.0).chain_update(name).finalize().into()
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It runs.
    Runs(Attempt),
    /// It ran before and was charged.
    Ended(Before),
}

/// How a call ended that is asked for again.
#[derive(Debug)]
pub(crate) struct Before {
    call: CallId,
    /// Of ours, as stored.
    headers: Vec<(String, String)>,
}

impl From<Outcome> for Before {
    fn from(outcome: Outcome) -> Self {
        Self { call: CallId(outcome.call), headers: outcome.headers }
    }
}

impl Before {
    /// The answer again.
    ///
    /// # Errors
    /// The body is no longer kept: a refusal that names the receipt.
    pub(crate) fn answer(self, gate: &Gate, route: &str) -> Result<Response<Bytes>, Refusal> {
        let Some(kept) = gate.replays.find(self.call) else { return Err(self.receipt()) };
        gate.metrics.request(route, "replayed");
        Ok(kept)
    }

    /// What is on disk of it.
    pub(crate) fn receipt(self) -> Refusal {
        let detail = "This very request has been served and charged; its answer is no longer kept.";
        let refusal = Refusal::new(Code::AlreadyServed, detail).money(Money::Captured(self.call));
        self.headers.iter().fold(refusal, |refusal, (name, value)| {
            match (HeaderName::try_from(name), HeaderValue::from_str(value)) {
                (Ok(name), Ok(value)) => refusal.header(name, value),
                _ => refusal,
            }
        })
    }
}

/// A call that runs. Dropped without [`Attempt::ended`], it leaves nothing behind: it cost nothing and may run
/// again.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Where the outcome is stored, and for what; nowhere if only memory remembers it.
    stored: Vec<Place>,
    /// Of its names.
    claims: Vec<Claim>,
    retry: Option<retries::Attempt>,
}

#[derive(Debug)]
struct Place {
    id: [u8; 32],
    fingerprint: [u8; 32],
    expires_s: u64,
}

impl Attempt {
    /// Whether it has a name.
    pub(crate) const fn is_named(&self) -> bool {
        !self.claims.is_empty()
    }

    /// Whether its outcome goes to the disk.
    pub(crate) const fn is_stored(&self) -> bool {
        !self.stored.is_empty()
    }

    /// The call has ended and is charged, or was served for nothing. The outcome is to be written with the
    /// charge, and the claims let go when that is on disk.
    pub(crate) fn ended(self, outcome: &Outcome) -> (Vec<([u8; 32], Idempotent)>, Vec<Claim>) {
        let Self { stored, claims, retry } = self;
        if let Some(retry) = retry {
            retry.charged(CallId(outcome.call));
        }
        let row = |Place { id, fingerprint, expires_s }| {
            (id, Idempotent { fingerprint, outcome: outcome.clone(), expires_s })
        };
        (stored.into_iter().map(row).collect(), claims)
    }
}

/// Whether a request of `account` runs. Nothing was taken for it so far.
///
/// # Errors
/// It runs already, or one of its names was used for another request.
pub(crate) fn begin(
    gate: &Gate,
    dedupe: &Dedupe,
    account: AccountId,
    asked: Asked,
    now: Now,
) -> Result<Begun, Refusal> {
    let mut names = asked.names(account).peekable();
    if names.peek().is_none() {
        return begin_unnamed(gate, dedupe, account, asked, now);
    }
    begin_named(gate, dedupe, names, now)
}

fn begin_named(
    gate: &Gate,
    dedupe: &Dedupe,
    names: impl Iterator<Item = Name>,
    now: Now,
) -> Result<Begun, Refusal> {
    let expires_s = now.seconds().saturating_add(dedupe.idempotency_key.as_secs());
    let (mut places, mut claims, mut ended) = (Vec::new(), Vec::new(), None);
    for Name { id, fingerprint, conflict } in names {
        let taken = gate.claims.take(id, fingerprint);
        claims.push(taken.map_err(|running| {
            if running.fingerprint == fingerprint { in_progress() } else { conflict() }
        })?);
        // The claim goes only when the outcome is on disk: whoever has it sees what there is.
        match stored(gate, &id, now)? {
            Some(before) if before.fingerprint != fingerprint => return Err(conflict()),
            Some(before) => ended = ended.or(Some(before.outcome)),
            None => places.push(Place { id, fingerprint, expires_s }),
        }
    }
    Ok(match ended {
        Some(before) => Begun::Ended(before.into()),
        None => Begun::Runs(Attempt { stored: places, claims, retry: None }),
    })
}

/// Every call is remembered for its retry. What an SDK sends is remembered on disk as well, in the write of
/// its charge, because an SDK repeats a call whose gateway has been killed.
fn begin_unnamed(
    gate: &Gate,
    dedupe: &Dedupe,
    account: AccountId,
    asked: Asked,
    now: Now,
) -> Result<Begun, Refusal> {
    let Asked { naming, fingerprint } = asked;
    let on_disk = || within("farthing/retry/1", account, &fingerprint);
    let is_retry = naming.tries.is_some_and(|tries| tries > 0);
    let (attempt, unheard_of) =
        match gate.retries.begin(Repeated { account, fingerprint }, is_retry, dedupe.sdk_retry) {
            Verdict::InFlight => return Err(in_progress()),
            Verdict::Charged(call) => {
                let written = stored(gate, &on_disk(), now)?.filter(|before| before.outcome.call == call.0);
                let headers = written.map_or_else(Vec::new, |before| before.outcome.headers);
                return Ok(Begun::Ended(Before { call, headers }));
            }
            Verdict::Runs { attempt, unheard_of } => (attempt, unheard_of),
        };
    if is_retry
        && unheard_of
        && let Some(before) = stored(gate, &on_disk(), now)?
    {
        attempt.charged(CallId(before.outcome.call));
        return Ok(Begun::Ended(before.outcome.into()));
    }
    let expires_s = now.seconds().saturating_add(dedupe.sdk_retry.as_secs());
    let stored = naming.tries.map(|_| Place { id: on_disk(), fingerprint, expires_s });
    let stored = stored.into_iter().collect();
    Ok(Begun::Runs(Attempt { stored, claims: Vec::new(), retry: Some(attempt) }))
}

fn stored(gate: &Gate, id: &[u8; 32], now: Now) -> Result<Option<Idempotent>, Refusal> {
    let found = gate.store.reader().idempotent(id).map_err(|error| store_refusal(&error))?;
    Ok(found.filter(|found| now.seconds() < found.expires_s))
}

/// Headers of ours that are stored with an outcome.
pub(crate) fn headers_to_store(head: &Head) -> Vec<(String, String)> {
    const STORED: [&str; 4] =
        ["farthing-price", "farthing-clamped", "payment-response", "x-payment-response"];
    let found = STORED.iter().filter_map(|name| Some((name, head.texts(name).next()?)));
    found.map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect()
}

fn in_progress() -> Refusal {
    Refusal::new(Code::InProgress, "This very request is being served.")
        .money(Money::FirstAttemptDecides)
        .retry_after(1)
}

fn mismatch() -> Refusal {
    Refusal::new(Code::IdempotencyMismatch, "This Idempotency-Key was used for another request.")
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method, StatusCode};
    use ledger::AccountId;

    use super::{Naming, fingerprint, headers_to_store, within};
    use crate::refusal::Code;
    use crate::replays::Head;

    fn read(name: &'static str, value: &[u8]) -> Result<Naming, Code> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value).unwrap());
        Naming::read(&headers).map_err(|refusal| refusal.code())
    }

    /// LED-24.
    #[test]
    fn a_key_is_a_short_visible_text() {
        for (key, good) in [
            (&b"k"[..], true),
            (&b"8e03978e-40d5-43dd-bc93-6894a57f9324"[..], true),
            (&b"\"quoted\""[..], true),
            (&[b'~'; 255], true),
            (&[b'~'; 256], false),
            (b"", false),
            (b"a b", false),
            (b"a\tb", false),
            (b"k\xc3\xa9", false),
        ] {
            let read = read("idempotency-key", key);
            assert_eq!(read.is_ok(), good, "{key:?}");
            assert!(good || read == Err(Code::BadRequest));
        }
        assert_ne!(read("idempotency-key", b"a"), read("idempotency-key", b"A"));
    }

    #[test]
    fn what_is_no_count_of_tries_is_ignored() {
        for (value, tries) in
            [("0", Some(0)), ("2", Some(2)), ("-1", None), ("x", None), ("", None), ("4294967296", None)]
        {
            let naming = read("x-stainless-retry-count", value.as_bytes()).unwrap();
            assert_eq!((naming.tries, naming.key), (tries, None), "{value}");
        }
    }

    #[test]
    fn a_fingerprint_tells_parts_apart() {
        let a = fingerprint(&Method::POST, "/a", b"bc");
        assert_ne!(a, fingerprint(&Method::POST, "/ab", b"c"));
        assert_ne!(a, fingerprint(&Method::PUT, "/a", b"bc"));
        assert_eq!(a, fingerprint(&Method::POST, "/a", b"bc"));
    }

    /// Agent A can never see what B was told: a name is one of an account.
    #[test]
    fn a_name_counts_within_its_account() {
        let (a, b) = (AccountId([1; 16]), AccountId([2; 16]));
        let name = [7; 32];
        assert_ne!(within("farthing/idempotency/1", a, &name), within("farthing/idempotency/1", b, &name));
        assert_ne!(within("farthing/idempotency/1", a, &name), within("farthing/retry/1", a, &name));
    }

    #[test]
    fn no_key_is_stored() {
        let mut headers = HeaderMap::new();
        for name in ["farthing-key", "farthing-price", "payment-response", "set-cookie", "farthing-balance"] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        let head = Head::copy(StatusCode::OK, &headers, |_| true);
        let stored: Vec<String> = headers_to_store(&head).into_iter().map(|(name, _)| name).collect();
        assert_eq!(stored, ["farthing-price", "payment-response"]);
    }
}
