//! A Solana transaction as bytes: signatures, then the message they are over.
//!
//! Lengths are compact-u16: seven bits a byte, lowest first, in their shortest form.

use super::TRANSACTION_BYTES_MAX;

/// A transaction taken apart; nothing is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// One per signer, in the order of the message's keys; zeros where one is still missing.
    pub signatures: Vec<[u8; 64]>,
    /// What is signed.
    pub message_bytes: Vec<u8>,
    /// The same, taken apart.
    pub message: Message,
}

/// The message of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// How many of the keys sign; the first pays the fee.
    pub signers: usize,
    /// Accounts and programs, signers first.
    pub keys: Vec<[u8; 32]>,
    /// Bounds the transaction's life.
    pub recent_blockhash: [u8; 32],
    /// In order of execution.
    pub instructions: Vec<Instruction>,
}

/// One call of a program. Places are valid places in the message's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Place of the program's key.
    pub program: usize,
    /// Places of the accounts' keys.
    pub accounts: Vec<usize>,
    /// For the program.
    pub data: Vec<u8>,
}

/// Why bytes are no transaction we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// Cut short, too long, a length in a longer form than it needs, or a place beyond the keys.
    #[error("not a transaction")]
    Malformed,
    /// A message version we do not know.
    #[error("message version {0}")]
    Version(u8),
    /// Accounts that only a node can tell.
    #[error("transaction uses address lookup tables")]
    LookupTables,
}

impl Transaction {
    /// Reads a whole transaction and nothing behind it.
    ///
    /// # Errors
    /// [`TransactionError`]
    pub fn parse(bytes: &[u8]) -> Result<Self, TransactionError> {
        if bytes.len() > TRANSACTION_BYTES_MAX {
            return Err(TransactionError::Malformed);
        }
        let mut reader = Reader { rest: bytes };
        let signatures = reader.list(Reader::array)?;
        let message_bytes = reader.rest.to_vec();
        let message = Message::parse(reader)?;
        if signatures.len() != message.signers {
            return Err(TransactionError::Malformed);
        }
        Ok(Self { signatures, message_bytes, message })
    }

    /// The bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // At most 19 signatures fit into a transaction, so the length is one byte.
        let mut bytes = vec![u8::try_from(self.signatures.len()).unwrap_or(u8::MAX)];
        bytes.extend_from_slice(self.signatures.as_flattened());
        bytes.extend_from_slice(&self.message_bytes);
        bytes
    }
}

impl Message {
    fn parse(mut reader: Reader<'_>) -> Result<Self, TransactionError> {
        let first = reader.byte()?;
        let versioned = first & 0x80 != 0;
        if versioned && first != 0x80 {
            return Err(TransactionError::Version(first & 0x7f));
        }
        let signers = usize::from(if versioned { reader.byte()? } else { first });
        let [readonly_signers, readonly_others] = reader.array()?;
        let keys: Vec<[u8; 32]> = reader.list(Reader::array)?;
        let others = keys.len().checked_sub(signers).ok_or(TransactionError::Malformed)?;
        // The first signer pays the fee, so it is writable.
        if usize::from(readonly_signers) >= signers || usize::from(readonly_others) > others {
            return Err(TransactionError::Malformed);
        }
        let recent_blockhash = reader.array()?;
        let instructions = reader.list(|reader| reader.instruction(keys.len()))?;
        if versioned && reader.length()? != 0 {
            return Err(TransactionError::LookupTables);
        }
        if !reader.rest.is_empty() {
            return Err(TransactionError::Malformed);
        }
        Ok(Self { signers, keys, recent_blockhash, instructions })
    }

    /// The program an instruction calls.
    #[must_use]
    pub fn program(&self, instruction: &Instruction) -> Option<&[u8; 32]> {
        self.keys.get(instruction.program)
    }

