//! What an audit says of a journal in order, and that it names the first entry of one that is not.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

#[expect(dead_code, reason = "the vectors use the rest")]
mod journal;

use journal::{ALICE, BOB, CAROL, DAVE, Journal, accounts, audit, capture, draft, income, sample, under};
use ledger::audit::{Accounts, FINDINGS_MAX, Finding, Problem, Report};
use ledger::{AccountId, Audit, Chart, Checkpoint, Draft, Entry, Flags, Kind, TreeHead, leg_asset};
use money::{Amount, Asset};
use proptest::prelude::*;

/// Feeds records under the numbers of their places.
fn run(mut audit: Audit, records: &[Vec<u8>]) -> Report {
    (1..).zip(records).for_each(|(lsn, bytes)| audit.feed(lsn, bytes));
    audit.finish()
}

fn first_bad(records: &[Vec<u8>]) -> Option<u64> {
    run(audit(), records).first_bad().map(|finding| finding.lsn)
}

/// What an audit without heads says of a journal.
fn problems(journal: &Journal) -> Vec<(u64, Problem)> {
    let report = run(Audit::new(Checkpoint::default(), accounts()), &journal.records);
    report.findings.iter().map(|finding| (finding.lsn, finding.problem)).collect()
}

#[test]
fn a_journal_in_order_has_no_findings_and_folds_out() {
    let sample = sample();
    let report = run(audit(), &sample.records);
    assert_eq!((report.findings.as_slice(), report.more, report.entries), (&[][..], 0, 16));
    assert_eq!(report.first_bad(), None);
    let head = sample.head(16);
    assert_eq!((report.end.lsn, report.end.hash), (head.size, head.last_hash));
    assert_eq!((report.end.frontier.size(), report.end.frontier.root()), (head.size, head.root));
    let balance = |asset, account| report.end.balances[&(leg_asset(asset), account)].units();
    assert_eq!(balance(Asset::Test, ALICE), 100_000);
    assert_eq!(balance(Asset::Usdc, BOB), 7_876_543);
    assert_eq!(balance(Asset::Usd, CAROL), -750_000);
    assert_eq!(balance(Asset::Test, DAVE), 8);
    assert_eq!(balance(Asset::Test, Chart::UsageClearing.id()), 0);
    assert_eq!(balance(Asset::Test, Chart::OverrunLoss.id()), -100_001);
    let sum: i64 = report.end.balances.values().map(|balance| balance.units()).sum();
    assert_eq!(sum, 0);
}

/// A rolled store: what was folded stands for the entries before.
#[test]
fn an_audit_can_be_taken_up_after_any_batch() {
    let sample = sample();
    let whole = run(audit(), &sample.records).end;
    for cut in [0, 1, 2, 6, 7, 8, 9, 12, 13, 15, 16] {
        let mut first = Audit::new(Checkpoint::default(), accounts());
        (1..).zip(&sample.records[..cut]).for_each(|(lsn, bytes)| first.feed(lsn, bytes));
        let report = first.finish();
        assert_eq!(report.findings, [], "cut at {cut}");
        let mut rest = Audit::new(report.end, accounts());
        rest.expect(sample.head(16));
        let after = sample.records.iter().enumerate().skip(cut);
        after.for_each(|(place, bytes)| rest.feed(u64::try_from(place).unwrap() + 1, bytes));
        let report = rest.finish();
        assert_eq!(report.findings, [], "cut at {cut}");
        assert_eq!((report.end, report.entries), (whole.clone(), 16 - u64::try_from(cut).unwrap()));
    }
}

#[test]
fn entries_do_not_hang_on_a_foreign_checkpoint() {
    let sample = sample();
    let mut start = run(Audit::new(Checkpoint::default(), accounts()), &sample.records[..12]).end;
    start.hash[0] ^= 1;
    let mut rest = Audit::new(start, accounts());
    (13..).zip(&sample.records[12..]).for_each(|(lsn, bytes)| rest.feed(lsn, bytes));
    assert_eq!(rest.finish().findings, [Finding { lsn: 12, problem: Problem::Chain }]);
}

