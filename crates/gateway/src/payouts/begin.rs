//! A holder hands in an invoice: what it costs him is set aside, and the intent written down, before our node hears of it.

use std::sync::Arc;
use std::time::Duration;

use ledger::{Account, AccountRef, Reserve, ReserveError};
use money::Amount;
use rails::lightning::LightningNode;
use store::{Asking, Lot, Op, Payout, PayoutState, PayoutStep, StoreError, Taken};

use super::invoice::{Invoice, unfit};
use super::sending::{Turn, send};
use super::{DAY_S, Share, entries};
use crate::clock::Now;
use crate::config::{L402, LightningRefunds};
use crate::gate::Gate;
use crate::payments::{store_refusal, unsure};
use crate::refusal::{Code, Facts, Refusal};
use crate::settling::wait_ms;
use crate::snapshot::Snapshot;

/// How long whoever hands an invoice in is kept waiting for its end. The paying goes on after that.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Basis points of the whole.
pub(super) const WHOLE_BP: u64 = 10_000;

/// Who moves money back, and within which bounds.
struct Purse<'s> {
    node: &'s LightningNode,
    l402: &'s L402,
    rules: &'s LightningRefunds,
}

impl<'s> Purse<'s> {
    fn of(snapshot: &'s Snapshot) -> Option<Self> {
        let l402 = snapshot.config.rails.l402.as_ref()?;
        Some(Self { node: snapshot.lightning.as_ref()?.node(), l402, rules: l402.refunds.as_ref()? })
    }

    /// The key that signs the invoices of our node. What cannot be held against it is not paid.
    async fn own_key(&self) -> Result<[u8; 33], Refusal> {
        if let Some(key) = self.l402.node_key {
            return Ok(key);
        }
        let about = self.node.about().await;
        let key = about.inspect_err(|error| tracing::warn!(%error, "our node does not say who it is"));
        key.ok().and_then(|about| about.node_key).ok_or_else(|| {
            let detail = "This gateway cannot tell now whether the invoice is its own.";
            Refusal::new(Code::FacilitatorFailed, detail).retry_after(30)
        })
    }
}

/// Pays an invoice out of an account, or tells what became of it: the same invoice is paid once, however often it is
/// handed in.
///
/// # Errors
/// The refusal says why; nothing was taken.
///
/// # Cancel safety
/// None: run it in a task that a lost connection does not end.
pub(crate) async fn hand_in(
    gate: &Arc<Gate>,
    snapshot: &Arc<Snapshot>,
    account: &AccountRef,
    text: &str,
) -> Result<([u8; 32], Payout), Refusal> {
    pay(gate, snapshot, account, Invoice::read(text)?).await
}

/// As [`hand_in`], of an invoice that was read.
///
/// # Errors
/// As there.
///
/// # Cancel safety
/// As there.
pub(super) async fn pay(
    gate: &Arc<Gate>,
    snapshot: &Arc<Snapshot>,
    account: &AccountRef,
    invoice: Invoice,
) -> Result<([u8; 32], Payout), Refusal> {
    let Some(purse) = Purse::of(snapshot) else {
        return Err(Refusal::new(Code::RouteNotFound, "This gateway makes no refunds over Lightning."));
    };
    let hash = invoice.hash;
    if let Some(known) = known(gate, account, &hash)? {
        return Ok((hash, known));
    }
    if is_deposit(gate, &hash)? {
        return Err(unfit("invoice_of_ours", "The invoice is one that this gateway was paid by."));
    }
    invoice.check(purse.l402.network, &purse.own_key().await?, Now::read().seconds())?;
    if let Some((turn, wish)) = set_aside(gate, &purse, account, &invoice).await? {
        let sending = gate.background.spawn(send(turn, Arc::clone(snapshot), wish));
        // Whatever comes of it is in the store.
        let _ = tokio::time::timeout(ANSWER_MAX, sending).await;
    }
    known(gate, account, &hash)?.map(|payout| (hash, payout)).ok_or_else(busy)
}

/// Takes the money out of the balance and writes the intent down. None: an earlier copy of this request has.
async fn set_aside(
    gate: &Arc<Gate>,
    purse: &Purse<'_>,
    account: &AccountRef,
    invoice: &Invoice,
) -> Result<Option<(Turn, Payout)>, Refusal> {
    let _lane = gate.payouts.lane(account.id()).await;
    if known(gate, account, &invoice.hash)?.is_some() {
        return Ok(None);
    }
    let open = gate.store.reader().open_payout(account.id()).map_err(|error| store_refusal(&error))?;
    if open.is_some() {
        return Err(busy());
    }
    // Not of when the request came: its body may have taken its time, and what goes back counts for today.
    let now = Now::read();
    let wish = wish(gate, purse, account, invoice, now)?;
    let share = share(gate, purse.rules, &wish, now)?;
    let turn = begin(gate, account, &invoice.hash, &wish, share, now).await?;
    Ok(turn.map(|turn| (turn, wish)))
}

