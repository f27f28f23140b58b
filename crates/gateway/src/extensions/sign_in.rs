//! `sign-in-with-x`: a wallet that paid before opens its balance with a signature instead of another payment. Beside a
//! credit key it is the only way to a payer's change: his payments are public on the chain and open nothing twice
//! (X402-35, reference item 5).
//!
//! A nonce is ours by its MAC and opens once. Its key is made anew by each process: what was handed out before a restart
//! is worthless after it, so which nonces were used needs no disk.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use ledger::{AccountId, AccountRef, AccountState};
use proof::account_id;
use proof::siwx::{self, Host, NonceKey, SignedIn, SiwxError, Wallet};
use wire::rfc3339;
use wire::x402::siwx::{Answer, Challenge, Info, SIGN_IN_WITH_X, SignatureType, SupportedChain, VERSION};
use wire::x402::{Address, base58};

use super::switched_on;
use crate::challenge::Varying;
use crate::clock::Now;
use crate::config::{EvmNetwork, Network, SvmNetwork};
use crate::gate::Gate;
use crate::identity;
use crate::limits::{Running, Source};
use crate::payer::Payer;
use crate::payments::{change_key, key_header};
use crate::random;
use crate::refusal::{Code, Facts, Refusal};
use crate::snapshot::Snapshot;

/// Nonces remembered at most; beyond it nobody signs in until some are over. Only wallets with an account of ours use
/// them up, each as often as its account may call.
const NONCES_MAX: usize = 100_000;

/// The field of a wallet's answer.
const ANSWER: HeaderName = HeaderName::from_static(SIGN_IN_WITH_X);

/// Of a payer who signed in, in logs and receipts.
const PROTOCOL: &str = "sign-in";

/// What sign-in keeps as long as the process lives.
#[derive(Debug)]
pub(crate) struct SignIns {
    key: NonceKey,
    /// Used nonces with the time after which they need no keeping, in its order.
    used: Mutex<BTreeSet<(u64, [u8; 32])>>,
    /// Names this process in challenges that are bound by a key which outlives it.
    pub(crate) process: String,
}

impl Default for SignIns {
    fn default() -> Self {
        let process = wire::hex::encode(&random::bytes::<8>());
        Self { key: NonceKey::new(&random::bytes()), used: Mutex::default(), process }
    }
}

impl SignIns {
    /// Uses a nonce up.
    fn once(&self, signed: &SignedIn, now_s: u64) -> Result<(), Refusal> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while used.first().is_some_and(|(until_s, _)| *until_s < now_s) {
            used.pop_first();
        }
        if used.len() >= NONCES_MAX {
            let detail = "Too many wallets have signed in within a few minutes.";
            return Err(Refusal::new(Code::Overloaded, detail).retry_after(60));
        }
        if used.insert((signed.nonce_until_s, signed.nonce)) {
            return Ok(());
        }
        Err(refused(SiwxError::Nonce))
    }
}

/// The challenge for whoever wants `uri`.
pub(crate) fn challenge(gate: &Gate, snapshot: &Snapshot, uri: String, now: Now) -> Challenge {
    let terms = &snapshot.terms;
    let [nonce, issued_at] = fresh(gate, snapshot, now);
    challenge_of(&terms.domain, &terms.chains, [uri, nonce, issued_at])
}

/// The same for what is asked for, as it stands in a 402.
pub(super) fn declared(snapshot: &Snapshot, url: &str, varying: Varying<'_>) -> String {
    snapshot.terms.sign_in.fill(&[url, varying.nonce, varying.issued_at])
}

/// What no two challenges have in common: nonce and time.
pub(crate) fn fresh(gate: &Gate, snapshot: &Snapshot, now: Now) -> [String; 2] {
    // Shown to everybody, and ours by its MAC: being unlike all others is all that is asked of it.
    let nonce = gate.sign_ins.key.mint(&snapshot.terms.domain, random::name(), now.seconds());
    [nonce, rfc3339::format(now.seconds()).unwrap_or_default()]
}

/// A challenge of `domain` with URL, nonce and time.
pub(super) fn challenge_of(
    domain: &str,
    chains: &[String],
    [uri, nonce, issued_at]: [String; 3],
) -> Challenge {
    let info = Info {
        domain: domain.to_owned(),
        uri,
        statement: None,
        version: VERSION.to_owned(),
        nonce,
        issued_at,
        expiration_time: None,
        not_before: None,
        request_id: None,
        resources: None,
    };
    let chain = |chain: &String| SupportedChain {
        chain_id: chain.clone(),
        signature_type: if chain.starts_with("solana:") {
            SignatureType::Ed25519
        } else {
            SignatureType::Eip191
        },
        signature_scheme: None,
    };
    Challenge { info, supported_chains: chains.iter().map(chain).collect() }
}

