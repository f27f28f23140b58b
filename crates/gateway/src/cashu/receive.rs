//! A token becomes a deposit: claimed once, each of its coins, swapped, durable; then the call draws on it.

use std::sync::Arc;

use ledger::AccountId;
use money::Amount;
use rails::cashu::{Plan, PlanError};
use rails::{Receipt, Settlement};
use sha2::{Digest as _, Sha256};
use store::{Op, Payment, PaymentState};

use super::paid::{Paid, plan_refusal, unreachable};
use super::swapping::{self, Planned, again};
use crate::gate::Gate;
use crate::payments::{
    Arrival, Delivery, Deposit, Incoming, Start, Terms, claimed, free, in_progress, intent_refusal,
    replayed_elsewhere, store_refusal, unknown_outcome, unsure,
};
use crate::refusal::{Code, Facts, Refusal};
use crate::settling;
use crate::snapshot::Snapshot;

/// Seconds for which a mint is asked about a swap before the operator is: ecash itself has no end.
const ASKED_SECONDS: u64 = 30 * 24 * 3600;

/// Brings a token in.
///
/// # Errors
/// The refusal says what happened to the money.
///
/// # Cancel safety
/// None: run it in a task that a lost connection does not end.
pub(crate) async fn receive(
    gate: &Arc<Gate>,
    snapshot: &Snapshot,
    paid: Paid,
    delivery: Delivery,
) -> Result<Arrival, Refusal> {
    let key = paid.key();
    let claim = gate.claims.take_all(&paid.coins, delivery.fingerprint).map_err(claimed)?;
    let reader = gate.store.reader();
    let known = match reader.cashu_payment(&paid.coins).map_err(|error| store_refusal(&error))? {
        None => None,
        // Another token with a coin of this one.
        Some(other) if other != key => return Err(replayed_elsewhere()),
        Some(_) => {
            let swap = reader.cashu(&key).map_err(|error| store_refusal(&error))?;
            if swap.is_none_or(|swap| swap.spent != paid.coins) {
                return Err(replayed_elsewhere());
            }
            reader.payment(&key).map_err(|error| store_refusal(&error))?
        }
    };
    let own = (paid.account(), paid.asset);
    let incoming = match Incoming::begin(gate, snapshot, claim, known.as_ref(), own, delivery)? {
        Start::Goes(incoming) => incoming,
        Start::Ended(before) => return Ok(Arrival::Answered(before)),
    };
    let bringing = Bringing { gate, snapshot, paid, incoming };
    let deposit = match known {
        None => bringing.settle().await,
        Some(known) => match known.state {
            PaymentState::Intent | PaymentState::Unknown => bringing.settle_again(known).await,
            PaymentState::Settled | PaymentState::Served => Ok(bringing.incoming.resumed(key, known)),
            // Nothing is served on the promise of ecash.
            PaymentState::Owed => Err(replayed_elsewhere()),
        },
    };
    deposit.map(|deposit| Arrival::Deposited(Box::new(deposit)))
}

struct Bringing<'g> {
    gate: &'g Gate,
    snapshot: &'g Snapshot,
    paid: Paid,
    incoming: Box<Incoming<'g>>,
}