/// What became of an invoice that was handed in before, by its own account.
pub(super) fn known(gate: &Gate, account: &Account, hash: &[u8; 32]) -> Result<Option<Payout>, Refusal> {
    let known = gate.store.reader().payout(hash).map_err(|error| store_refusal(&error))?;
    match known {
        Some(payout) if payout.account != account.id().0 => {
            Err(unfit("invoice_known", "The invoice was handed in by somebody else."))
        }
        known => Ok(known),
    }
}

/// Whether a payment to us has this hash: only our own invoices do.
fn is_deposit(gate: &Gate, hash: &[u8; 32]) -> Result<bool, Refusal> {
    let key = proof::deposit_key::ln(hash);
    let known = gate.store.reader().payment(&key).map_err(|error| store_refusal(&error))?;
    Ok(known.is_some())
}

/// The payout that an invoice asks for, within the bounds.
fn wish(
    gate: &Gate,
    purse: &Purse<'_>,
    account: &Account,
    invoice: &Invoice,
    now: Now,
) -> Result<Payout, Refusal> {
    let fee_max_msat = invoice.amount_msat.saturating_mul(u64::from(purse.rules.fee_max_bp)) / WHOLE_BP;
    let lots = gate.store.reader().lots(account.id()).map_err(|error| store_refusal(&error))?;
    let whole_msat = invoice.amount_msat.saturating_add(fee_max_msat);
    let taken = Lot::take(&lots, whole_msat).filter(|_| account.asset().is_dollar_parity());
    let Some(taken) = taken else {
        let detail = "No more goes back over Lightning than came into this account that way, fee included.";
        return Err(unfit("above_deposits", detail));
    };
    if !is_others(gate, account, Taken::credit_of(&taken))? {
        let detail = "What is left was bought or given in another way, and goes back that way or not at all.";
        return Err(unfit("above_deposits", detail));
    }
    let amount = Amount::from_units(Taken::credit_of(&Taken::first(&taken, invoice.amount_msat)));
    let whole = Amount::from_units(Taken::credit_of(&taken));
    let told = |amount: Amount| amount.short(account.asset());
    if amount < purse.rules.min {
        let detail = format!(
            "The invoice comes to {} {}; the least that goes back is {}.",
            told(amount),
            account.asset(),
            told(purse.rules.min)
        );
        return Err(unfit("below_min", detail));
    }
    if whole > purse.rules.max {
        let detail = format!(
            "The invoice comes to {} {}, fee included; the most that goes back at once is {}.",
            told(whole),
            account.asset(),
            told(purse.rules.max)
        );
        return Err(unfit("above_max", detail));
    }
    let asking =
        Asking { count: 1, last_ms: now.millis(), next_ms: now.millis().saturating_add(wait_ms(1, [0; 2])) };
    Ok(Payout {
        state: PayoutState::Open,
        account: account.id().0,
        asset: account.asset().code(),
        amount_msat: invoice.amount_msat,
        fee_max_msat,
        fee_msat: 0,
        taken,
        charged: 0,
        invoice: invoice.text.clone(),
        expires_s: invoice.expires_s,
        created_ms: now.millis(),
        node: Some(purse.node.fingerprint()),
        asking,
        reason: String::new(),
    })
}

/// Whether as much of the balance is of no order and no code: a bonus is not paid out, and a purchase goes back to who paid it
/// (FIN-33, FIN-34).
fn is_others(gate: &Gate, account: &Account, units: i64) -> Result<bool, Refusal> {
    let lots = gate.store.reader().credit_lots(account.id(), account.asset());
    let lots = lots.map_err(|error| store_refusal(&error))?;
    Ok(lots.is_none_or(|book| book.other >= units))
}

fn share<'g>(
    gate: &'g Gate,
    rules: &LightningRefunds,
    wish: &Payout,
    now: Now,
) -> Result<Share<'g>, Refusal> {
    gate.payouts.share(wish.held(), rules.per_day, now).ok_or_else(|| {
        let wait_s = u32::try_from(DAY_S - now.seconds() % DAY_S).unwrap_or(u32::MAX);
        let facts = Facts { limit_source: Some("refunds_per_day"), ..Facts::default() };
        let detail = "As much as may go back in one day has gone back today.";
        Refusal::new(Code::RateLimited, detail).facts(facts).retry_after(wait_s)
    })
}