/// Whether wallets may sign in.
pub(crate) fn is_on(snapshot: &Snapshot) -> bool {
    switched_on(snapshot).is_some_and(|on| on.sign_in)
}

/// A wallet's answer in a request, if sign-in is switched on.
pub(crate) fn answered<'h>(snapshot: &Snapshot, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
    is_on(snapshot).then(|| headers.get(ANSWER))?
}

/// A wallet's account, opened; it counts as calling until `running` goes.
pub(crate) struct Opened {
    pub(crate) payer: Payer,
    pub(crate) running: Running,
}

/// Opens the account of the wallet that answered.
///
/// # Errors
/// What a payment would help has status 402. Nothing was opened, and the nonce used up only where the account's
/// rate was not.
pub(crate) fn open(
    gate: &Gate,
    snapshot: &Snapshot,
    source: Source,
    value: &HeaderValue,
    now: Now,
) -> Result<Opened, Refusal> {
    open_to(gate, snapshot, source, verified(gate, snapshot, value, now), now)
}

/// Opens the account of a wallet that has shown itself, however it did, or says why not.
pub(crate) fn open_to(
    gate: &Gate,
    snapshot: &Snapshot,
    source: Source,
    signed: Result<SignedIn, Refusal>,
    now: Now,
) -> Result<Opened, Refusal> {
    let signed = signed.inspect_err(|_| {
        snapshot.limiters.count_invalid(source);
        gate.metrics.proof("sign-in", "bad");
    })?;
    gate.metrics.proof("sign-in", "good");
    // He gets nothing here (IDN-35); what he has left the operator gives back.
    if identity::is_payer_blocked(snapshot, &address(&signed.wallet)) {
        return Err(Refusal::new(Code::AgentBlocked, "This payer is not served here."));
    }
    let Some(account) = richest(gate, snapshot, &signed) else {
        return Err(no_account());
    };
    if gate.is_revoked([&account.id().0]) {
        return Err(Refusal::new(Code::KeyRevoked, "This wallet's account has been revoked."));
    }
    if account.state() != AccountState::Open {
        return Err(Refusal::new(Code::AccountFrozen, "This wallet's account is frozen: ask the operator."));
    }
    let running = snapshot.limiters.call(&account)?;
    gate.sign_ins.once(&signed, now.seconds()).inspect_err(|_| snapshot.limiters.count_invalid(source))?;
    Ok(Opened {
        payer: Payer { account, key: None, token: None, session: None, protocol: PROTOCOL },
        running,
    })
}

/// As its rail writes it.
fn address(wallet: &Wallet) -> String {
    match wallet {
        Wallet::Evm(address) => address.to_string(),
        Wallet::Svm(key) => base58::encode(key),
    }
}

/// The account of a payer who signed in.
pub(crate) fn wallet(payer: Option<&Payer>) -> Option<AccountId> {
    payer.filter(|payer| payer.protocol == PROTOCOL).map(|payer| payer.account.id())
}

/// Hands a credit key out with the answer to a call of a wallet that signed in, as with the answer to a payment; not
/// with one that asks for a payment.
pub(crate) fn hand_out<B>(
    gate: &Gate,
    account: Option<AccountId>,
    now: Now,
    answer: Result<Response<B>, Refusal>,
) -> Result<Response<B>, Refusal> {
    let account = account.filter(|_| !answer.as_ref().is_err_and(Refusal::is_payable));
    let key = account.and_then(|account| change_key(gate, account, now));
    let Some((name, value)) = key.and_then(|text| key_header(&text)) else { return answer };
    match answer {
        Ok(mut response) => {
            response.headers_mut().insert(name, value);
            Ok(response)
        }
        Err(refusal) => Err(refusal.header(name, value)),
    }
}

