//! Income, one sum per batch.

use ledger::audit::{Accounts, Problem};
use ledger::{Audit, Chart, Checkpoint, EntryError, Kind};

use super::{PAYER, block_on, capture, draft, held_up, opened, post};
use crate::{Durability, Op, StoreError};

/// LED-40: no call writes the income account; a batch does, once, and says for which calls.
#[test]
fn cala_776() {
    let (store, gate) = held_up(Durability::default());
    let closed = gate.write().unwrap();
    for agent in 0..64 {
        store.submit(capture(agent, 10), None).unwrap();
    }
    drop(closed);
    block_on(store.commit(Op::Flush)).unwrap();
    let (mut calls, mut incomes) = (0, Vec::new());
    store
        .reader()
        .each_entry(|entry, _| match entry.draft.kind {
            Kind::Income => incomes.push((entry.draft.reference.clone(), entry.legs.clone())),
            Kind::Deposit | Kind::Capture | Kind::Refund | Kind::Adjust => {
                calls += 1;
                assert!(entry.legs.iter().all(|leg| leg.account != Chart::Usage("m".into()).id()));
            }
        })
        .unwrap();
    // What was taken first, and the rest together.
    assert!(calls == 64 && incomes.len() <= 2, "{incomes:?}");
    let earned: i64 = incomes.iter().flat_map(|(_, legs)| legs).map(|leg| leg.amount.units().max(0)).sum();
    assert_eq!(earned, 640);
    assert!(incomes.iter().all(|(reference, _)| reference.starts_with("lsn ")));
    let names = store.reader().names().unwrap();
    assert!(names.contains(&(Chart::Usage("m".into()).id(), "usage:m".into())), "{names:?}");
    assert!(names.contains(&(Chart::UsageClearing.id(), "usage_clearing".into())));
}

/// A batch with more models than an entry has legs ends with several entries.
#[test]
fn income_of_many_models_falls_into_several_entries() {
    let (store, gate) = held_up(Durability::default());
    let closed = gate.write().unwrap();
    for number in 0..1020u16 {
        let Op::Capture { entry: Some(mut entry), facts, served, settles, idempotent, .. } = capture(1, 3)
        else {
            unreachable!()
        };
        entry.id[..2].copy_from_slice(&number.to_be_bytes());
        let (id, income) = (entry.id, Some(Chart::Usage(number.to_string())));
        store
            .submit(Op::Capture { id, entry: Some(entry), facts, served, settles, income, idempotent }, None)
            .unwrap();
    }
    drop(closed);
    block_on(store.commit(Op::Flush)).unwrap();
    let mut audit = Audit::new(Checkpoint::default(), Accounts::default());
    let mut incomes = 0;
    store
        .reader()
        .each_entry(|entry, bytes| {
            incomes += u32::from(entry.draft.kind == Kind::Income);
            audit.feed(entry.lsn, bytes);
        })
        .unwrap();
    assert!(incomes >= 3, "{incomes}");
    let findings = audit.finish().findings;
    let of_income =
        findings.iter().find(|finding| matches!(finding.problem, Problem::Income | Problem::Clearing));
    assert_eq!(of_income, None);
}

/// Clearing that nobody would clear, and income that is nowhere.
#[tokio::test]
async fn clearing_without_income_is_refused_and_the_other_way_round() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder);
    let to = |account| draft(1, Kind::Capture, PAYER, account, 5);
    let clearing = Chart::UsageClearing.id();
    let refused = store.commit(post(to(clearing))).await;
    assert_eq!(refused, Err(StoreError::Entry(EntryError::Unbalanced)));
    let Op::Capture { id, facts, served, settles, income, idempotent, .. } = capture(1, 5) else {
        unreachable!()
    };
    let op = |entry, income| Op::Capture {
        id,
        entry: Some(entry),
        facts: facts.clone(),
        served: served.clone(),
        settles: settles.clone(),
        income,
        idempotent: idempotent.clone(),
    };
    assert!(store.commit(op(to(clearing), None)).await.is_err());
    assert!(store.commit(op(to(Chart::OverrunLoss.id()), income.clone())).await.is_err());
    assert_eq!(store.reader().unsigned_head(0).unwrap().size, 0);
    store.commit(op(to(clearing), income)).await.unwrap();
}
