//! Vouchers of sessions whose money lies in a contract of an EVM chain (mpp `tempo/session` v1 and v2, `evm/session`):
//! what a channel is called, what is signed, and by whom.

use wire::x402::Address;

use super::Signed;
use crate::eip712::{self, Domain, Separator, keccak256};
use crate::secp::{Signature, SignatureError};

/// Which contract keeps the channels; each has its own names and widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A contract of its own on Tempo.
    TempoV1,
    /// Tempo's own: a payload describes its channel.
    TempoV2,
    /// A contract on any EVM chain.
    Evm,
}

/// A contract that keeps channels, on its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escrow {
    protocol: Protocol,
    chain_id: u64,
    contract: Address,
    separator: Separator,
}

/// What a channel is made of: its hash is the channel's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Who filled it.
    pub payer: Address,
    /// Who takes from it.
    pub payee: Address,
    /// Who may take in the payee's name; zero: nobody. Version 2 only.
    pub operator: Address,
    /// What it holds.
    pub token: Address,
    /// The payer's choice.
    pub salt: [u8; 32],
    /// Who signs its vouchers; zero: the payer.
    pub authorized_signer: Address,
    /// Binds the channel to the transaction that opened it. Version 2 only.
    pub expiring_nonce_hash: [u8; 32],
}

impl Descriptor {
    /// Whose signature a voucher needs.
    #[must_use]
    pub fn signer(&self) -> Address {
        if self.authorized_signer == Address::ZERO { self.payer } else { self.authorized_signer }
    }
}