fn verified(gate: &Gate, snapshot: &Snapshot, value: &HeaderValue, now: Now) -> Result<SignedIn, Refusal> {
    let answer = value.to_str().ok().and_then(|text| Answer::parse(text).ok()).ok_or_else(|| {
        Refusal::new(Code::MalformedCredential, "The SIGN-IN-WITH-X header cannot be decoded.")
    })?;
    let chains: Vec<&str> = snapshot.terms.chains.iter().map(String::as_str).collect();
    let host = Host { domain: &snapshot.terms.domain, origin: &snapshot.public_url, chains: &chains };
    siwx::verify(&gate.sign_ins.key, &answer, &host, now.seconds()).map_err(refused)
}

/// The wallet's account with the most on it. One key signs for an address on every chain of its kind, so it opens what
/// was paid there too; revoked and frozen ones come last.
fn richest(gate: &Gate, snapshot: &Snapshot, signed: &SignedIn) -> Option<AccountRef> {
    let ids = accounts(snapshot, &signed.wallet);
    let found = ids.into_iter().filter_map(|id| gate.book.find_any(id));
    found.max_by_key(|account| {
        let usable = account.state() == AccountState::Open && !gate.is_revoked([&account.id().0]);
        (usable, account.available())
    })
}

/// Where the payments of a wallet go that come without a key.
fn accounts(snapshot: &Snapshot, wallet: &Wallet) -> Vec<AccountId> {
    let networks = snapshot.config.rails.x402.iter().flat_map(|x402| &x402.networks);
    let account = |network| match (network, wallet) {
        (&Network::Evm(EvmNetwork { ref network, ref token, .. }), Wallet::Evm(address)) => {
            Some(account_id::evm(network, address, &Address(token.address)))
        }
        (Network::Svm(SvmNetwork { network, mint, .. }), Wallet::Svm(key)) => {
            Some(account_id::svm(network, key, mint))
        }
        (Network::Evm(_), Wallet::Svm(_)) | (Network::Svm(_), Wallet::Evm(_)) => None,
    };
    networks.filter_map(account).map(AccountId).collect()
}

fn refused(error: SiwxError) -> Refusal {
    let detail = match error {
        SiwxError::Nonce => "This sign-in was used, or is not an answer to a challenge of ours.",
        SiwxError::TooOld | SiwxError::Expired => "This sign-in is too old.",
        SiwxError::Domain | SiwxError::Uri => "This sign-in is for another host.",
        SiwxError::Text
        | SiwxError::Chain
        | SiwxError::IssuedAt
        | SiwxError::Future
        | SiwxError::ExpirationTime
        | SiwxError::NotBefore
        | SiwxError::NotYetValid
        | SiwxError::Malformed
        | SiwxError::Signature => "This sign-in is not good.",
    };
    let reason = Facts { reason: Some(error.code().to_owned()), ..Facts::default() };
    Refusal::new(Code::ProofInvalid, detail).facts(reason)
}

fn no_account() -> Refusal {
    let reason = Facts { reason: Some("no_account".to_owned()), ..Facts::default() };
    let detail = "This wallet has paid nothing here yet, so there is no balance that it could open.";
    Refusal::new(Code::PaymentRequired, detail).facts(reason)
}

#[cfg(test)]
mod tests {
    use proof::siwx::{SignedIn, Wallet};
    use wire::x402::Address;

    use super::{NONCES_MAX, SignIns};
    use crate::refusal::Code;

    fn signed(number: u64, nonce_until_s: u64) -> SignedIn {
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&number.to_be_bytes());
        SignedIn { wallet: Wallet::Evm(Address([1; 20])), network: "eip155:1".into(), nonce, nonce_until_s }
    }

    /// X402-35, A24: once, and remembered exactly as long as it could be shown again.
    #[test]
    fn x402_35_a24_a_nonce_opens_once() {
        let all = SignIns::default();
        assert!(all.once(&signed(1, 400), 100).is_ok());
        assert_eq!(all.once(&signed(1, 400), 400).map_err(|no| no.code()), Err(Code::ProofInvalid));
        assert!(all.once(&signed(2, 500), 401).is_ok());
        assert_eq!(all.used.lock().unwrap().len(), 1, "what is over is forgotten");
    }

    #[test]
    fn a_full_memory_opens_nothing() {
        let all = SignIns::default();
        for number in 0..NONCES_MAX as u64 {
            assert!(all.once(&signed(number, 400), 100).is_ok());
        }
        let more = signed(NONCES_MAX as u64, 400);
        assert_eq!(all.once(&more, 400).map_err(|no| no.code()), Err(Code::Overloaded));
        assert!(all.once(&more, 401).is_ok());
    }
}