/// Holds the money, and then writes it down as set aside. Whoever has done so decides about it, from before anybody
/// else can see it: an operator who refused it meanwhile would have it paid after that. None: an earlier copy of this
/// request has.
async fn begin(
    gate: &Arc<Gate>,
    account: &AccountRef,
    hash: &[u8; 32],
    wish: &Payout,
    share: Share<'_>,
    now: Now,
) -> Result<Option<Turn>, Refusal> {
    let amount = Amount::from_units(wish.held());
    let wanted = Reserve { account, budgets: &[], amount, beyond: Amount::ZERO };
    let hold = gate.book.reserve(wanted).map_err(|error| short(error, || above_balance(account)))?;
    // What goes back is the holder's own: a credit line is not.
    if account.available() < Amount::ZERO {
        drop(hold);
        return Err(above_balance(account));
    }
    let out_of_range = || Refusal::new(Code::Internal, "The refund came out of range.");
    let entry = entries::begun(hash, wish, now).ok_or_else(out_of_range)?;
    let step = PayoutStep::Begin { payout: Box::new(wish.clone()), entry };
    let Some(turn) = Turn::first(gate, *hash) else { return already(gate, account, hash) };
    match gate.store.commit(Op::Payout { hash: *hash, step }).await {
        Ok(_) => {
            hold.finish(amount);
            share.keep();
            Ok(Some(turn))
        }
        Err(error) => {
            turn.close();
            match error {
                StoreError::Conflict => already(gate, account, hash),
                StoreError::Unavailable(_) => Err(unsure(&error)),
                StoreError::Entry(_) | StoreError::Range | StoreError::DiskFull | StoreError::Full => {
                    Err(store_refusal(&error))
                }
            }
        }
    }
}

/// This invoice, or another one of this account, came first.
fn already(gate: &Gate, account: &Account, hash: &[u8; 32]) -> Result<Option<Turn>, Refusal> {
    if known(gate, account, hash)?.is_some() { Ok(None) } else { Err(busy()) }
}

/// Why nothing is set aside for a refund; `above` where the balance is below it.
pub(crate) fn short(error: ReserveError, above: impl FnOnce() -> Refusal) -> Refusal {
    match error {
        ReserveError::Balance { .. } | ReserveError::Budget { .. } => above(),
        ReserveError::Frozen | ReserveError::Closed => {
            Refusal::new(Code::AccountFrozen, "This account is frozen: ask the operator.")
        }
        ReserveError::TooManyBudgets
        | ReserveError::WindowOver
        | ReserveError::Negative
        | ReserveError::Ended => Refusal::new(Code::Internal, "The refund came out of range."),
    }
}

fn above_balance(account: &Account) -> Refusal {
    let asset = account.asset();
    let facts = Facts {
        balance: Some((account.available(), asset)),
        reason: Some("above_balance".to_owned()),
        ..Facts::default()
    };
    let have = account.available().short(asset);
    let detail = format!("The balance is {have} {asset}: less than the invoice and the most its fee may be.");
    Refusal::new(Code::BadRequest, detail).facts(facts)
}

