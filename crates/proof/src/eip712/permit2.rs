//! What Permit2 signs: `PermitWitnessTransferFrom` with the witness of the contract that spends it.

use wire::x402::{Address, Permit, contracts};

use super::{Separator, address, hash_words, keccak256, word};

const DOMAIN_TYPE: &str = "EIP712Domain(string name,uint256 chainId,address verifyingContract)";
const PERMITTED_TYPE: &str = "TokenPermissions(address token,uint256 amount)";
const TYPE_BEFORE_WITNESS: &str =
    "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,";
const EXACT_WITNESS_TYPE: &str = "Witness(address to,uint256 validAfter)";
const UPTO_WITNESS_TYPE: &str = "Witness(address to,address facilitator,uint256 validAfter)";
const DEPOSIT_WITNESS_TYPE: &str = "DepositWitness(bytes32 channelId)";

/// The domain of the Permit2 contract, which has no version.
#[must_use]
pub fn permit2_separator(chain_id: u64) -> Separator {
    Separator(hash_words(&[
        keccak256(DOMAIN_TYPE.as_bytes()),
        keccak256(b"Permit2"),
        word(u128::from(chain_id)),
        address(&contracts::PERMIT2),
    ]))
}

/// The struct hash of a payment. A permit with a facilitator is one for `upto`, one without is for `exact`.
#[must_use]
pub fn permit_payment(permit: &Permit) -> [u8; 32] {
    let (to, valid_after) = (address(&permit.to), word(u128::from(permit.valid_after)));
    let (witness_type, witness) = match &permit.facilitator {
        None => {
            let words = [keccak256(EXACT_WITNESS_TYPE.as_bytes()), to, valid_after];
            (EXACT_WITNESS_TYPE, hash_words(&words))
        }
        Some(facilitator) => {
            let words = [keccak256(UPTO_WITNESS_TYPE.as_bytes()), to, address(facilitator), valid_after];
            (UPTO_WITNESS_TYPE, hash_words(&words))
        }
    };
    // Referenced types follow in alphabetical order.
    let type_text = transfer_type("Witness", &[PERMITTED_TYPE, witness_type]);
    transfer(&type_text, permit, witness)
}

/// The struct hash of a deposit into a channel; of the permit, payee and times before the deadline are not signed.
#[must_use]
pub fn permit_deposit(permit: &Permit, channel_id: &[u8; 32]) -> [u8; 32] {
    let witness = hash_words(&[keccak256(DEPOSIT_WITNESS_TYPE.as_bytes()), *channel_id]);
    let type_text = transfer_type("DepositWitness", &[DEPOSIT_WITNESS_TYPE, PERMITTED_TYPE]);
    transfer(&type_text, permit, witness)
}

/// How the witness of a charge of MPP is spelt in the type that is signed. The contract takes whichever it is handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargeSpelling {
    /// As EIP-712 encodes types: what wallets and their libraries sign.
    Encoded,
    /// As the draft prints it, with a space: what whoever hashes its text signs.
    Draft,
}

impl ChargeSpelling {
    /// Both, the likelier first.
    pub const ALL: [Self; 2] = [Self::Encoded, Self::Draft];

    const fn witness_type(self) -> &'static str {
        match self {
            Self::Encoded => "PaymentWitness(bytes32 challengeHash,string externalId)",
            Self::Draft => "PaymentWitness(bytes32 challengeHash, string externalId)",
        }
    }

    /// The end of the signed type, from the member `witness` on: what the contract is called with.
    #[must_use]
    pub fn type_end(self) -> String {
        type_end("PaymentWitness", &[self.witness_type(), PERMITTED_TYPE])
    }

    /// The struct hash of the witness.
    #[must_use]
    pub fn witness(self, challenge_hash: &[u8; 32], external_id: &str) -> [u8; 32] {
        let type_hash = keccak256(self.witness_type().as_bytes());
        hash_words(&[type_hash, *challenge_hash, keccak256(external_id.as_bytes())])
    }
}

/// The struct hash of a charge of MPP, by the struct hash of its witness. Of the permit, the payee is not signed.
#[must_use]
pub fn permit_charge(permit: &Permit, spelling: ChargeSpelling, witness: [u8; 32]) -> [u8; 32] {
    transfer(&format!("{TYPE_BEFORE_WITNESS}{}", spelling.type_end()), permit, witness)
}

fn transfer_type(witness: &str, referenced: &[&str; 2]) -> String {
    format!("{TYPE_BEFORE_WITNESS}{}", type_end(witness, referenced))
}

fn type_end(witness: &str, referenced: &[&str; 2]) -> String {
    format!("{witness} witness){}", referenced.concat())
}

fn transfer(type_text: &str, permit: &Permit, witness: [u8; 32]) -> [u8; 32] {
    hash_words(&[
        keccak256(type_text.as_bytes()),
        permitted(&permit.token, permit.amount),
        address(&permit.spender),
        permit.nonce,
        word(u128::from(permit.deadline)),
        witness,
    ])
}

fn permitted(token: &Address, amount: u128) -> [u8; 32] {
    hash_words(&[keccak256(PERMITTED_TYPE.as_bytes()), address(token), word(amount)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::hex;

    #[test]
    fn type_hashes_are_the_published_ones() {
        let exact = transfer_type("Witness", &[PERMITTED_TYPE, EXACT_WITNESS_TYPE]);
        let upto = transfer_type("Witness", &[PERMITTED_TYPE, UPTO_WITNESS_TYPE]);
        let deposit = transfer_type("DepositWitness", &[DEPOSIT_WITNESS_TYPE, PERMITTED_TYPE]);
        for (text, hash) in [
            (DOMAIN_TYPE, "8cad95687ba82c2ce50e74f7b754645e5117c3a5bec8151c0726d5857980a866"),
            (PERMITTED_TYPE, "618358ac3db8dc274f0cd8829da7e234bd48cd73c4a740aede1adec9846d06a1"),
            (EXACT_WITNESS_TYPE, "d97b3239a7f32295517bd14cb074edfdd188dfe5eb42f802bb26d4fd1eb12c37"),
            (UPTO_WITNESS_TYPE, "d4171c445a74218b01d4fd8af34ff1106580ea1e36ff837e64484bfaa2253b75"),
            (DEPOSIT_WITNESS_TYPE, "ba0000097e86dabe64178afe31109221193339a6861598f2133fcbdc92c84479"),
            (&exact, "ebc156cd23678a74c94df13d772ef5478420637f0c94bd10d509e1dc98f521c7"),
            (&upto, "51dff6974ad4388c499e7fcfe838d2bd767162553a144098ce20ea661d70c2ee"),
            (&deposit, "436a25c01a21a6ed025816c4c9ea3d6132aa879dd7ef16f6188dd3b0aebccc52"),
        ] {
            assert_eq!(hex::encode(&keccak256(text.as_bytes())), hash, "{text}");
        }
    }

    #[test]
    fn separators_are_the_contracts_own() {
        for (chain_id, separator) in [
            (8453, "3b6f35e4fce979ef8eac3bcdc8c3fc38fe7911bb0c69c8fe72bf1fd1a17e6f07"),
            (84532, "010f27a92fb9a32622f44f001dc4d15706a85b33499cfc2ce9033113ab26592c"),
        ] {
            assert_eq!(hex::encode(permit2_separator(chain_id).as_bytes()), separator);
        }
    }
}
