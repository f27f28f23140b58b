//! `rails.x402.batch`: payment channels (x402.md 7.3).

use std::time::Duration;

use money::Amount;
use proof::secp::SecretKey;
use wire::x402::{Address, batch, test_keys};

use super::Mode;
use super::rail::{Network, X402Scheme};
use super::secret::Secret32;
use super::section::{Keys, Section};
use super::value;

/// What channels are opened on, and when what they owe is taken.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Signs claims and refunds: the `receiverAuthorizer` of every channel (X402-32). Not the key of `pay_to`.
    pub authorizer_key: Secret32,
    /// Its address.
    pub authorizer: Address,
    /// Seconds that a payer waits for a withdrawal, default one day: the time we have to take what is owed.
    pub withdraw_delay: u64,
    /// What a deposit should bring at least; stock clients then deposit that. Absent: five times a call's offer.
    pub min_deposit: Option<Amount>,
    /// A channel that owes more is claimed, default 1 USD.
    pub claim_above: Amount,
    /// A channel that owes anything and was not used for so long is claimed, default one hour.
    pub claim_idle: Duration,
}

/// The keys of `rails.x402.batch`.
pub(super) const KEYS: Keys =
    Keys::secret(&["authorizer_key", "withdraw_delay", "min_deposit", "claim_above", "claim_idle"], &[]);

const DAY_S: u64 = 24 * 3600;
const HOUR: Duration = Duration::from_secs(3600);
/// One dollar.
const USD_1: Amount = Amount::from_units(1_000_000_000);

/// Reads the section. None: there is none, or it cannot be used.
pub(super) fn read(x402: &Section<'_>) -> Option<Batch> {
    let section = x402.section("batch", KEYS)?;
    let delay = section.value("withdraw_delay", |text| {
        let delay = value::duration(text)?.as_secs();
        if (batch::WITHDRAW_DELAY_S_MIN..=batch::WITHDRAW_DELAY_S_MAX).contains(&delay) {
            return Ok(delay);
        }
        Err("is between 15 minutes and 30 days".to_owned())
    });
    let Some(node) = section.get("authorizer_key") else {
        section.missing(format!("{} needs \"authorizer_key\": who signs the claims?", section.path));
        return None;
    };
    let path = section.path_of("authorizer_key");
    let key = section.context.secret32(&path, node)?;
    let Ok(authorizer) = SecretKey::from_bytes(key.expose()).map(|key| key.address()) else {
        section.complain("authorizer_key", format!("{path}: these 32 bytes are no secp256k1 key"));
        return None;
    };
    if section.context.mode == Mode::Live && test_keys::is_public(&authorizer) {
        section.complain(
            "authorizer_key",
            format!("{path}: this is a public test key; never use it in mode live"),
        );
        return None;
    }
    Some(Batch {
        authorizer_key: key,
        authorizer,
        withdraw_delay: delay.unwrap_or(DAY_S),
        min_deposit: section.value("min_deposit", value::some_usd),
        claim_above: section.value("claim_above", value::usd).unwrap_or(USD_1),
        claim_idle: section.value("claim_idle", value::duration).unwrap_or(HOUR),
    })
}

/// Whether the section and the schemes agree, and nobody holds two keys of ours in one.
pub(super) fn fits(x402: &Section<'_>, batch: Option<&Batch>, schemes: &[X402Scheme], networks: &[Network]) {
    let is_offered = schemes.contains(&X402Scheme::Batch);
    if is_offered && x402.get("batch").is_none() {
        x402.missing("rails.x402: scheme batch-settlement needs \"batch\": { authorizer_key }");
    }
    if !is_offered && batch.is_some() {
        x402.complain("batch", "rails.x402.batch: scheme batch-settlement is not among the schemes");
    }
    let is_payee = |network: &Network| match network {
        Network::Evm(network) => batch.is_some_and(|batch| batch.authorizer == Address(network.pay_to)),
        Network::Svm(_) => false,
    };
    if networks.iter().any(is_payee) {
        let message = "rails.x402.batch.authorizer_key: this is the key of pay_to; what is paid there must not \
                       hang on a key that signs all the time";
        x402.complain("batch", message);
    }
}