/// LED-41, T11: each bit of each byte of each entry.
#[test]
fn a_flipped_bit_is_named() {
    let sample = sample();
    for place in 0..sample.records.len() {
        for at in 0..sample.records[place].len() {
            let mut records = sample.records.clone();
            records[place][at] ^= 1 << (at % 8);
            assert_eq!(first_bad(&records), Some(u64::try_from(place).unwrap() + 1), "byte {at}");
        }
    }
}

/// LED-41, T11.
#[test]
fn dropped_swapped_inserted_repeated_and_missing_entries_are_named() {
    let sample = sample();
    let all = sample.records.len();
    for at in 0..all {
        let lsn = u64::try_from(at).unwrap() + 1;
        // Left out, under the numbers of the others and with the rest moved up.
        let mut gap = audit();
        (1..).zip(&sample.records).filter(|(other, _)| *other != lsn).for_each(|(lsn, b)| gap.feed(lsn, b));
        assert_eq!(gap.finish().first_bad(), Some(Finding { lsn, problem: Problem::Missing }));
        let mut dropped = sample.records.clone();
        dropped.remove(at);
        assert_eq!(first_bad(&dropped), Some(lsn), "dropped");

        assert_eq!(first_bad(&sample.records[..at]), Some(lsn), "cut off");

        for other in at + 1..all {
            let mut swapped = sample.records.clone();
            swapped.swap(at, other);
            assert_eq!(first_bad(&swapped), Some(lsn), "swapped with {other}");
        }

        let mut repeated = sample.records.clone();
        repeated.insert(at + 1, sample.records[at].clone());
        assert_eq!(first_bad(&repeated), Some(lsn + 1), "repeated");

        let mut again = audit();
        for (other, bytes) in (1..).zip(&sample.records) {
            again.feed(other, bytes);
            if other == lsn {
                again.feed(other, bytes);
            }
        }
        assert_eq!(again.finish().first_bad(), Some(Finding { lsn, problem: Problem::OutOfOrder }));
    }
}

/// LED-41: a forger who can compute hashes puts an entry in, in the right place of the chain.
#[test]
fn an_entry_put_in_is_named() {
    let sample = sample();
    for at in 1..sample.records.len() {
        let mut forged = Journal::default();
        (0..at).for_each(|place| forged.adopt(&sample.records[place]));
        forged.post(draft(99, Kind::Adjust, Asset::Test, &[(ALICE, 5), (Chart::Memo.id(), -5)]));
        let lsn = u64::try_from(at).unwrap() + 1;

        // The others keep their numbers: what stood there comes second.
        let mut by_number = audit();
        (1..).zip(&forged.records).for_each(|(lsn, bytes)| by_number.feed(lsn, bytes));
        (lsn..).zip(&sample.records[at..]).for_each(|(lsn, bytes)| by_number.feed(lsn, bytes));
        assert_eq!(by_number.finish().first_bad().unwrap().lsn, lsn);

        // The others move on by one.
        let records = [forged.records.as_slice(), &sample.records[at..]].concat();
        assert_eq!(first_bad(&records), Some(lsn), "before {lsn}");
    }
}

/// LED-41: whoever can hash can write another end, and then only a head that was signed before tells.
#[test]
fn a_rewritten_end_does_not_fit_a_head() {
    let sample = sample();
    let mut forged = Journal::default();
    (0..13).for_each(|place| forged.adopt(&sample.records[place]));
    forged.post(draft(
        14,
        Kind::Adjust,
        Asset::Test,
        &[(ALICE, 9), (DAVE, -1), (Chart::OverrunLoss.id(), -8)],
    ));
    (15..=16).for_each(|number| {
        forged.post(draft(number, Kind::Adjust, Asset::Test, &[(ALICE, 1), (Chart::OverrunLoss.id(), -1)]));
    });
    assert_eq!(problems(&forged), []);
    let report = run(audit(), &forged.records);
    assert_eq!(report.findings, [Finding { lsn: 16, problem: Problem::Head { after: 12 } }]);
    // Not one entry changed, only the head: its hash or its root.
    for head in
        [TreeHead { root: [0; 32], ..sample.head(12) }, TreeHead { last_hash: [0; 32], ..sample.head(12) }]
    {
        let mut audit = audit();
        audit.expect(head);
        let finding = Finding { lsn: 12, problem: Problem::Head { after: 0 } };
        assert_eq!(run(audit, &sample.records).findings, [finding]);
    }
}

