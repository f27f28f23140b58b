//! Channels of Tempo's contracts, of both versions (specs/vouchers.md): what they are made of, and what their chain says of
//! them. [`presented`] reads credentials, [`taking`] takes what is owed and ends them.

mod presented;
mod taking;

use std::io;

use proof::eip712::keccak256;
use proof::evm_transaction::Transaction;
use proof::secp::SecretKey;
use proof::voucher::evm::{Descriptor, Escrow, Protocol};
use rails::{EvmNode, Parties};
use serde::{Deserialize, Serialize};
use wire::hex;
use wire::mpp::tempo;
use wire::template::{MARKS, Template};
use wire::x402::Address;

use super::chain::{NotWritten, Seen, Who, Written};
use super::presented::elsewhere;
use super::told;
use crate::config;
use crate::mpp;
use crate::refusal::Refusal;

/// What a payer has to wait on the chain for his money, in seconds.
pub(super) const GRACE_S: u64 = 900;

/// Its channels, as they are opened and ended here.
#[derive(Debug)]
pub(crate) struct Tempo {
    pub(crate) rules: config::Tempo,
    pub(crate) node: EvmNode,
    /// What a payer is asked of whose channels nothing is to be told.
    asked: Template,
}

/// What a channel is made of, as its record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Made {
    version: u8,
    chain_id: u64,
    escrow: Address,
    payer: Address,
    payee: Address,
    operator: Address,
    token: Address,
    #[serde(with = "bytes32")]
    salt: [u8; 32],
    authorized_signer: Address,
    #[serde(with = "bytes32")]
    expiring_nonce_hash: [u8; 32],
}

impl Made {
    fn of(escrow: &Escrow, channel: &Descriptor) -> Self {
        let Descriptor { payer, payee, operator, token, salt, authorized_signer, expiring_nonce_hash } =
            *channel;
        let version = match escrow.protocol() {
            Protocol::TempoV1 | Protocol::Evm => 1,
            Protocol::TempoV2 => 2,
        };
        let (chain_id, escrow) = (escrow.chain_id(), *escrow.contract());
        Self {
            version,
            chain_id,
            escrow,
            payer,
            payee,
            operator,
            token,
            salt,
            authorized_signer,
            expiring_nonce_hash,
        }
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor {
            payer: self.payer,
            payee: self.payee,
            operator: self.operator,
            token: self.token,
            salt: self.salt,
            authorized_signer: self.authorized_signer,
            expiring_nonce_hash: self.expiring_nonce_hash,
        }
    }

    /// The contract that keeps this channel, whichever keeps new ones by now.
    pub(super) fn escrow(&self) -> Escrow {
        let protocol = if self.version == 2 { Protocol::TempoV2 } else { Protocol::TempoV1 };
        Escrow::new(protocol, self.chain_id, self.escrow)
    }

    pub(super) const fn payer(&self) -> &Address {
        &self.payer
    }

    /// Whether channels like it are taken under these rules.
    pub(super) fn is_for(&self, rules: &config::Tempo) -> bool {
        let here = Self::of(&rules.escrow, &self.descriptor());
        *self == here
            && self.payee == rules.pay_to
            && self.token == rules.token
            && self.operator == rules.operator()
    }

    /// As a payload describes it.
    pub(super) fn told(&self) -> tempo::Descriptor {
        tempo::Descriptor {
            payer: self.payer.to_string(),
            payee: self.payee.to_string(),
            operator: self.operator.to_string(),
            token: self.token.to_string(),
            salt: hex::encode_0x(&self.salt),
            authorized_signer: self.authorized_signer.to_string(),
            expiring_nonce_hash: hex::encode_0x(&self.expiring_nonce_hash),
        }
    }

    pub(super) const fn chain_id(&self) -> u64 {
        self.chain_id
    }
}

impl Tempo {
    pub(crate) fn new(rules: &config::Tempo, node: EvmNode) -> io::Result<Self> {
        let asked = mpp::written(&presented::request(rules, MARKS[0], MARKS[1], None), 2)?;
        Ok(Self { rules: rules.clone(), node, asked })
    }

    /// Whether a channel is on the chain of our node.
    pub(super) const fn keeps(&self, made: &Made) -> bool {
        made.chain_id == self.rules.escrow.chain_id()
    }

    pub(super) async fn seen(&self, escrow: &Escrow, id: &[u8; 32]) -> Option<Seen> {
        let seen = self.node.session(escrow, id).await?;
        Some(Seen {
            deposit: seen.deposit,
            settled: seen.settled,
            close_requested_at: seen.close_requested_at,
            finalized: seen.finalized,
            who: seen.parties.map_or(Who::Unsaid, Who::Parties),
        })
    }

    /// What a channel is made of: of version 2 its id has said it, of version 1 the contract does.
    pub(super) fn made(&self, presented: Option<&super::Made>, seen: &Seen) -> Result<Made, Refusal> {
        match (self.rules.escrow.protocol(), presented, &seen.who) {
            (Protocol::TempoV2, Some(super::Made::Tempo(made)), _) => Ok(made.clone()),
            (Protocol::TempoV1 | Protocol::Evm, _, Who::Parties(parties)) => self.told_by_contract(parties),
            (Protocol::TempoV1 | Protocol::TempoV2 | Protocol::Evm, _, _) => Err(told::unseen()),
        }
    }

    /// Who is in a channel whose id is not told apart by its payload.
    fn told_by_contract(&self, parties: &Parties) -> Result<Made, Refusal> {
        let rules = &self.rules;
        if parties.payee != rules.pay_to || parties.token != rules.token {
            return Err(elsewhere("payee"));
        }
        let channel = Descriptor {
            payer: parties.payer,
            payee: parties.payee,
            operator: Address::ZERO,
            token: parties.token,
            salt: [0; 32],
            authorized_signer: parties.authorized_signer,
            expiring_nonce_hash: [0; 32],
        };
        Ok(Made::of(&rules.escrow, &channel))
    }

    pub(super) async fn write(&self, to: &Address, data: &[u8]) -> Result<Written, NotWritten> {
        let rules = &self.rules;
        let fees = self.node.fees(&rules.sender, to, data).await.map_err(NotWritten::Useless)?;
        let fees = fees.ok_or(NotWritten::Unable)?;
        let transaction = Transaction {
            chain_id: rules.escrow.chain_id(),
            nonce: fees.nonce,
            tip_per_gas: fees.fee_per_gas.min(1),
            fee_per_gas: fees.fee_per_gas,
            gas: fees.gas,
            to: *to,
            data: data.to_vec(),
        };
        let key = SecretKey::from_bytes(rules.key.expose()).map_err(|_| NotWritten::Unable)?;
        let signed = transaction.sign(&key).map_err(|_| NotWritten::Unable)?;
        Ok(Written { hash: signed.hash, raw: signed.raw, counts_until: fees.nonce })
    }
}

/// What a transaction is found by.
pub(super) fn hash_of(transaction: &str) -> String {
    let bytes = hex::decode(transaction.strip_prefix("0x").unwrap_or_default()).unwrap_or_default();
    hex::encode_0x(&keccak256(&bytes))
}

/// Sums that stand as `0x` and hexadecimal digits.
mod bytes32 {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use wire::hex;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode_0x(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode_0x_array(&text).map_err(|_| de::Error::custom("not 32 bytes of hexadecimal"))
    }
}
