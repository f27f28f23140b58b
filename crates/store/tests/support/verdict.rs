//! What must be true of a store that was opened again.

use std::collections::{BTreeMap, HashMap, HashSet};

use ledger::audit::Accounts;
use ledger::{AccountId, Audit, Chart, Checkpoint, Entry, Kind};
use money::Amount;
use store::{PaymentState, Payout, PayoutState, Reader, TopUpRefund};

use super::business::{History, Place, Posted, Told};

/// What a crash cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Units of charges whose answers had gone on.
    pub(crate) behind_units: i64,
    /// The most of one account.
    pub(crate) behind_of_one: i64,
    /// Writes whose callers were told that they are on disk.
    pub(crate) acked: u64,
}

/// Holds the store against what its users were told, and then the history against the store: what is found
/// stays found, what is lost stays lost.
///
/// # Panics
/// When the books are not in order, or hold something that nobody wrote, or lack something acknowledged.
pub(crate) fn judge(reader: &Reader, history: &mut History) -> Loss {
    let entries = books_in_order(reader);
    let mut loss = Loss::default();
    let mut behind: HashMap<AccountId, i64> = HashMap::new();
    let mut found: HashMap<[u8; 16], &Entry> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.draft.kind != Kind::Income) {
        let posted = history.entries.get(&entry.draft.id).expect("an entry that nobody wrote");
        assert_same(entry, posted);
        assert!(found.insert(entry.draft.id, entry).is_none(), "an entry is there twice");
    }
    for (id, posted) in &mut history.entries {
        let is_there = found.contains_key(id);
        match posted.told {
            Told::Written if !is_there => loss.acked += 1,
            Told::Behind if !is_there => {
                loss.behind_units += posted.units;
                *behind.entry(posted.payer).or_default() += posted.units;
            }
            Told::Refused => assert!(!is_there, "a refused or lost entry is there: {posted:?}"),
            Told::Nothing | Told::Written | Told::Behind => {}
        }
        posted.told = if is_there { Told::Written } else { Told::Refused };
        // Entry, facts and the outcome of an idempotent request are one write.
        assert_eq!(posted.kind == Kind::Capture && is_there, reader.facts(id).unwrap().is_some());
    }
    loss.behind_of_one = behind.values().copied().max().unwrap_or(0);
    for (key, call) in &history.idempotent {
        assert_eq!(reader.idempotent(key).unwrap().is_some(), found.contains_key(call), "half a capture");
    }
    loss.acked += payments(reader, history, &found);
    loss.acked += open_calls(reader, history, &found);
    loss.acked += payouts(reader, history, &found);
    loss.acked += top_ups(reader, history, &found);
    loss.acked += rows(reader, history);
    loss
}

/// Chain, places, zero sums, balances after each leg, floors, rounding, unique ids and deposits, income of each
/// batch, heads; then what the store has folded itself.
pub(crate) fn books_in_order(reader: &Reader) -> Vec<Entry> {
    let names = reader.names().unwrap();
    let internal: HashSet<AccountId> = names.iter().map(|(id, _)| *id).collect();
    let mut audit = Audit::new(
        Checkpoint::default(),
        Accounts { internal: internal.clone(), overdrafts: HashMap::new() },
    );
    for signed in reader.heads().unwrap() {
        audit.expect(signed.head);
    }
    let mut entries = Vec::new();
    reader
        .each_entry(|entry, bytes| {
            audit.feed(entry.lsn, bytes);
            entries.push(entry);
        })
        .unwrap();
    let report = audit.finish();
    assert_eq!(report.findings, vec![], "the books are not in order");
    let stored: BTreeMap<(u16, AccountId), Amount> =
        reader.balances().unwrap().into_iter().map(|row| ((row.asset, row.account), row.amount)).collect();
    assert_eq!(stored, report.end.balances, "balances are not the fold of the journal");
    let clearing = Chart::UsageClearing.id();
    assert!(stored.iter().all(|((_, id), left)| *id != clearing || *left == Amount::ZERO), "clearing");
    let head = reader.unsigned_head(0).unwrap();
    let end = (report.end.lsn, report.end.hash, report.end.frontier.root());
    assert_eq!((head.size, head.last_hash, head.root), end, "the tree is not that of the journal");
    let payers = (1..=super::business::PAYERS).map(|payer| AccountId([payer; 16]));
    let known: HashSet<AccountId> =
        internal.into_iter().chain(payers).chain([AccountId([0xee; 16])]).collect();
    assert!(stored.keys().all(|(_, account)| known.contains(account)), "an account without a name");
    entries
}