/// Why a voucher is not genuine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// More than the contract can count.
    #[error("sum is wider than the contract counts")]
    TooWide,
    /// Not canonical, or somebody else's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl Escrow {
    /// Where Tempo keeps the channels of version 2, on each of its chains.
    pub const TEMPO_V2: Address =
        Address([0x4d, 0x50, 0x50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

    /// A contract by what its vouchers are signed under.
    #[must_use]
    pub fn new(protocol: Protocol, chain_id: u64, contract: Address) -> Self {
        let name = match protocol {
            Protocol::TempoV1 => "Tempo Stream Channel",
            Protocol::TempoV2 => "TIP20 Channel Reserve",
            Protocol::Evm => "EVM Payment Channel",
        };
        let separator = Domain { name, version: "1", chain_id, verifying_contract: contract }.separator();
        Self { protocol, chain_id, contract, separator }
    }

    /// Which one it is.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// EIP-155 id of its chain.
    #[must_use]
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Where it stands.
    #[must_use]
    pub const fn contract(&self) -> &Address {
        &self.contract
    }

    /// The largest sum that the contract can count.
    #[must_use]
    pub const fn sum_max(&self) -> u128 {
        match self.protocol {
            Protocol::TempoV1 | Protocol::Evm => u128::MAX,
            Protocol::TempoV2 => (1 << 96) - 1,
        }
    }

    /// The id of a channel.
    #[must_use]
    pub fn channel_id(&self, channel: &Descriptor) -> [u8; 32] {
        let (payer, payee) = (eip712::address(&channel.payer), eip712::address(&channel.payee));
        let (token, signer) = (eip712::address(&channel.token), eip712::address(&channel.authorized_signer));
        let (escrow, chain) = (eip712::address(&self.contract), eip712::word(u128::from(self.chain_id)));
        let words = match self.protocol {
            Protocol::TempoV1 | Protocol::Evm => {
                vec![payer, payee, token, channel.salt, signer, escrow, chain]
            }
            Protocol::TempoV2 => {
                let operator = eip712::address(&channel.operator);
                let opened = channel.expiring_nonce_hash;
                vec![payer, payee, operator, token, channel.salt, signer, opened, escrow, chain]
            }
        };
        keccak256(words.as_flattened())
    }

    /// What is signed for a sum.
    #[must_use]
    pub fn digest(&self, channel_id: &[u8; 32], sum: u128) -> [u8; 32] {
        let type_text: &[u8] = match self.protocol {
            Protocol::TempoV1 | Protocol::Evm => b"Voucher(bytes32 channelId,uint128 cumulativeAmount)",
            Protocol::TempoV2 => b"Voucher(bytes32 channelId,uint96 cumulativeAmount)",
        };
        let words = [keccak256(type_text), *channel_id, eip712::word(sum)];
        self.separator.digest(&keccak256(words.as_flattened()))
    }

    /// Checks a voucher. `signer` is who was to sign when the channel was opened, never who the payload says (MPP-31).
    ///
    /// # Errors
    /// [`VoucherError`]; nothing was consumed.
    pub fn verify(
        &self,
        channel_id: &[u8; 32],
        sum: u128,
        signature: &str,
        signer: &Address,
    ) -> Result<Signed<[u8; 65]>, VoucherError> {
        if sum > self.sum_max() {
            return Err(VoucherError::TooWide);
        }
        let signature = Signature::parse_voucher(signature)?;
        signature.verify(&self.digest(channel_id, sum), signer)?;
        Ok(Signed { max_claimable: sum, signature: *signature.as_bytes() })
    }
}

/// What a contract is called with; each answers a call that stands in its own interface.
impl Escrow {
    /// Asks where a channel stands.
    #[must_use]
    pub fn state_call(&self, channel_id: &[u8; 32]) -> Vec<u8> {
        let name: &[u8] = match self.protocol {
            Protocol::TempoV1 | Protocol::Evm => b"getChannel(bytes32)",
            Protocol::TempoV2 => b"getChannelState(bytes32)",
        };
        call(name, &[*channel_id])
    }

    /// Takes what a voucher promises, all of it.
    #[must_use]
    pub fn settle_call(&self, id: &[u8; 32], channel: &Descriptor, signed: &Signed<[u8; 65]>) -> Vec<u8> {
        let sum = eip712::word(signed.max_claimable);
        match self.protocol {
            Protocol::TempoV1 | Protocol::Evm => {
                signed_call(b"settle(bytes32,uint128,bytes)", &[*id, sum], &signed.signature)
            }
            Protocol::TempoV2 => {
                let name = [b"settle(".as_slice(), DESCRIPTOR, b",uint96,bytes)"].concat();
                signed_call(&name, &[channel.words().as_slice(), &[sum]].concat(), &signed.signature)
            }
        }
    }

    /// Ends a channel: takes `capture` of what the voucher promises, in all, and gives the rest back. A contract of
    /// version 1 takes all of the promise, so it needs a voucher of just that.
    #[must_use]
    pub fn close_call(
        &self,
        id: &[u8; 32],
        channel: &Descriptor,
        signed: &Signed<[u8; 65]>,
        capture: u128,
    ) -> Vec<u8> {
        let sum = eip712::word(signed.max_claimable);
        match self.protocol {
            Protocol::TempoV1 | Protocol::Evm => {
                signed_call(b"close(bytes32,uint128,bytes)", &[*id, sum], &signed.signature)
            }
            Protocol::TempoV2 => {
                let name = [b"close(".as_slice(), DESCRIPTOR, b",uint96,uint96,bytes)"].concat();
                let words = [channel.words().as_slice(), &[sum, eip712::word(capture)]].concat();
                signed_call(&name, &words, &signed.signature)
            }
        }
    }

    /// Whether an end takes a part of what its voucher promises.
    #[must_use]
    pub const fn closes_in_part(&self) -> bool {
        match self.protocol {
            Protocol::TempoV1 | Protocol::Evm => false,
            Protocol::TempoV2 => true,
        }
    }
}

/// A descriptor as an interface names it.
const DESCRIPTOR: &[u8] = b"(address,address,address,address,bytes32,address,bytes32)";

impl Descriptor {
    fn words(&self) -> [[u8; 32]; 7] {
        [
            eip712::address(&self.payer),
            eip712::address(&self.payee),
            eip712::address(&self.operator),
            eip712::address(&self.token),
            self.salt,
            eip712::address(&self.authorized_signer),
            self.expiring_nonce_hash,
        ]
    }
}

fn call(name: &[u8], words: &[[u8; 32]]) -> Vec<u8> {
    let selector = keccak256(name);
    [&selector[..4], words.as_flattened()].concat()
}

/// A call whose last argument is a signature: bytes of any length stand behind the words, and a word says where.
fn signed_call(name: &[u8], words: &[[u8; 32]], signature: &[u8; 65]) -> Vec<u8> {
    let count = u128::try_from(words.len()).unwrap_or_default().saturating_add(1); // a handful of words
    let mut padded = [0; 96];
    padded[..65].copy_from_slice(signature);
    let place = eip712::word(count.saturating_mul(32));
    let words = [words, &[place, eip712::word(65)]].concat();
    [call(name, &words).as_slice(), &padded].concat()
}
