//! The swap itself, and finding out what became of one (NUT-03, NUT-07, NUT-09).

use proof::cashu::{Output, unblind, verify_blind};
use wire::cashu::mint::{
    self, BlindSignature, CheckState, KEYSET_INACTIVE, MintError, Restore, Restored, Standing, States,
    UNBALANCED,
};
use wire::cashu::{Dleq, KeysetId, Point, Proof};
use wire::hex;

use super::keysets::Keyset;
use super::plan::Plan;
use super::{Mint, read};
use crate::ExchangeError;

/// What became of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// These coins are ours, each signed by the key of its amount.
    Settled(Vec<Proof>),
    /// The payer's coins are no good, or somebody was faster. Nothing came of it and nothing will.
    Refused(Said),
    /// Nothing was done: the payer's coins are unharmed. `stale`: what is known of the mint is no longer so.
    Not {
        /// Ask it for its keysets again.
        stale: bool,
    },
    /// Nobody knows: ask again, with the same plan. `is_fault`: the mint has contradicted itself.
    Unknown {
        /// It said what cannot be.
        is_fault: bool,
    },
}

/// Why a mint refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The coins were spent before.
    Spent,
    /// By the list of NUT errors; 0 where it named none.
    Code(u32),
}

impl Said {
    /// For the payer.
    #[must_use]
    pub fn reason(self) -> String {
        match self {
            Self::Spent => "token_spent".to_owned(),
            Self::Code(code) => format!("mint_refused_{code}"),
        }
    }
}

/// What the mint knows of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Our coins are signed: they are ours, whatever else it says.
    Signed(Vec<Proof>),
    /// Ours are not, and the payer's are spent.
    SpentElsewhere,
    /// Neither.
    Untouched,
    /// The payer's coins are being spent, or the mint does not say.
    Unclear,
    /// The mint has contradicted itself.
    Fault,
}

impl Mint {
    /// Asks for the swap. `keyset` is that of the plan's outputs. `decides`: whether a refusal is one, which it is not
    /// where something of an earlier asking may still be under way. Whoever has seen the coins may spend them at any
    /// time: what is spent was not spent by us, unless our own coins are signed.
    ///
    /// # Cancel safety
    /// None: dropped midway, the coins may be swapped.
    pub async fn swap(&self, plan: &Plan, keyset: &Keyset, decides: bool) -> Swapped {
        let unknown = Swapped::Unknown { is_fault: false };
        let answer = match self.post("swap", &plan.swap).await {
            Ok(answer) => answer,
            Err(ExchangeError::NotSent) => return Swapped::Not { stale: false },
            Err(ExchangeError::Lost) => return unknown,
        };
        if answer.status == 200 {
            let said: Option<mint::Swapped> = mint::read(&answer.body);
            let coins = said.and_then(|said| signed(&plan.outputs, &said.signatures, keyset));
            return coins.map_or(Swapped::Unknown { is_fault: true }, Swapped::Settled);
        }
        let found = self.look(plan, keyset).await;
        let code = mint::read::<MintError>(&answer.body).and_then(|error| error.code).unwrap_or(0);
        match (found, answer.status) {
            (Found::Signed(coins), _) => Swapped::Settled(coins),
            (Found::Fault, _) => Swapped::Unknown { is_fault: true },
            (Found::SpentElsewhere, 400..=499) if decides => Swapped::Refused(Said::Spent),
            // It is too busy for us, or has changed its keysets.
            (Found::Untouched, 429) => Swapped::Not { stale: false },
            (Found::Untouched, 400..=499) if [KEYSET_INACTIVE, UNBALANCED].contains(&code) => {
                Swapped::Not { stale: true }
            }
            (Found::Untouched, 400..=499) if decides => Swapped::Refused(Said::Code(code)),
            (Found::SpentElsewhere | Found::Untouched | Found::Unclear, _) => unknown,
        }
    }

    /// Asks what became of a swap: first about our coins, then about the payer's. Nothing is moved by it.
    pub async fn look(&self, plan: &Plan, keyset: &Keyset) -> Found {
        let outputs = &plan.swap.outputs;
        let Some(said) = read::<Restored>(self.post("restore", &Restore { outputs }).await) else {
            return Found::Unclear;
        };
        if !said.outputs.is_empty() || !said.signatures.is_empty() {
            let in_order = outputs.iter().map(|output| {
                let place = said.outputs.iter().position(|other| other.blinded == output.blinded)?;
                said.signatures.get(place).cloned()
            });
            let signatures: Option<Vec<BlindSignature>> = in_order.collect();
            let coins = signatures.and_then(|signatures| signed(&plan.outputs, &signatures, keyset));
            return coins.map_or(Found::Fault, Found::Signed);
        }
        let Ok(points) = plan.points() else { return Found::Unclear };
        let points: Vec<String> = points.iter().map(Point::to_text).collect();
        let Some(said) =
            read::<States>(self.post("checkstate", &CheckState { points: points.clone() }).await)
        else {
            return Found::Unclear;
        };
        let told = |(state, point): (&mint::CoinState, &String)| state.point.eq_ignore_ascii_case(point);
        if said.states.len() != points.len() || !said.states.iter().zip(&points).all(told) {
            return Found::Unclear;
        }
        let any = |standing| said.states.iter().any(|state| state.state == standing);
        match (any(Standing::Pending), any(Standing::Spent)) {
            (true, _) => Found::Unclear,
            (false, true) => Found::SpentElsewhere,
            (false, false) => Found::Untouched,
        }
    }
}

/// Our coins, if there is a good signature for each. A signature without evidence is none: a coin that the mint might
/// not know again is not money (CASHU-7).
fn signed(outputs: &[Output], signatures: &[BlindSignature], keyset: &Keyset) -> Option<Vec<Proof>> {
    if outputs.len() != signatures.len() {
        return None;
    }
    outputs.iter().zip(signatures).map(|(output, signature)| coin(output, signature, keyset)).collect()
}

fn coin(output: &Output, said: &BlindSignature, keyset: &Keyset) -> Option<Proof> {
    let is_ours = said.amount == output.amount
        && output.keyset == keyset.id
        && KeysetId::parse(&said.id) == Some(output.keyset);
    let key = keyset.keys.get(&output.amount).filter(|_| is_ours)?;
    let (evidence, signed) = (said.dleq.as_ref()?, Point::parse(&said.signature)?);
    let (e, s) = (hex::decode_array(&evidence.e).ok()?, hex::decode_array(&evidence.s).ok()?);
    if !verify_blind(key, &output.blinded().ok()?, &signed, &e, &s) {
        return None;
    }
    Some(Proof {
        amount: output.amount,
        keyset: output.keyset,
        secret: output.secret.clone(),
        signature: unblind(&signed, &output.blinding, key).ok()?,
        dleq: Some(Dleq { e, s, r: *output.blinding }),
    })
}