fn assert_same(entry: &Entry, posted: &Posted) {
    let of_payer = entry.legs.iter().find(|leg| leg.account == posted.payer).expect("the payer's leg");
    let units = if posted.kind == Kind::Capture { -posted.units } else { posted.units };
    assert_eq!((entry.draft.kind, of_payer.amount.units()), (posted.kind, units), "another amount");
}

/// Each payment is where it was last said to be, or one step further if that step was under way.
fn payments(reader: &Reader, history: &mut History, found: &HashMap<[u8; 16], &Entry>) -> u64 {
    let mut lost = 0;
    let deposits: HashSet<[u8; 32]> = found.values().map(|entry| entry.draft.key).collect();
    let channels: HashMap<_, _> = reader.channels().unwrap().into_iter().collect();
    for (key, (said, next)) in &mut history.payments {
        let payment = reader.payment(key).unwrap();
        let there = Place::of(payment.as_ref());
        if there != *said && Some(there) != *next {
            lost += 1;
        }
        // A deposit and its entry are one write, and what was asked for is forgotten with it.
        let is_deposited = matches!(there, Place::At(PaymentState::Settled | PaymentState::Served, _));
        assert_eq!(is_deposited, deposits.contains(key), "{there:?}");
        // So are a voucher and where its channel stands.
        let is_voucher = payment.as_ref().is_some_and(|payment| payment.rail.starts_with("x402-batch:"));
        let charged = channels.get(key).map(|channel| channel.charged);
        let due = payment.as_ref().map(|payment| u128::from(payment.amount.unsigned_abs()));
        assert_eq!(charged, due.filter(|_| is_voucher && is_deposited), "half a voucher");
        let keeps_request =
            payment.and_then(|payment| payment.attempt).is_some_and(|a| !a.request.is_empty());
        assert!(!(is_deposited && keeps_request), "a signature is kept");
        (*said, *next) = (there, None);
    }
    lost
}

/// Each call is open or not as it was last said, or as was under way; none is open and charged.
fn open_calls(reader: &Reader, history: &mut History, found: &HashMap<[u8; 16], &Entry>) -> u64 {
    let open: HashSet<_> = reader.open_calls().unwrap().into_iter().map(|(id, _)| id).collect();
    assert!(open.iter().all(|id| history.open_calls.contains_key(id) && !found.contains_key(id)));
    let mut lost = 0;
    for (id, (said, next)) in &mut history.open_calls {
        let there = open.contains(id);
        lost += u64::from(there != *said && Some(there) != *next);
        (*said, *next) = (there, None);
    }
    lost
}