/// One row per rule: what a faulty writer would append to a journal in order, and what is said of it.
#[test]
fn rules_table() {
    let usd = |units| Amount::from_units(units);
    let adjust = |number, legs: &[(AccountId, i64)]| draft(number, Kind::Adjust, Asset::Test, legs);
    let fine = adjust(50, &[(ALICE, 5), (BOB, 6), (Chart::OverrunLoss.id(), -11)]);
    let row = |draft: &Draft, change: &dyn Fn(&mut Entry)| {
        let mut journal = sample();
        journal.post_changed(draft.clone(), change);
        journal.post(adjust(51, &[(DAVE, 1), (Chart::OverrunLoss.id(), -1)]));
        problems(&journal)
    };
    let as_is = |draft: &Draft| row(draft, &|_| {});
    assert_eq!(as_is(&fine), []);
    assert_eq!(row(&fine, &|entry| entry.legs.swap(0, 1)), [(17, Problem::Legs)]);
    assert_eq!(
        row(&fine, &|entry| entry.legs.clear()),
        [
            (17, Problem::Legs),
            // The balances that the writer believes in have moved all the same.
            (18, Problem::Balance { account: Chart::OverrunLoss.id() })
        ]
    );
    let twice = row(&fine, &|entry| entry.legs[1] = entry.legs[0]);
    assert!(twice.contains(&(17, Problem::Legs)));
    let unbalanced = row(&fine, &|entry| {
        entry.legs[0].amount = usd(4);
        entry.legs[0].balance_after = usd(100_004);
    });
    assert_eq!(unbalanced, [(17, Problem::Unbalanced)]);
    let two_assets = row(&fine, &|entry| entry.legs[0].asset = leg_asset(Asset::Usd));
    assert!(two_assets.contains(&(17, Problem::Unbalanced)));
    let no_asset = row(&fine, &|entry| entry.legs.iter_mut().for_each(|leg| leg.asset = 99));
    assert!(no_asset.contains(&(17, Problem::Unbalanced)));
    // One balance that does not follow is found once, and the right one goes on.
    let alice = Problem::Balance { account: ALICE };
    assert_eq!(row(&fine, &|entry| entry.legs[0].balance_after = usd(7)), [(17, alice)]);
    assert_eq!(as_is(&Draft { id: [3; 16], ..fine.clone() }), [(17, Problem::Id)]);
    assert_eq!(as_is(&Draft { corrects: [3; 16], ..fine.clone() }), []);
    assert_eq!(as_is(&Draft { corrects: [50; 16], ..fine.clone() }), [(17, Problem::Corrects)]);
    assert_eq!(as_is(&Draft { corrects: [51; 16], ..fine.clone() }), [(17, Problem::Corrects)]);
    // Only a deposit uses a key up, and only once.
    let deposit =
        draft(50, Kind::Deposit, Asset::Test, &[(Chart::RailClearing("test".into()).id(), -5), (ALICE, 5)]);
    assert_eq!(as_is(&deposit), []);
    assert_eq!(as_is(&Draft { key: [0x11; 32], ..deposit.clone() }), [(17, Problem::Deposit)]);
    assert_eq!(as_is(&Draft { key: [0x11; 32], kind: Kind::Refund, ..deposit }), []);
}

