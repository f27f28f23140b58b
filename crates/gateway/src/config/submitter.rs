//! `rails.mpp.evm`: who sends permits to a chain (mpp `evm`/`charge` by Permit2). Beside it, what every key has to be that
//! sends transactions.

use std::time::Duration;

use proof::secp::SecretKey;
use wire::x402::{Address, test_keys};

use super::Mode;
use super::rail::{EvmNetwork, Network, Rails, X402, encrypted};
use super::secret::Secret32;
use super::section::{Keys, Section};
use super::url::BaseUrl;
use super::value;

/// Who sends permits to one chain, for whatever tokens of `rails.x402` are taken there.
#[derive(Clone, Debug)]
pub struct Submitter {
    /// CAIP-2.
    pub network: String,
    /// EIP-155.
    pub chain_id: u64,
    /// Signs the transactions and pays for them.
    pub key: Secret32,
    /// Its address: the spender that payers sign for.
    pub sender: Address,
    /// A node of the chain; that of `rails.x402` where none is written.
    pub rpc: BaseUrl,
    /// Most that is paid per unit of gas, in the chain's smallest unit; default 100 of its billions.
    pub fee_per_gas_max: u128,
    /// For one settlement: `settle_timeout` of `rails.x402`.
    pub settle_max: Duration,
}

const KEYS: Keys = Keys::secret(&["key", "rpc", "gwei_max"], &[]);
const GWEI: u128 = 1_000_000_000;
const GWEI_MAX: u32 = 100;

/// Reads the section; `others` has the chains that are paid on.
pub(super) fn read(mpp: &Section<'_>, others: &Rails) -> Vec<Submitter> {
    let path = mpp.path_of("evm");
    let section = mpp.get("evm").and_then(|node| Section::open_any(mpp.context, &path, node));
    let Some(section) = section else { return Vec::new() };
    let read = |(key, node): (&super::yaml::Key, _)| {
        let path = section.path_of(&key.text);
        let section = Section::open(mpp.context, &path, node, KEYS)?;
        let Some((x402, network)) = others.x402.as_ref().and_then(|x402| Some((x402, on(x402, &key.text)?)))
        else {
            let message =
                format!("{path}: no EVM chain of rails.x402.networks, which says what is paid there");
            mpp.context.report.add(key.span, message);
            return None;
        };
        submitter(&section, network, x402.settle_timeout)
    };
    section.entries().filter_map(read).collect()
}

fn on<'x>(x402: &'x X402, name: &str) -> Option<&'x EvmNetwork> {
    x402.networks.iter().find_map(|network| match network {
        Network::Evm(network) if network.network == name => Some(network),
        Network::Evm(_) | Network::Svm(_) => None,
    })
}

fn submitter(section: &Section<'_>, network: &EvmNetwork, settle_max: Duration) -> Option<Submitter> {
    let (key, sender) = sending_key(section, "who sends permits, and pays for it?")?;
    let rpc = section.value("rpc", |text| encrypted(text, "a node")).or_else(|| network.rpc.clone());
    if rpc.is_none() {
        section.missing(format!("{} needs \"rpc\": through which node does it send?", section.path));
    }
    let gwei = section.value("gwei_max", value::quota).map_or(GWEI_MAX, std::num::NonZeroU32::get);
    Some(Submitter {
        network: network.network.clone(),
        chain_id: network.chain_id,
        key,
        sender,
        rpc: rpc?,
        fee_per_gas_max: u128::from(gwei) * GWEI,
        settle_max,
    })
}

/// The `key` of a section that sends transactions, and its address.
pub(super) fn sending_key(section: &Section<'_>, why: &str) -> Option<(Secret32, Address)> {
    let Some(node) = section.get("key") else {
        section.missing(format!("{} needs \"key\": {why}", section.path));
        return None;
    };
    let path = section.path_of("key");
    let key = section.context.secret32(&path, node)?;
    let Ok(sender) = SecretKey::from_bytes(key.expose()).map(|key| key.address()) else {
        section.complain("key", format!("{path}: these 32 bytes are no secp256k1 key"));
        return None;
    };
    if section.context.mode == Mode::Live && test_keys::is_public(&sender) {
        section.complain("key", format!("{path}: this is a public test key; never use it in mode live"));
        return None;
    }
    Some((key, sender))
}