/// Each payout is where it was last said to be, or where it was being brought; with the entries that this means, and
/// set aside is what the open ones hold. An account has one of them at most.
fn payouts(reader: &Reader, history: &mut History, found: &HashMap<[u8; 16], &Entry>) -> u64 {
    let there: HashMap<_, _> = reader.payouts().unwrap().into_iter().collect();
    assert!(there.keys().all(|hash| history.payouts.contains_key(hash)), "a payout that nobody wrote");
    let mut lost = 0;
    for (hash, (said, next)) in &mut history.payouts {
        let state = there.get(hash).map(|payout| payout.state);
        lost += u64::from(state != *said && (next.is_none() || state != *next));
        assert_eq!(found.contains_key(&Payout::begin_id(hash)), state.is_some(), "half a payout");
        let is_ended = matches!(state, Some(PayoutState::Paid | PayoutState::Failed));
        assert_eq!(found.contains_key(&Payout::end_id(hash)), is_ended, "half an end");
        (*said, *next) = (state, None);
    }
    let open = reader.open_payouts().unwrap();
    let accounts: HashSet<_> = open.iter().map(|(_, payout)| payout.account).collect();
    assert_eq!(accounts.len(), open.len());
    assert_eq!(there.values().filter(|payout| payout.state == PayoutState::Open).count(), open.len());
    let refunds = reader.top_up_refunds().unwrap();
    let asked = refunds.iter().filter(|(_, refund)| refund.state.is_open()).map(|(_, refund)| refund.held());
    let held: i64 = open.iter().map(|(_, payout)| payout.held()).chain(asked).sum();
    let payable = reader.balances().unwrap().into_iter().find(|row| row.account == Chart::RefundPayable.id());
    assert_eq!(payable.map_or(0, |row| row.amount.units()), held, "set aside for nobody");
    lost
}

/// Each order and each refund is where it was last said to be, or where it was being brought, with the entries that this
/// means; and the lots of an account come to its balance.
fn top_ups(reader: &Reader, history: &mut History, found: &HashMap<[u8; 16], &Entry>) -> u64 {
    let mut lost = 0;
    let orders: HashMap<_, _> = reader.top_ups().unwrap().into_iter().collect();
    for (id, (said, next)) in &mut history.orders {
        let there = orders.get(id);
        let state = there.map(|order| order.state);
        lost += u64::from(state != *said && (next.is_none() || state != *next));
        if let Some(key) = there.and_then(|order| order.key) {
            assert!(found.contains_key(&super::top_ups::id_of(&key)), "credited without an entry");
            assert!(reader.payment(&key).unwrap().is_some(), "credited without a payment");
        }
        (*said, *next) = (state, None);
    }
    let refunds: HashMap<_, _> = reader.top_up_refunds().unwrap().into_iter().collect();
    for (id, (said, next)) in &mut history.refunds {
        let state = refunds.get(id).map(|refund| refund.state);
        lost += u64::from(state != *said && (next.is_none() || state != *next));
        assert_eq!(found.contains_key(&TopUpRefund::begin_id(id)), state.is_some(), "half a refund");
        let is_ended = state.is_some_and(|state| !state.is_open());
        assert_eq!(found.contains_key(&TopUpRefund::end_id(id)), is_ended, "half an end");
        (*said, *next) = (state, None);
    }
    for row in reader.balances().unwrap() {
        if let Some(lots) = reader.credit_lots(row.account, super::business::ASSET).unwrap() {
            assert_eq!(lots.total(), row.amount.units(), "lots of {}", row.account);
        }
    }
    lost
}

fn rows(reader: &Reader, history: &mut History) -> u64 {
    let keys: HashSet<_> = reader.keys().unwrap().into_iter().map(|(id, _)| id).collect();
    let revoked: HashSet<_> = reader.revoked().unwrap().into_iter().map(|(id, _)| id).collect();
    let heads: HashSet<_> = reader.heads().unwrap().into_iter().map(|signed| signed.head.size).collect();
    let settings: HashMap<_, _> = reader.accounts().unwrap().into_iter().collect();
    let mut lost = 0;
    lost += missing(&mut history.keys, &keys) + missing(&mut history.revoked, &revoked);
    lost += missing(&mut history.heads, &heads);
    for (id, (said, next)) in &mut history.settings {
        let there = settings.get(id).cloned();
        lost += u64::from(there != *said && there != *next);
        (*said, *next) = (there, None);
    }
    lost
}

fn missing<K: std::hash::Hash + Eq + Copy>(told: &mut HashMap<K, Told>, there: &HashSet<K>) -> u64 {
    let mut lost = 0;
    for (key, told) in told {
        match (*told, there.contains(key)) {
            (Told::Written, false) => lost += 1,
            (_, true) => *told = Told::Written,
            (_, false) => {}
        }
    }
    lost
}
