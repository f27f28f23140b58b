//! x402 extensions: what a challenge offers beside payments, and what a payer brings back of it (x402.md section 8,
//! X402-34 to X402-37). Texts and signatures are `wire`'s and `proof`'s; here they meet a request.

pub(crate) mod discovery;
pub(crate) mod naming;
pub(crate) mod offers;
pub(crate) mod sign_in;

use std::io;

use ledger::AccountId;
use naming::PaymentName;
use serde::Serialize;
use serde_json::{Map, Value, json};
use wire::template::{MARKS, Template};
use wire::x402::{bazaar, extension, offer_receipt, payment_identifier, siwx};

use crate::challenge::{Ask, Varying};
use crate::clock::Now;
use crate::config::{self, Config, EvmNetwork, Network, SvmNetwork};
use crate::gate::Gate;
use crate::payments::Verified;
use crate::refusal::{Code, Facts, Refusal};
use crate::snapshot::Snapshot;

/// What the extensions of one configuration say about us.
#[derive(Debug)]
pub(crate) struct Terms {
    /// Host of the public address, with its port if it has one.
    domain: String,
    /// CAIP-2 names of the chains whose wallets may sign in.
    chains: Vec<String>,
    signer: offers::Signer,
    /// What a challenge says of signing in: URL, nonce, time.
    sign_in: Template,
}

impl Terms {
    pub(crate) fn new(config: &Config, public_url: &str) -> io::Result<Self> {
        let domain = public_url.split_once("://").map_or(public_url, |(_, host)| host).to_owned();
        let x402 = config.rails.x402.as_ref();
        let mut chains: Vec<String> = Vec::new();
        for network in x402.iter().flat_map(|x402| &x402.networks) {
            let (Network::Evm(EvmNetwork { network, .. }) | Network::Svm(SvmNetwork { network, .. })) =
                network;
            if !chains.contains(network) {
                chains.push(network.clone());
            }
        }
        let signer = offers::Signer::new(x402.and_then(|x402| x402.extensions.offer_receipt.as_ref()));
        let [uri, nonce, issued_at, _] = MARKS.map(str::to_owned);
        let marked = written(&sign_in::challenge_of(&domain, &chains, [uri, nonce, issued_at]));
        let odd = || io::Error::other("server.public_url or a network has characters that no text has");
        let sign_in = Template::new(&marked, 3).ok_or_else(odd)?;
        Ok(Self { domain, chains, signer, sign_in })
    }
}

/// The extensions that are switched on; none without x402.
pub(crate) fn switched_on(snapshot: &Snapshot) -> Option<&config::Extensions> {
    snapshot.config.rails.x402.as_ref().map(|x402| &x402.extensions)
}

/// An extension in a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) id: &'static str,
    /// JSON.
    pub(crate) entry: String,
    /// Whether it stays however long the header gets: a payer who does not see it would pay in vain.
    pub(crate) is_kept: bool,
}

impl Declared {
    const fn new(id: &'static str, entry: String) -> Self {
        Self { id, entry, is_kept: false }
    }
}

/// What a challenge says under `extensions`, the most useful first: what does not fit into the header is given up
/// from the back (X402-5). `accepts` are its offers, each as JSON, and `url` what they are for, escaped.
pub(crate) fn declared(
    gate: &Gate,
    snapshot: &Snapshot,
    ask: &Ask<'_>,
    accepts: &[String],
    url: &str,
    varying: Varying<'_>,
    now: Now,
) -> Vec<Declared> {
    let Some(on) = switched_on(snapshot) else { return Vec::new() };
    let mut all = Vec::new();
    if let Some(naming) = on.payment_identifier.filter(|_| ask.route(snapshot).is_some()) {
        let entry = written(&payment_identifier::declare(naming.is_required()));
        all.push(Declared { is_kept: naming.is_required(), ..Declared::new(payment_identifier::ID, entry) });
    }
    if ask.discovery
        && let Some(entry) = discovery::entry(snapshot, ask)
    {
        all.push(Declared::new(bazaar::ID, written(&entry)));
    }
    if on.sign_in {
        all.push(Declared::new(siwx::ID, sign_in::declared(snapshot, url, varying)));
    }
    if on.offer_receipt.is_some()
        && let Some(offers) = offers::promised(gate, snapshot, ask, accepts, now)
    {
        all.push(Declared::new(offer_receipt::ID, written(&json!({"info": offers}))));
    }
    all
}

/// The name that a genuine payment has, if any.
///
/// # Errors
/// It is missing or malformed; nothing was taken. A payment that was seen before is past that, as in [`check_echo`].
pub(crate) fn named(
    gate: &Gate,
    snapshot: &Snapshot,
    ask: &Ask<'_>,
    payment: &Verified,
    account: AccountId,
) -> Result<Option<PaymentName>, Refusal> {
    let (Some(on), Some(route)) = (switched_on(snapshot), ask.route(snapshot)) else { return Ok(None) };
    if payment.asks_for_refund() || !payment.is_x402() {
        return Ok(None);
    }
    match naming::read(on.payment_identifier, payment.extensions()) {
        Ok(name) => Ok(name
            .zip(payment.requirements())
            .and_then(|(name, offer)| PaymentName::new(account, &route.name, name, &offer, ask))),
        Err(_) if payment.is_known(gate)? => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// Holds what a genuine payment brings back of our extensions against what we said: it may add members, and may not
/// change or delete any.
///
/// # Errors
/// It does; nothing was taken. A payment that was seen before is past this: it is told what became of it, whatever the
/// configuration says by now, and never to pay again.
pub(crate) fn check_echo(
    gate: &Gate,
    snapshot: &Snapshot,
    ask: &Ask<'_>,
    payment: &Verified,
) -> Result<(), Refusal> {
    let Some(on) = switched_on(snapshot) else { return Ok(()) };
    let mut fixed = Map::new();
    if let Some(naming) = on.payment_identifier.filter(|_| ask.route(snapshot).is_some()) {
        fixed
            .insert(payment_identifier::ID.into(), object(payment_identifier::declare(naming.is_required())));
    }
    if let Some(entry) = discovery::entry(snapshot, ask) {
        fixed.insert(bazaar::ID.into(), object(entry));
    }
    if on.sign_in {
        // Nonce and time differ from one challenge to the next.
        let info =
            json!({"domain": snapshot.terms.domain, "uri": ask.url(snapshot), "version": siwx::VERSION});
        fixed.insert(siwx::ID.into(), json!({"info": info}));
    }
    if extension::echoes(&fixed, payment.extensions(), &[]) || payment.is_known(gate)? {
        return Ok(());
    }
    let reason = Facts { reason: Some(ECHO_MISMATCH.to_owned()), ..Facts::default() };
    let detail = "The payment brings an extension of the offer back altered.";
    Err(Refusal::new(Code::ProofInvalid, detail).facts(reason))
}

/// The deployed code of an echo that was altered.
const ECHO_MISMATCH: &str = "extension_echo_mismatch";

fn object<T: Serialize>(entry: T) -> Value {
    // Objects of ours have text keys and no floats, so writing them cannot fail.
    serde_json::to_value(entry).unwrap_or_default()
}

/// The same as text.
fn written<T: Serialize>(entry: &T) -> String {
    serde_json::to_string(entry).unwrap_or_default()
}