/// LED-5.
#[test]
fn only_payers_have_a_floor_and_a_credit_line_lowers_it() {
    let down = |account, units: i64| {
        let mut journal = sample();
        let asset = if account == CAROL { Asset::Usd } else { Asset::Test };
        journal.post(draft(50, Kind::Adjust, asset, &[(account, -units), (Chart::OverrunLoss.id(), units)]));
        problems(&journal)
    };
    assert_eq!(down(ALICE, 100_000), []);
    assert_eq!(down(ALICE, 100_001), [(17, Problem::Floor { account: ALICE })]);
    assert_eq!(down(CAROL, 250_000), []);
    assert_eq!(down(CAROL, 250_001), [(17, Problem::Floor { account: CAROL })]);
    let mut journal = sample();
    journal.post(draft(50, Kind::Adjust, Asset::Usd, &[(CAROL, 1), (Chart::OverrunLoss.id(), -1)]));
    journal.post(draft(51, Kind::Adjust, Asset::Usd, &[(CAROL, 0), (Chart::OverrunLoss.id(), 0)]));
    // Whoever owes may pay back in steps, and nothing is taken by nothing; and a credit line below zero is none.
    let mut strangers = Accounts { internal: accounts().internal, ..Accounts::default() };
    strangers.overdrafts.insert(CAROL, Amount::from_units(-5));
    let report = run(Audit::new(Checkpoint::default(), strangers), &journal.records);
    assert_eq!(report.findings, [Finding { lsn: 10, problem: Problem::Floor { account: CAROL } }]);
}

/// X402-21: a call whose payment is still to come takes its payer below the floor, and no other call begins to.
#[test]
fn a_promise_goes_below_the_floor() {
    let call = |journal: &mut Journal, id: u8, units: i64, promised| {
        let flags = Flags { promised, ..Flags::default() };
        let legs = [(DAVE, -units), (Chart::OverrunLoss.id(), units)];
        journal.post(Draft { flags, ..draft(id, Kind::Adjust, Asset::Usdt, &legs) });
    };
    let mut journal = sample();
    for (id, units, promised) in [(50, 7, true), (51, 2, false), (52, -9, false), (53, 1, false)] {
        call(&mut journal, id, units, promised);
    }
    // One that ran beside it may end while the payment is awaited; once that is there the floor is the floor.
    assert_eq!(problems(&journal), [(20, Problem::Floor { account: DAVE })]);
}

/// A spend limit counts down from what the key says, which the journal does not know.
#[test]
fn memo_legs_have_no_floor() {
    let mut journal = sample();
    let charge = draft(50, Kind::Adjust, Asset::Test, &[(ALICE, -1), (DAVE, 1)]);
    journal.post(under(charge, Asset::Test, 77, &[ALICE]));
    assert_eq!(problems(&journal), []);
}

#[test]
fn a_balance_out_of_range_is_named() {
    let mut journal = sample();
    let far = draft(
        50,
        Kind::Adjust,
        Asset::Test,
        &[(DAVE, i64::MAX - 200_000), (Chart::OverrunLoss.id(), 200_000 - i64::MAX)],
    );
    journal.post(far);
    let more = draft(51, Kind::Adjust, Asset::Test, &[(DAVE, 1), (Chart::OverrunLoss.id(), -1)]);
    journal.post_changed(more, |entry| {
        for leg in &mut entry.legs {
            leg.amount = Amount::from_units(leg.amount.units() * 200_000);
        }
    });
    assert!(problems(&journal).contains(&(18, Problem::Range { account: DAVE })));
}

/// LED-3: `0 <= charged * 10^6 - cost < 10^6`, in the assets that have the unit of the prices.
#[test]
fn a_charge_is_the_cost_rounded_up_once() {
    let flagged = |asset, units: i64, cost_femto, estimated, cut| {
        let mut journal = sample();
        let legs = [(DAVE, -units), (Chart::UsageClearing.id(), units)];
        let flags = Flags { estimated, cut, ..Flags::default() };
        journal.post(draft(49, Kind::Deposit, asset, &[(DAVE, 100), (Chart::OverrunLoss.id(), -100)]));
        journal.post(Draft { cost_femto, flags, ..draft(50, Kind::Capture, asset, &legs) });
        journal.post(income(51, 18, 18, &[(asset, "gpt-x", units)]));
        problems(&journal)
    };
    let charged = |asset, units, cost_femto, estimated| flagged(asset, units, cost_femto, estimated, false);
    let rounding = [(18, Problem::Rounding)];
    for asset in [Asset::Usd, Asset::Usdc, Asset::Usdt, Asset::Test] {
        assert_eq!(charged(asset, 5, 5_000_000, false), []);
        assert_eq!(charged(asset, 5, 4_000_001, true), []);
        assert_eq!(charged(asset, 5, 4_000_000, false), rounding);
        assert_eq!(charged(asset, 5, 5_000_001, false), rounding);
        assert_eq!(charged(asset, 5, 5_000_001, true), rounding);
        // What could not be priced says that it was estimated.
        assert_eq!(charged(asset, 5, 0, true), []);
        assert_eq!(charged(asset, 5, 0, false), rounding);
        // What was cut took less than it cost, and never more.
        assert_eq!(flagged(asset, 5, 5_000_001, false, true), []);
        assert_eq!(flagged(asset, 5, 5_000_000, false, true), rounding);
        assert_eq!(flagged(asset, 5, 4_000_000, true, true), rounding);
    }
    assert_eq!(charged(Asset::Eur, 5, 77, false), []);
    // An overrun was used too: the operator pays it.
    let mut journal = sample();
    journal.post(capture(50, Asset::Test, DAVE, 9_000_001, 3));
    journal.post(income(51, 17, 17, &[(Asset::Test, "gpt-x", 10)]));
    assert_eq!(problems(&journal), []);
    // A capture of nothing but memo legs charges nobody.
    let mut journal = sample();
    let nothing = draft(50, Kind::Capture, Asset::Test, &[]);
    journal.post(under(nothing, Asset::Test, 3, &[ALICE]));
    assert_eq!(problems(&journal), []);
}

