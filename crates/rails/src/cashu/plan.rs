//! A swap before it is asked for: which coins go, which come, all of it fixed before anything is sent.

use proof::cashu::{Output, OutputSeed, PointError, hash_to_curve, split, verify_proof};
use serde_json::Value;
use wire::cashu::mint::{BlindedMessage, Input, Swap};
use wire::cashu::{PROOFS_MAX, Point, Token};

use super::keysets::Keysets;

/// What is given and what is wanted for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// As the mint is asked.
    pub swap: Swap,
    /// Our coins to be, in the same order as its outputs.
    pub outputs: Vec<Output>,
}

/// Why a token cannot be swapped. Nobody was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The mint has no such keyset, none of this unit, or several that could be meant.
    #[error("keyset_unknown")]
    Keyset,
    /// The payer's evidence is of another key, coin or signature (CASHU-7).
    #[error("dleq_invalid")]
    Evidence,
    /// The mint's fee leaves nothing.
    #[error("mint_fee")]
    Fee,
    /// The mint signs nothing now, or cannot make up the amount.
    #[error("mint_has_no_keys")]
    NoKeys,
    /// Something is no point of the curve.
    #[error("point_invalid")]
    Point,
}

impl From<PointError> for PlanError {
    fn from(_: PointError) -> Self {
        Self::Point
    }
}

impl Plan {
    /// The swap of a whole token for coins of ours, which `payment` names: as much as its mint's fee leaves.
    ///
    /// # Errors
    /// [`PlanError`]
    pub fn new(
        token: &Token,
        keysets: &Keysets,
        seed: &OutputSeed,
        payment: &[u8; 32],
        now_s: u64,
    ) -> Result<Self, PlanError> {
        let mut inputs = Vec::new();
        for proof in &token.proofs {
            let keyset = keysets.meant(&proof.keyset).ok_or(PlanError::Keyset)?;
            let key = keyset.keys.get(&proof.amount).ok_or(PlanError::Keyset)?;
            if verify_proof(key, proof) == Some(false) {
                return Err(PlanError::Evidence);
            }
            inputs.push(Input {
                amount: proof.amount,
                id: keyset.id.to_text(),
                secret: proof.secret.clone(),
                signature: proof.signature.to_text(),
            });
        }
        let left = Self::left(token, keysets)?;
        let signing = keysets.signing(now_s).ok_or(PlanError::NoKeys)?;
        let amounts = split(left, &signing.keys, PROOFS_MAX).ok_or(PlanError::NoKeys)?;
        let outputs = seed.outputs(payment, &signing.id, &amounts)?;
        let swap = Swap { inputs, outputs: blinded(&outputs)? };
        Ok(Self { swap, outputs })
    }

    /// What the mint's fee leaves of a token.
    ///
    /// # Errors
    /// [`PlanError::Keyset`], [`PlanError::Fee`]
    pub fn left(token: &Token, keysets: &Keysets) -> Result<u64, PlanError> {
        let fee = keysets.fee(&token.proofs).ok_or(PlanError::Keyset)?;
        token.amount().checked_sub(fee).filter(|left| *left > 0).ok_or(PlanError::Fee)
    }

    /// A swap that was written down. None: it is not what was written.
    #[must_use]
    pub fn written(request: &str, outputs: Vec<Output>) -> Option<Self> {
        let value: Value = serde_json::from_str(request).ok()?;
        let swap: Swap = serde_json::from_value(value).ok()?;
        (swap.outputs == blinded(&outputs).ok()?).then_some(Self { swap, outputs })
    }

    /// As it is written down: with the payer's coins, which are money until it is done.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Objects of ours have text keys and no floats, so writing them cannot fail.
        serde_json::to_string(&self.swap).unwrap_or_default()
    }

    /// What comes, in units.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.outputs.iter().fold(0, |sum, output| sum.saturating_add(output.amount))
    }

    /// The points of what goes.
    pub(super) fn points(&self) -> Result<Vec<Point>, PointError> {
        self.swap.inputs.iter().map(|input| hash_to_curve(input.secret.as_bytes())).collect()
    }
}

fn blinded(outputs: &[Output]) -> Result<Vec<BlindedMessage>, PointError> {
    let message = |output: &Output| {
        let blinded = output.blinded()?.to_text();
        Ok(BlindedMessage { amount: output.amount, id: output.keyset.to_text(), blinded })
    };
    outputs.iter().map(message).collect()
}

#[cfg(test)]
mod tests {
    use proof::cashu::OutputSeed;
    use wire::cashu::{KeysetId, Point, Proof, Token};

    use super::super::keysets::{Keyset, Keysets};
    use super::{Plan, PlanError};

    /// Keys of 1, 2, 4 and 8, at half a unit for each coin.
    fn keysets() -> Keysets {
        let point = Point(proof::cashu::hash_to_curve(b"a key").unwrap().0);
        let keys = [1, 2, 4, 8].map(|amount| (amount, point)).into();
        let id = KeysetId::parse("009a1f293253e41e").unwrap();
        vec![Keyset { id, active: true, fee_ppk: 500, final_expiry: None, keys }].into()
    }

    fn token(amounts: &[u64], keyset: &str) -> Token {
        let keyset = KeysetId::parse(keyset).unwrap();
        let coin = |(place, amount): (usize, &u64)| Proof {
            amount: *amount,
            keyset,
            secret: format!("secret {place}"),
            signature: Point([2; 33]),
            dleq: None,
        };
        let proofs = amounts.iter().enumerate().map(coin).collect();
        Token { mint: "m".into(), unit: "sat".into(), proofs }
    }

    fn plan(amounts: &[u64], keyset: &str) -> Result<Plan, PlanError> {
        let seed = OutputSeed::new(&[1; 32]);
        Plan::new(&token(amounts, keyset), &keysets(), &seed, &[2; 32], 0)
    }

    #[test]
    fn cashu_9_10_what_goes_and_what_comes() {
        let plan = plan(&[8, 4, 1], "009a1f293253e41e").unwrap();
        let amounts: Vec<u64> = plan.swap.outputs.iter().map(|output| output.amount).collect();
        assert_eq!((plan.amount(), amounts), (11, vec![1, 2, 8]), "13 less 1.5, rounded up");
        assert_eq!(plan.swap.inputs.len(), 3);
        // As it is read after a crash, and not for other coins.
        let text = plan.to_text();
        assert_eq!(Plan::written(&text, plan.outputs.clone()), Some(plan.clone()));
        assert_eq!(Plan::written(&text, plan.outputs[1..].to_vec()), None);
        assert_eq!(Plan::written("{}", plan.outputs.clone()), None);
        assert!(!format!("{plan:?}").contains("secret 0"));
    }

    #[test]
    fn cashu_6_10_what_cannot_be_swapped() {
        let ours = "009a1f293253e41e";
        for (amounts, keyset, error) in [
            (&[1][..], ours, PlanError::Fee),
            (&[16], ours, PlanError::Keyset),
            (&[8], "009a1f293253e4ff", PlanError::Keyset),
        ] {
            assert_eq!(plan(amounts, keyset), Err(error), "{amounts:?}");
        }
        // More than the largest coins make up.
        assert_eq!(plan(&[8; 64], ours).map(|plan| plan.amount()), Ok(64 * 8 - 32));
    }
}
