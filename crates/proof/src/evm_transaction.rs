//! Transactions of our own on EVM chains (EIP-1559): what they say, and our signature under it.

use wire::hex;
use wire::x402::Address;

use crate::eip712::keccak256;
use crate::secp::{SecretKey, SignatureError};

/// The byte that says which kind of transaction follows.
const KIND: u8 = 2;

/// A call of a contract that moves nothing of the chain's own coin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// EIP-155.
    pub chain_id: u64,
    /// How many the sender has sent before.
    pub nonce: u64,
    /// Paid to who makes the block, per unit of gas.
    pub tip_per_gas: u128,
    /// Most that is paid per unit of gas in all.
    pub fee_per_gas: u128,
    /// Most gas that it may use.
    pub gas: u64,
    /// The contract.
    pub to: Address,
    /// What is called, and with what.
    pub data: Vec<u8>,
}

/// A signed transaction, as a node takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTransaction {
    /// `0x` and its bytes.
    pub raw: String,
    /// `0x` and the hash that it is found by.
    pub hash: String,
}

impl Transaction {
    /// Signs it.
    ///
    /// # Errors
    /// [`SignatureError`] as [`SecretKey::sign`].
    pub fn sign(&self, key: &SecretKey) -> Result<SignedTransaction, SignatureError> {
        let members = self.members();
        let signature = key.sign(&keccak256(&typed(&members)))?;
        let bytes = signature.as_bytes();
        let parity = u128::from(bytes[64].saturating_sub(27));
        let (r, s) = (&bytes[..32], &bytes[32..64]);
        let raw = typed(&[members, number(parity), text(trimmed(r)), text(trimmed(s))].concat());
        Ok(SignedTransaction { hash: hex::encode_0x(&keccak256(&raw)), raw: hex::encode_0x(&raw) })
    }

    fn members(&self) -> Vec<u8> {
        let access_list = list(&[]);
        [
            number(u128::from(self.chain_id)),
            number(u128::from(self.nonce)),
            number(self.tip_per_gas),
            number(self.fee_per_gas),
            number(u128::from(self.gas)),
            text(self.to.as_bytes()),
            number(0),
            text(&self.data),
            access_list,
        ]
        .concat()
    }
}

fn typed(members: &[u8]) -> Vec<u8> {
    [vec![KIND], list(members)].concat()
}

/// RLP of a number: its bytes without leading zeros.
fn number(value: u128) -> Vec<u8> {
    text(trimmed(&value.to_be_bytes()))
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// RLP of bytes.
fn text(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [one] if *one < 0x80 => vec![*one],
        _ => headed(0x80, bytes),
    }
}

/// RLP of a list of what is RLP already.
fn list(members: &[u8]) -> Vec<u8> {
    headed(0xc0, members)
}

fn headed(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let head = match u8::try_from(bytes.len()) {
        Ok(short) if short < 56 => vec![kind.saturating_add(short)],
        Ok(_) | Err(_) => {
            let length = bytes.len().to_be_bytes();
            let length = trimmed(&length);
            let width = u8::try_from(length.len()).unwrap_or(8); // a length has at most 8 bytes
            [&[kind.saturating_add(55).saturating_add(width)], length].concat()
        }
    };
    [head.as_slice(), bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::{Transaction, headed, number, text};
    use crate::secp::SecretKey;
    use wire::hex;
    use wire::x402::Address;

    /// The examples of the Ethereum wiki.
    #[test]
    fn rlp() {
        assert_eq!(hex::encode(&text(b"dog")), "83646f67");
        assert_eq!(hex::encode(&text(b"")), "80");
        assert_eq!(hex::encode(&number(0)), "80");
        assert_eq!(hex::encode(&number(15)), "0f");
        assert_eq!(hex::encode(&number(1024)), "820400");
        assert_eq!(hex::encode(&headed(0xc0, &[text(b"cat"), text(b"dog")].concat())), "c88363617483646f67");
        let long = text(b"Lorem ipsum dolor sit amet, consectetur adipisicing elit");
        assert_eq!(hex::encode(&long[..4]), "b8384c6f");
        assert_eq!(hex::encode(&text(&[7; 1024])[..4]), "b9040007");
    }

    /// Made with viem 2.55.0.
    #[test]
    fn a_signed_transaction_is_what_another_signer_makes() {
        let key =
            SecretKey::parse("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80").unwrap();
        let transaction = Transaction {
            chain_id: 31337,
            nonce: 3,
            tip_per_gas: 1,
            fee_per_gas: 2_000_000_000,
            gas: 100_000,
            to: Address([0x4d; 20]),
            data: hex::decode("a9059cbb").unwrap(),
        };
        let signed = transaction.sign(&key).unwrap();
        assert_eq!(signed.raw, RAW);
        assert_eq!(signed.hash, HASH);
    }

    const RAW: &str = "0x02f86d827a6903018477359400830186a0944d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d8084a9059cbbc001a0\
                       1f0fc86aae230fc0946c4ca5d3feda700e43cf9603c9741af26b268c6c7e69dea05296dfdaddebffda7341308c\
                       ce03e8d70a61ce04d84e451ef399c83053204881";
    const HASH: &str = "0xcb524e28654cd37f29c3af8cbe0db54f256bdd4195f93de74f4613d4144fb674";
}
