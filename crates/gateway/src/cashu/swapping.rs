//! Asking a mint for a swap: written down before it is sent, the same plan each time until it is decided, and our coins
//! written down before anything counts (CASHU-9 to CASHU-12).

use std::sync::Arc;

use proof::cashu::Output;
use rails::cashu::{Found, Keyset, Keysets, Mint, Plan, Said, Swapped};
use rails::{Receipt, Refused, Settlement, Unclear};
use store::{Attempt, CashuCoin, CashuSignature, CashuState, CashuSwap, CashuWrite, Op, Payment, StoreError};
use wire::cashu::{KeysetId, Proof, UNIT_SAT};
use wire::hex;
use zeroize::Zeroizing;

use super::mint_of;
use super::paid::Paid;
use crate::clock::Now;
use crate::gate::Gate;
use crate::settling;
use crate::snapshot::Snapshot;

/// Milliseconds after which nothing of an earlier asking can still be under way: beyond the time that a mint has for an
/// answer, and what stands between us and it may hold a request back.
const OLD_MS: u64 = 120_000;

/// A swap that nobody was asked for yet.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) keysets: Arc<Keysets>,
}

/// Asks for the first time. From here on the payer's coins are taken.
///
/// # Errors
/// The intent could not be written, or one of the coins is known already; nothing was sent. Once something was sent, an
/// outcome is unknown that could not be written down.
///
/// # Cancel safety
/// None: dropped midway, the coins may be swapped.
pub(super) async fn first(
    gate: &Gate,
    mint: &Mint,
    paid: &Paid,
    planned: &Planned,
    payment: Payment,
) -> Result<Settlement, StoreError> {
    let Planned { plan, keysets } = planned;
    let key = paid.key();
    let Some(keyset) = signing(keysets, plan) else { return Ok(Settlement::NotSent) };
    let attempt = settling::attempt(mint.url.clone(), &plan.to_text(), 1, Now::read());
    let next_ms = attempt.next_ms;
    let swap = CashuSwap {
        mint: paid.mint.clone(),
        unit: UNIT_SAT.to_owned(),
        spent: paid.coins.clone(),
        coins: plan.outputs.iter().map(unsigned).collect(),
        state: CashuState::Asked,
    };
    let payment = Payment { attempt: Some(attempt), ..payment };
    let rail = payment.rail.clone();
    gate.store.commit(Op::Cashu(Box::new(CashuWrite::Ask { key, payment, swap }))).await?;
    gate.unsettled.watch(key, next_ms);
    let swapped = mint.swap(plan, keyset, true).await;
    Ok(told(gate, key, &rail, &mint.url, plan, swapped).await)
}

/// Asks again about a swap that was asked for before, and whose end nobody knows.
///
/// # Errors
/// The attempt could not be written; nothing was sent.
///
/// # Cancel safety
/// None: dropped midway, the coins may be swapped.
pub(crate) async fn again(
    gate: &Gate,
    snapshot: &Snapshot,
    key: [u8; 32],
    payment: &Payment,
) -> Result<Settlement, StoreError> {
    let Some(swap) = gate.store.reader().cashu(&key)? else { return Ok(unclear(true)) };
    if swap.is_held() {
        // The process ended between the two writes.
        return Ok(settled(&key));
    }
    let url = mint_of(&payment.rail).unwrap_or_default();
    let counter = snapshot.cashu.as_ref().and_then(|desk| desk.counter(url));
    let (Some(counter), Some(last)) = (counter, &payment.attempt) else {
        tracing::error!(mint = url, "a mint that is to be asked again has left the configuration");
        gate.unsettled.watch(key, Now::read().millis().saturating_add(OLD_MS));
        return Ok(unclear(false));
    };
    let outputs: Option<Vec<Output>> = swap.coins.iter().map(output).collect();
    let Some(plan) = outputs.and_then(|outputs| Plan::written(&last.request, outputs)) else {
        tracing::error!(payment = %hex::encode(&key), "a swap that was written down cannot be read");
        return Ok(unclear(true));
    };
    let (mint, now) = (&counter.mint, Now::read());
    let is_old = now.millis().saturating_sub(last.last_ms) >= OLD_MS;
    let attempt = settling::attempt(mint.url.clone(), &last.request, last.count.saturating_add(1), now);
    // When it was sent for the last time: looking is no sending.
    let looking = Attempt { last_ms: last.last_ms, ..attempt.clone() };
    gate.store.commit(Op::Attempt { key, attempt: looking }).await?;
    gate.unsettled.watch(key, attempt.next_ms);
    let known = gate.mints.keysets(&mint.url).map(|(keysets, _)| keysets);
    let Some(keyset) = known.as_ref().and_then(|keysets| signing(keysets, &plan)) else {
        tracing::warn!(mint = mint.url, "a mint that is to be asked again does not answer");
        return Ok(unclear(false));
    };
    let Some(_turn) = gate.mints.turn(&mint.url).await else { return Ok(unclear(false)) };
    let swapped = match mint.look(&plan, keyset).await {
        Found::Signed(coins) => Swapped::Settled(coins),
        Found::SpentElsewhere if is_old => Swapped::Refused(Said::Spent),
        Found::SpentElsewhere | Found::Unclear => Swapped::Unknown { is_fault: false },
        Found::Fault => Swapped::Unknown { is_fault: true },
        Found::Untouched => {
            gate.store.commit(Op::Attempt { key, attempt }).await?;
            mint.swap(&plan, keyset, is_old).await
        }
    };
    Ok(told(gate, key, &payment.rail, &mint.url, &plan, swapped).await)
}

