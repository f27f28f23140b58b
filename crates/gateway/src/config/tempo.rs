//! `rails.mpp.tempo`: sessions by vouchers on a payment channel of Tempo (mpp.md section 10.5).

use proof::voucher::evm::{Escrow, Protocol};
use wire::mpp::tempo::{CHAIN_ID, TEST_CHAIN_ID};
use wire::x402::Address;

use super::Mode;
use super::channel_terms::{self, ChannelTerms};
use super::network::address;
use super::rail::encrypted;
use super::secret::Secret32;
use super::section::{Keys, Section, joined};
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
    /// Who is paid.
    pub pay_to: Address,
    /// Signs the transactions that take what is owed and that close channels: the payee's key, or of version 2 that of
    /// an operator whom every channel names.
    pub key: Secret32,
    /// Its address.
    pub sender: Address,
    /// A node of the chain.
    pub rpc: BaseUrl,
    /// How its sums are counted, and what is asked of a channel.
    pub terms: ChannelTerms,
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
const KEYS: Keys = Keys::secret(&joined::<16>(&OWN_KEYS, &channel_terms::KEYS), &[]);
const OWN_KEYS: [&str; 7] = ["protocol", "chain_id", "escrow", "token", "pay_to", "key", "rpc"];

/// The most decimal places that a token of an EVM chain is taken with.
const DECIMALS_MAX: u32 = 18;

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
        pay_to,
        key,
        sender,
        rpc,
        terms: channel_terms::read(&section, DECIMALS_MAX),
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
