//! `rails.mpp.tempo`: sessions by vouchers on a payment channel of Tempo (mpp.md section 10.5).

use std::time::Duration;

use money::{Amount, Asset};
use proof::voucher::evm::{Escrow, Protocol};
use wire::mpp::tempo::{CHAIN_ID, TEST_CHAIN_ID};
use wire::x402::Address;

use super::Mode;
use super::network::{address, symbol};
use super::rail::encrypted;
use super::secret::Secret32;
use super::section::{Keys, Section};
use super::submitter::sending_key;
use super::url::BaseUrl;
use super::value;

/// What channels are opened on, and when what they owe is taken.
#[derive(Clone, Debug)]
pub struct Tempo {
    /// The contract that keeps the channels, and on which chain.
    pub escrow: Escrow,
    /// What they hold.
    pub token: Address,
    /// Decimal places of its unit, default 6.
    pub decimals: u32,
    /// What a voucher in it counts as, default USDC.
    pub asset: Asset,
    /// Who is paid.
    pub pay_to: Address,
    /// Signs the transactions that take what is owed and that close channels: the payee's key, or of version 2 that of
    /// an operator whom every channel names.
    pub key: Secret32,
    /// Its address.
    pub sender: Address,
    /// A node of the chain.
    pub rpc: BaseUrl,
    /// What a channel has to hold at least, default 0.01 USD.
    pub min_deposit: Amount,
    /// What clients are told to put in, default 1 USD.
    pub suggested_deposit: Amount,
    /// What a voucher has to add at least, default nothing.
    pub min_delta: Amount,
    /// Channels that one payer may have open, default 16.
    pub channels_per_payer: usize,
    /// A channel that owes more is settled, default 1 USD.
    pub claim_above: Amount,
    /// A channel that owes anything and was not used for so long is settled, default one hour.
    pub claim_idle: Duration,
    /// How often a channel that is used is looked at on its chain, default 30 s.
    pub look_every: Duration,
}

impl Tempo {
    /// Whom a channel has to name as its operator: whoever sends our transactions, where that is not the payee.
    #[must_use]
    pub fn operator(&self) -> Address {
        if self.sender == self.pay_to { Address::ZERO } else { self.sender }
    }

    /// CAIP-2.
    #[must_use]
    pub fn network(&self) -> String {
        format!("eip155:{}", self.escrow.chain_id())
    }
}

/// The keys of `rails.mpp.tempo`.
const KEYS: Keys = Keys::secret(
    &[
        "protocol",
        "chain_id",
        "escrow",
        "token",
        "decimals",
        "asset",
        "pay_to",
        "key",
        "rpc",
        "min_deposit",
        "suggested_deposit",
        "min_delta",
        "channels_per_payer",
        "claim_above",
        "claim_idle",
        "look_every",
    ],
    &[],
);

const HOUR: Duration = Duration::from_secs(3600);
const LOOK_EVERY: Duration = Duration::from_secs(30);
const USD_1: Amount = Amount::from_units(1_000_000_000);
const CENT: Amount = Amount::from_units(10_000_000);
const CHANNELS_PER_PAYER: u32 = 16;
const DECIMALS: u32 = 6;

/// Reads the section. None: there is none, or it cannot be used.
pub(super) fn read(mpp: &Section<'_>) -> Option<Tempo> {
    let section = mpp.section("tempo", KEYS)?;
    let mode = section.context.mode;
    let chain_id = section.value("chain_id", |text| chain(text, mode)).unwrap_or(match mode {
        Mode::Live => CHAIN_ID,
        Mode::Test => TEST_CHAIN_ID,
    });
    let protocol = section.value("protocol", protocol).unwrap_or(Protocol::TempoV2);
    let at = |key: &str| section.value(key, |text| address(text).map(Address));
    let contract = match (protocol, at("escrow")) {
        (_, Some(contract)) => contract,
        (Protocol::TempoV2, None) => Escrow::TEMPO_V2,
        (Protocol::TempoV1 | Protocol::Evm, None) => {
            section
                .missing("rails.mpp.tempo: protocol v1 needs \"escrow\": which contract keeps the channels?");
            return None;
        }
    };
    let required = |key: &str| section.required(key, |text| address(text).map(Address));
    let (token, pay_to) = (required("token"), required("pay_to"));
    let rpc = section.required("rpc", |text| encrypted(text, "a node"));
    let (key, sender) = sending_key(&section, "who takes what channels owe?")?;
    let (token, pay_to, rpc) = (token?, pay_to?, rpc?);
    if protocol == Protocol::TempoV1 && sender != pay_to {
        section.complain(
            "key",
            "rails.mpp.tempo.key: of version 1 only the payee can settle, and this is not its key",
        );
    }
    Some(Tempo {
        escrow: Escrow::new(protocol, chain_id, contract),
        token,
        decimals: section.value("decimals", decimals).unwrap_or(DECIMALS),
        asset: section.value("asset", symbol).unwrap_or(Asset::Usdc),
        pay_to,
        key,
        sender,
        rpc,
        min_deposit: section.value("min_deposit", value::usd).unwrap_or(CENT),
        suggested_deposit: section.value("suggested_deposit", value::some_usd).unwrap_or(USD_1),
        min_delta: section.value("min_delta", value::usd).unwrap_or_default(),
        channels_per_payer: usize::try_from(
            section.value("channels_per_payer", value::count).unwrap_or(CHANNELS_PER_PAYER),
        )
        .unwrap_or(usize::MAX),
        claim_above: section.value("claim_above", value::usd).unwrap_or(USD_1),
        claim_idle: section.value("claim_idle", value::duration).unwrap_or(HOUR),
        look_every: section.value("look_every", value::duration).unwrap_or(LOOK_EVERY),
    })
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "v1" => Ok(Protocol::TempoV1),
        "v2" => Ok(Protocol::TempoV2),
        _ => Err(format!("\"{text}\" is neither v1 nor v2")),
    }
}

/// Real money in mode live, test money in mode test, never mixed (reference item 41).
fn chain(text: &str, mode: Mode) -> Result<u64, String> {
    let id = u64::from(value::count(text)?);
    match (mode, id == CHAIN_ID) {
        (Mode::Live, true) | (Mode::Test, false) => Ok(id),
        (Mode::Live, false) => Err(format!("{id} is not Tempo's main network, and the mode is live")),
        (Mode::Test, true) => Err(format!("{id} moves real money, and the mode is test; set mode: live")),
    }
}

fn decimals(text: &str) -> Result<u32, String> {
    let decimals = value::count(text)?;
    if decimals <= 18 { Ok(decimals) } else { Err("is at most 18".to_owned()) }
}