/// What a mint has said. Our coins are on disk before they count.
async fn told(
    gate: &Gate,
    key: [u8; 32],
    rail: &str,
    mint: &str,
    plan: &Plan,
    swapped: Swapped,
) -> Settlement {
    let (outcome, state) = match swapped {
        Swapped::Settled(coins) => {
            let coins = plan.outputs.iter().zip(&coins).map(|(output, coin)| signed(output, coin)).collect();
            match gate.store.commit(Op::Cashu(Box::new(CashuWrite::Hold { key, coins }))).await {
                Ok(_) => (settled(&key), "settled"),
                Err(error) => {
                    // They are asked for again, and are the same.
                    tracing::error!(%error, payment = %hex::encode(&key), "coins of ours could not be written down");
                    (unclear(false), "unknown")
                }
            }
        }
        Swapped::Refused(said) => (Settlement::Refused(Refused { code: said.reason() }), "refused"),
        Swapped::Not { stale } => {
            if stale {
                gate.mints.doubt(mint);
            }
            (Settlement::NotSent, "not_sent")
        }
        Swapped::Unknown { is_fault } => {
            if is_fault {
                tracing::error!(mint, "ALARM: a mint says of a swap what cannot be");
            }
            (unclear(is_fault), "unknown")
        }
    };
    gate.metrics.settlement(rail, state);
    outcome
}

/// The keyset that is to sign a plan's coins: they are all of one.
fn signing<'k>(keysets: &'k Keysets, plan: &Plan) -> Option<&'k Keyset> {
    plan.outputs.first().and_then(|output| keysets.exactly(&output.keyset))
}

fn settled(key: &[u8; 32]) -> Settlement {
    Settlement::Settled(Receipt { reference: reference(key), ..Receipt::default() })
}

/// What a payment by ecash is called: there is no transaction.
pub(super) fn reference(key: &[u8; 32]) -> String {
    format!("cashu:{}", hex::encode(&key[..8]))
}

fn unclear(is_fault: bool) -> Settlement {
    Settlement::Unknown(Unclear { is_fault, ..Unclear::default() })
}

fn unsigned(output: &Output) -> CashuCoin {
    CashuCoin {
        keyset: output.keyset.to_text(),
        amount: output.amount,
        secret: output.secret.clone(),
        blinding: hex::encode(&*output.blinding),
        signature: None,
    }
}

fn signed(output: &Output, coin: &Proof) -> CashuCoin {
    let evidence = coin.dleq.as_ref();
    let text = |part: Option<&[u8; 32]>| part.map(|part| hex::encode(part)).unwrap_or_default();
    let signature = CashuSignature {
        point: coin.signature.to_text(),
        e: text(evidence.map(|dleq| &dleq.e)),
        s: text(evidence.map(|dleq| &dleq.s)),
    };
    CashuCoin { signature: Some(signature), ..unsigned(output) }
}

fn output(coin: &CashuCoin) -> Option<Output> {
    Some(Output {
        amount: coin.amount,
        keyset: KeysetId::parse(&coin.keyset)?,
        secret: coin.secret.clone(),
        blinding: Zeroizing::new(hex::decode_array(&coin.blinding).ok()?),
    })
}