    /// The account at a place of an instruction's list.
    #[must_use]
    pub fn account(&self, instruction: &Instruction, place: usize) -> Option<&[u8; 32]> {
        self.keys.get(*instruction.accounts.get(place)?)
    }
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, TransactionError> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TransactionError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(TransactionError::Malformed)?;
        self.rest = rest;
        Ok(*array)
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, TransactionError> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(TransactionError::Malformed)?;
        self.rest = rest;
        Ok(bytes.to_vec())
    }

    /// Two bytes are enough for every length in a transaction.
    fn length(&mut self) -> Result<usize, TransactionError> {
        let low = self.byte()?;
        if low & 0x80 == 0 {
            return Ok(usize::from(low));
        }
        match self.byte()? {
            high @ 1..=0x7f => Ok(usize::from(high) << 7 | usize::from(low & 0x7f)),
            _ => Err(TransactionError::Malformed),
        }
    }

    fn list<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, TransactionError>,
    ) -> Result<Vec<T>, TransactionError> {
        let count = self.length()?;
        // Every item has at least one byte.
        if count > self.rest.len() {
            return Err(TransactionError::Malformed);
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn instruction(&mut self, keys: usize) -> Result<Instruction, TransactionError> {
        let place = |reader: &mut Self| match usize::from(reader.byte()?) {
            place if place < keys => Ok(place),
            _ => Err(TransactionError::Malformed),
        };
        let program = place(self)?;
        let accounts = self.list(place)?;
        let length = self.length()?;
        Ok(Instruction { program, accounts, data: self.bytes(length)? })
    }
}

#[cfg(test)]
mod tests {
    use super::{Transaction, TransactionError as E};
    use crate::x402::svm::{SvmPayload, TRANSACTION_BYTES_MAX};
    use crate::x402::{base58, facilitator, v2};
    use crate::{base64, hex};
    use proptest::prelude::*;
    use serde_json::Value;

    fn flow() -> Value {
        serde_json::from_str(include_str!("../../../../../specs/vectors/x402/v2_exact_svm.json")).unwrap()
    }

    fn captured() -> Vec<u8> {
        let payload = &flow()["steps"][1]["decoded"]["payment-signature"]["payload"];
        let text = SvmPayload::from_value(payload).unwrap().transaction;
        base64::decode_any(&text, 2048).unwrap()
    }

    #[test]
    fn the_captured_transaction_is_taken_apart() {
        let flow = flow();
        let payment: v2::PaymentPayload =
            serde_json::from_value(flow["steps"][1]["decoded"]["payment-signature"].clone()).unwrap();
        let transaction = SvmPayload::from_value(&payment.payload).unwrap().transaction().unwrap();
        assert_eq!(transaction.to_bytes(), captured());
        assert_eq!(captured().len(), 496);
        assert_eq!(transaction.signatures[0], [0; 64]);
        let message = &transaction.message;
        assert_eq!((message.signers, message.keys.len()), (2, 8));
        assert_eq!(base58::encode(&message.keys[0]), flow["feePayer"]["address"].as_str().unwrap());
        assert_eq!(base58::encode(&message.keys[1]), flow["payer"]["address"].as_str().unwrap());
        let data: Vec<String> = message.instructions.iter().map(|each| hex::encode(&each.data)).collect();
        assert_eq!(data[..3], ["02204e0000", "030100000000000000", "0c102700000000000006"]);
        assert_eq!(message.instructions[2].accounts, [2, 4, 3, 1]);
        assert_eq!(message.instructions[3].data.len(), 32);
        let token = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
        assert_eq!(base58::encode(message.program(&message.instructions[2]).unwrap()), token);
        for call in flow["facilitator"].as_array().unwrap() {
            let request: facilitator::SettleRequest =
                serde_json::from_value(call["request"].clone()).unwrap();
            assert_eq!(serde_json::to_value(request).unwrap(), call["request"]);
        }
    }

    #[test]
    fn parse_table() {
        let good = captured();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let message = 1 + 2 * 64;
        for (what, bytes, expected) in [
            ("nothing", vec![], E::Malformed),
            ("cut short", good[..495].to_vec(), E::Malformed),
            ("something behind", [good.clone(), vec![0]].concat(), E::Malformed),
            ("lookup tables", with(495, 1), E::LookupTables),
            ("version 1", with(message, 0x81), E::Version(1)),
            ("three signers", with(message + 1, 3), E::Malformed),
            ("no writable signer", with(message + 2, 2), E::Malformed),
            ("more readonly than keys", with(message + 3, 7), E::Malformed),
            ("one signature", with(0, 1), E::Malformed),
            ("program beyond the keys", with(message + 4 + 1 + 8 * 32 + 32 + 1, 8), E::Malformed),
            (
                "a length in two bytes that fits one",
                [vec![0x82, 0x00], good[1..].to_vec()].concat(),
                E::Malformed,
            ),
            ("longer than a transaction", vec![0; TRANSACTION_BYTES_MAX + 1], E::Malformed),
        ] {
            assert_eq!(Transaction::parse(&bytes), Err(expected), "{what}");
        }
        let text = "A".repeat(TRANSACTION_BYTES_MAX * 2);
        assert_eq!(SvmPayload { transaction: text }.transaction(), Err(E::Malformed));
        // The older form of message has no version byte and no tables.
        let mut legacy = good[..message].to_vec();
        legacy.extend_from_slice(&good[message + 1..495]);
        assert_eq!(Transaction::parse(&legacy).unwrap().message, Transaction::parse(&good).unwrap().message);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_transaction_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Transaction::parse(&bytes);
        }

        #[test]
        fn a_changed_byte_is_a_transaction_or_an_error(at in 0usize..496, to in any::<u8>()) {
            let mut bytes = captured();
            bytes[at] = to;
            if let Ok(transaction) = Transaction::parse(&bytes) {
                prop_assert_eq!(transaction.to_bytes(), bytes);
            }
        }
    }
}