fn busy() -> Refusal {
    let facts = Facts { reason: Some("another_refund_open".to_owned()), ..Facts::default() };
    let detail = "Another refund of this account is not decided yet. Hand this invoice in again after that.";
    Refusal::new(Code::InProgress, detail).facts(facts).retry_after(5)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use ledger::{AccountId, Chart, Draft, Flags, Kind, LegDraft, leg_asset};
    use money::{Amount, Asset};
    use store::{Asking, Op, Options, Payment, PaymentState, Payout, PayoutState, Store, Taken};
    use tokio::runtime::Handle;

    use super::begin;
    use crate::clock::Now;
    use crate::gate::Gate;
    use crate::keys::Keys;
    use crate::price_list::PriceList;
    use crate::snapshot::Snapshot;

    const HOLDER: AccountId = AccountId([7; 16]);
    const DEPOSIT: [u8; 32] = [1; 32];
    const HASH: [u8; 32] = [0xab; 32];

    async fn gate(folder: &Path) -> Arc<Gate> {
        let text = format!(
            "mode: test\nupstreams: {{ a: {{ url: http://127.0.0.1:1, dialect: openai }} }}\n\
             prices: {{ \"*\": {{ per_call: 1 USD }} }}\nstore: {{ path: \"{}\" }}\nrails: {{ test: {{}} }}\n",
            folder.display()
        );
        let file = folder.join("farthing.yaml");
        std::fs::write(&file, text).unwrap();
        let config = crate::config::load(&file).unwrap();
        let keys = Keys::load(&config).unwrap();
        let store = Store::open(folder, Options { reserve_bytes: 4096, ..Options::new([7; 16]) }).unwrap();
        let prices = Arc::new(PriceList::load(&config.prices, folder).await.unwrap());
        let snapshot = Snapshot::new(config, keys.public(), prices).unwrap();
        Arc::new(Gate::open(snapshot, keys, store, Handle::current()).unwrap())
    }

    /// 1000 units for 10 000 msat.
    fn deposit(now: Now) -> Op {
        let payment = Payment {
            state: PaymentState::Settled,
            fingerprint: [1; 32],
            account: HOLDER.0,
            asset: Asset::Test.code(),
            amount: 1000,
            rail: "lightning".into(),
            payer: String::new(),
            reference: String::new(),
            created_ms: now.millis(),
            valid_before_s: 0,
            outcome: None,
            received_msat: Some(10_000),
            promised: false,
            attempt: None,
        };
        let rail = Chart::RailClearing("lightning".into()).id();
        let leg = |(account, units)| LegDraft {
            asset: leg_asset(Asset::Test),
            account,
            amount: Amount::from_units(units),
        };
        let entry = Draft {
            kind: Kind::Deposit,
            flags: Flags::default(),
            time_ms: now.millis(),
            id: [1; 16],
            key: DEPOSIT,
            reference: String::new(),
            corrects: [0; 16],
            price_version: 0,
            cost_femto: 0,
            legs: [(rail, -1000), (HOLDER, 1000)].map(leg).to_vec(),
        };
        Op::Deposit { key: DEPOSIT, payment, entry }
    }

    fn wish(now: Now) -> Payout {
        Payout {
            state: PayoutState::Open,
            account: HOLDER.0,
            asset: Asset::Test.code(),
            amount_msat: 10_000,
            fee_max_msat: 0,
            fee_msat: 0,
            taken: vec![Taken { key: DEPOSIT, msat: 10_000, credit: 1000 }],
            charged: 0,
            invoice: "lnbcrt1".into(),
            expires_s: now.seconds() + 600,
            created_ms: now.millis(),
            node: None,
            asking: Asking::default(),
            reason: String::new(),
        }
    }

    /// As soon as the operator can see it in the store, he is told to wait: it is about to be paid.
    #[tokio::test]
    async fn nobody_decides_between_the_intent_and_the_order() {
        let folder = tempfile::tempdir().unwrap();
        let (gate, now) = (gate(folder.path()).await, Now::read());
        gate.store.commit(deposit(now)).await.unwrap();
        let account = gate.book.account(HOLDER, Asset::Test);
        // More than it takes: what refuses it the second time is not the balance.
        gate.deposit(HOLDER, Asset::Test, Amount::from_units(5000));
        let wish = wish(now);
        let share = || gate.payouts.share(1, Amount::MAX, now).unwrap();
        let mut begun = std::pin::pin!(begin(&gate, &account, &HASH, &wish, share(), now));
        // Once: the write is on its way, and nobody looks whether it is done.
        let first = tokio::time::timeout(Duration::ZERO, begun.as_mut()).await;
        let turn = match first {
            Ok(begun) => begun,
            Err(_) => {
                let began = Instant::now();
                while gate.store.reader().payout(&HASH).unwrap().is_none() {
                    assert!(began.elapsed() < Duration::from_secs(30), "never written");
                    std::thread::yield_now();
                }
                assert!(!gate.payouts.take(&HASH), "it is in the store, and nobody's");
                begun.await
            }
        };
        let turn = turn.ok().flatten().unwrap();
        assert!(!gate.payouts.take(&HASH), "it is about to be paid");
        let again = begin(&gate, &account, &HASH, &wish, share(), now).await;
        assert!(matches!(again, Ok(None)), "it is left to whoever has it");
        assert!(!gate.payouts.take(&HASH), "he still has it");
        drop(turn);
        assert!(gate.payouts.take(&HASH));
        let other = Payout { account: [8; 16], ..wish.clone() };
        let stranger = gate.book.account(AccountId([8; 16]), Asset::Test);
        gate.deposit(stranger.id(), Asset::Test, Amount::from_units(1000));
        assert!(begin(&gate, &stranger, &[0xcd; 32], &other, share(), now).await.is_err(), "no such deposit");
        assert_eq!(gate.payouts.open(), 1, "what was not begun is not open");
    }
}