/// LED-40.
#[test]
fn income_names_its_entries_and_empties_clearing() {
    let after = |reference: &str, models: &[(Asset, &str, i64)]| {
        let mut journal = sample();
        journal.post(capture(50, Asset::Test, ALICE, 7_000_000, 0));
        journal.post(capture(51, Asset::Usdc, BOB, 8_000_000, 0));
        journal.post(Draft { reference: reference.to_owned(), ..income(52, 0, 0, models) });
        problems(&journal)
    };
    let both = [(Asset::Test, "gpt-x", 7), (Asset::Usdc, "o-y", 8)];
    for reference in ["lsn 17-18", "lsn 16-18"] {
        assert_eq!(after(reference, &both), [], "{reference}");
    }
    let refused = [
        "",
        "lsn ",
        "lsn 17",
        "lsn 18-18",
        "lsn 17-17",
        "lsn 17-19",
        "lsn 15-18",
        "17-18",
        "lsn a-b",
        "lsn 17-18 ",
    ];
    for reference in refused {
        assert_eq!(after(reference, &both), [(19, Problem::Income)], "{reference}");
    }
    let left = [(19, Problem::Clearing)];
    assert_eq!(after("lsn 17-18", &both[..1]), left);
    assert_eq!(after("lsn 17-18", &[(Asset::Test, "gpt-x", 6), (Asset::Usdc, "o-y", 8)]), left);

    // Income of nothing, and income that never comes.
    let mut journal = sample();
    journal.post(income(50, 16, 16, &[(Asset::Test, "gpt-x", 1)]));
    assert_eq!(problems(&journal), [(17, Problem::Income)]);
    let mut journal = sample();
    journal.post(capture(50, Asset::Test, ALICE, 7_000_000, 0));
    journal.post(capture(51, Asset::Test, ALICE, 7_000_000, 0));
    assert_eq!(problems(&journal), [(19, Problem::Clearing)]);
}

#[test]
fn findings_are_bounded_and_the_first_are_kept() {
    let sample = sample();
    let mut audit = audit();
    let many = u64::try_from(FINDINGS_MAX).unwrap() + 500;
    (1..=many).rev().for_each(|lsn| audit.feed(2 * lsn, &sample.records[0]));
    let report = audit.finish();
    assert_eq!(report.findings.len(), FINDINGS_MAX);
    assert_eq!(report.first_bad().map(|finding| finding.lsn), Some(1));
    assert!(report.more >= 500);
    assert!(report.findings.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(report.entries, many);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands there, an audit ends, and finds something in all that is not the journal.
    #[test]
    fn damage_of_any_kind_is_found(
        place in 0usize..16, bytes in proptest::collection::vec(any::<u8>(), 0..300)
    ) {
        let mut records = sample().records;
        if records[place] != bytes {
            records[place] = bytes;
            prop_assert_eq!(first_bad(&records), Some(u64::try_from(place).unwrap() + 1));
        }
    }
}
