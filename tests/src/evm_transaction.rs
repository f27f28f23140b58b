//! Transactions of EVM chains as a node reads them: whose they are, and what they call.

use proof::eip712::keccak256;
use proof::secp::Signature;
use wire::x402::Address;

/// What a signed transaction of EIP-1559 says.
pub struct Transaction {
    /// Who signed it.
    pub from: Address,
    /// How many he has sent before.
    pub nonce: u64,
    /// The most that is paid per unit of gas.
    pub fee_per_gas: u64,
    /// The contract.
    pub to: Address,
    /// What it is called with.
    pub data: Vec<u8>,
}

impl Transaction {
    /// Reads it; panics where it is none.
    pub fn read(bytes: &[u8]) -> Self {
        let (kind, list) = bytes.split_first().unwrap();
        assert_eq!(*kind, 2);
        let items = items(content(list).0);
        let [.., parity, r, s] = items.as_slice() else { panic!("{items:?}") };
        let unsigned = items[..9].concat_items();
        let digest = keccak256(&[&[2], unsigned.as_slice()].concat());
        let mut signature = [0; 65];
        for (part, end) in [(r, 32), (s, 64)] {
            let part = content(part).0;
            signature[end - part.len()..end].copy_from_slice(part);
        }
        signature[64] = 27 + content(parity).0.first().copied().unwrap_or(0);
        let from = Signature::from_bytes(&signature).unwrap().recover(&digest).unwrap();
        let number = |item: &[u8]| content(item).0.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Self {
            from,
            nonce: number(&items[1]),
            fee_per_gas: number(&items[3]),
            to: Address(content(&items[5]).0.try_into().unwrap()),
            data: content(&items[7]).0.to_vec(),
        }
    }
}

/// What an item of RLP holds, and what follows it.
fn content(bytes: &[u8]) -> (&[u8], &[u8]) {
    let long = |kind: u8, base: u8| {
        let width = usize::from(kind - base);
        let length = bytes[1..=width].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        bytes[1 + width..].split_at(length)
    };
    match bytes[0] {
        0..=0x7f => bytes.split_at(1),
        kind @ 0x80..=0xb7 => bytes[1..].split_at(usize::from(kind - 0x80)),
        kind @ 0xb8..=0xbf => long(kind, 0xb7),
        kind @ 0xc0..=0xf7 => bytes[1..].split_at(usize::from(kind - 0xc0)),
        kind => long(kind, 0xf7),
    }
}

/// The items of a list, whole.
fn items(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    while !bytes.is_empty() {
        let rest = content(bytes).1;
        items.push(bytes[..bytes.len() - rest.len()].to_vec());
        bytes = rest;
    }
    items
}

trait ConcatItems {
    /// A list of these items.
    fn concat_items(&self) -> Vec<u8>;
}

impl ConcatItems for [Vec<u8>] {
    fn concat_items(&self) -> Vec<u8> {
        let members = self.concat();
        let length = members.len();
        let head = match length {
            0..=55 => vec![0xc0 + u8::try_from(length).unwrap()],
            56..=255 => vec![0xf8, u8::try_from(length).unwrap()],
            _ => [vec![0xf9], u16::try_from(length).unwrap().to_be_bytes().to_vec()].concat(),
        };
        [head, members].concat()
    }
}