impl Bringing<'_> {
    /// A token that nobody has seen.
    async fn settle(self) -> Result<Deposit, Refusal> {
        let (gate, paid) = (self.gate, &self.paid);
        // It was known when it was looked at, and has been let go since: its terms were not checked.
        if paid.is_known {
            return Err(in_progress());
        }
        self.incoming.check_asset()?;
        let counter = self.snapshot.cashu.as_ref().and_then(|desk| desk.counter(&paid.mint));
        let counter = counter.ok_or_else(unreachable)?;
        let planned = self.plan().await?;
        let _turn = gate.mints.turn(&counter.mint.url).await.ok_or_else(unreachable)?;
        let payment = self.incoming.record(Terms {
            amount: paid.credit,
            rail: paid.rail.clone(),
            payer: swapping::reference(&paid.key()),
            asked_seconds: ASKED_SECONDS,
        });
        let outcome = swapping::first(gate, &counter.mint, paid, &planned, payment.clone()).await;
        match outcome.map_err(|error| intent_refusal(&error))? {
            Settlement::Settled(receipt) => self.deposited(payment, receipt, true).await,
            Settlement::Refused(refused) => {
                free(gate, paid.key()).await?;
                Err(refused_by_mint(refused.code))
            }
            Settlement::NotSent => {
                gate.mints.doubt(&counter.mint.url);
                free(gate, paid.key()).await?;
                Err(unreachable())
            }
            Settlement::Unknown(_) => self.unknown().await,
        }
    }

    /// A token whose mint was asked before, and whose end nobody knows.
    async fn settle_again(self, known: Payment) -> Result<Deposit, Refusal> {
        let key = self.paid.key();
        match again(self.gate, self.snapshot, key, &known).await.map_err(|error| unsure(&error))? {
            Settlement::Settled(receipt) => self.deposited(known, receipt, false).await,
            Settlement::Refused(refused) => {
                free(self.gate, key).await?;
                Err(refused_by_mint(refused.code))
            }
            Settlement::NotSent | Settlement::Unknown(_) => self.unknown().await,
        }
    }

    async fn unknown(self) -> Result<Deposit, Refusal> {
        let key = self.paid.key();
        self.gate.store.commit(Op::Unknown { key }).await.map_err(|error| unsure(&error))?;
        tracing::warn!(rail = %self.paid.rail, "settlement outcome unknown");
        Err(unknown_outcome())
    }

    /// The swap: evidence that comes with coins is checked first, which takes a signature check for each.
    async fn plan(&self) -> Result<Planned, Refusal> {
        let (gate, paid) = (self.gate, &self.paid);
        let (keysets, _) = gate.mints.keysets(&paid.mint).ok_or_else(unreachable)?;
        let name = name(gate.store_epoch, &paid.coins);
        let (token, seed, now_s) =
            (paid.token.clone(), Arc::clone(&gate.keys.cashu), self.incoming.delivery.now.seconds());
        let known = Arc::clone(&keysets);
        let planning = move || Plan::new(&token, &known, &seed, &name, now_s);
        let plan = tokio::task::spawn_blocking(planning).await;
        let plan = plan.unwrap_or(Err(PlanError::Point)).map_err(plan_refusal)?;
        // The mint may have changed its fee since the token was looked at, and then the credit is another.
        if plan.amount() != paid.left {
            return Err(unreachable());
        }
        Ok(Planned { plan, keysets })
    }

    async fn deposited(self, payment: Payment, receipt: Receipt, is_first: bool) -> Result<Deposit, Refusal> {
        let (gate, key) = (self.gate, self.paid.key());
        let written = settling::deposit(&gate.store, key, payment.clone(), receipt.reference.clone()).await;
        written.map_err(|error| unsure(&error))?;
        gate.unsettled.forget(&key);
        gate.deposit(AccountId(payment.account), self.paid.asset, Amount::from_units(payment.amount));
        let payment = Payment { reference: receipt.reference, ..payment };
        Ok(self.incoming.deposited(key, payment, is_first))
    }
}

/// Names the coins that a payment asks for: the same token has the same ones again, until the store is restored from a
/// copy. After that a token that was swapped before is a spent one, whatever the copy knows of it.
fn name(store_epoch: u64, coins: &[[u8; 32]]) -> [u8; 32] {
    let start = Sha256::new_with_prefix("farthing/cashu/payment/1").chain_update(store_epoch.to_be_bytes());
    coins.iter().fold(start, |hash, coin| hash.chain_update(coin)).finalize().into()
}

fn refused_by_mint(reason: String) -> Refusal {
    let facts = Facts { reason: Some(reason), ..Facts::default() };
    Refusal::new(Code::SettlementFailed, "The mint does not take the token.").facts(facts)
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn cashu_9_a_restored_store_asks_for_other_coins() {
        let coins = [[1; 32], [2; 32]];
        assert_eq!(name(1, &coins), name(1, &coins));
        assert_ne!(name(1, &coins), name(2, &coins));
        assert_ne!(name(1, &coins), name(1, &coins[..1]));
    }
}
