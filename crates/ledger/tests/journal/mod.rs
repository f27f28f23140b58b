//! A small journal with an entry of every kind, and the plainest writer that can make one.

pub(crate) mod golden;

use std::collections::BTreeMap;

use ledger::audit::Accounts;
use ledger::merkle::{Frontier, leaf_hash};
use ledger::{
    AccountId, Audit, Chart, Checkpoint, Draft, Entry, Flags, Kind, Leg, LegDraft, TreeHead, leg_asset,
    memo_asset, window_link,
};
use money::{Amount, Asset};

pub(crate) const ALICE: AccountId = AccountId([0xa1; 16]);
pub(crate) const BOB: AccountId = AccountId([0xb0; 16]);
/// Has a credit line of 1,000,000.
pub(crate) const CAROL: AccountId = AccountId([0xca; 16]);
pub(crate) const DAVE: AccountId = AccountId([0xda; 16]);
const KEY: AccountId = AccountId([0x4e; 16]);
const START_MS: u64 = 1_795_000_000_000;

/// Bytes of entries in order, and what a writer knows at their end.
#[derive(Clone, Default)]
pub(crate) struct Journal {
    pub(crate) records: Vec<Vec<u8>>,
    balances: BTreeMap<(u16, AccountId), i64>,
    hash: [u8; 32],
}

impl Journal {
    /// Puts an entry at the end.
    pub(crate) fn post(&mut self, draft: Draft) {
        self.post_changed(draft, |_| {});
    }

    /// What a writer with a fault, or a forger with the means to hash, would put there.
    pub(crate) fn post_changed(&mut self, draft: Draft, change: impl FnOnce(&mut Entry)) {
        let mut draft = draft.checked().unwrap();
        let legs = draft.legs.drain(..).map(|leg| {
            let balance = self.balances.entry((leg.asset, leg.account)).or_default();
            *balance += leg.amount.units();
            let balance_after = Amount::from_units(*balance);
            Leg { asset: leg.asset, account: leg.account, amount: leg.amount, balance_after }
        });
        let legs = legs.collect();
        let lsn = u64::try_from(self.records.len()).unwrap() + 1;
        let mut entry = Entry { draft, lsn, legs, previous: self.hash };
        change(&mut entry);
        self.adopt(&entry.bytes());
    }

    /// Puts the bytes of an entry at the end and goes on from there.
    pub(crate) fn adopt(&mut self, bytes: &[u8]) {
        for leg in Entry::parse(bytes).unwrap().legs {
            self.balances.insert((leg.asset, leg.account), leg.balance_after.units());
        }
        self.hash = Entry::hash_of(bytes);
        self.records.push(bytes.to_vec());
    }

    /// The head over the first `size` entries.
    pub(crate) fn head(&self, size: usize) -> TreeHead {
        let mut frontier = Frontier::default();
        let records = &self.records[..size];
        records.iter().for_each(|bytes| frontier.append(leaf_hash(bytes)));
        TreeHead {
            store_id: [0x57; 16],
            epoch: 1,
            size: frontier.size(),
            root: frontier.root(),
            last_hash: records.last().map_or([0; 32], |bytes| Entry::hash_of(bytes)),
            time_ms: START_MS + 20_000,
        }
    }
}

/// A draft of legs in one asset, with everything else told by its number.
pub(crate) fn draft(number: u8, kind: Kind, asset: Asset, legs: &[(AccountId, i64)]) -> Draft {
    let legs = legs.iter().map(|&(account, units)| LegDraft {
        asset: leg_asset(asset),
        account,
        amount: Amount::from_units(units),
    });
    Draft {
        kind,
        flags: Flags::default(),
        time_ms: START_MS + u64::from(number) * 1000,
        id: [number; 16],
        key: [0; 32],
        reference: String::new(),
        corrects: [0; 16],
        price_version: 0,
        cost_femto: 0,
        legs: legs.collect(),
    }
}

/// A call of this cost: what the payer did not have is the operator's loss.
pub(crate) fn capture(number: u8, asset: Asset, payer: AccountId, cost_femto: u128, overrun: i64) -> Draft {
    let charged = i64::try_from(cost_femto.div_ceil(1_000_000)).unwrap();
    let mut legs = vec![(payer, overrun - charged), (Chart::UsageClearing.id(), charged)];
    if overrun != 0 {
        legs.push((Chart::OverrunLoss.id(), -overrun));
    }
    let draft = draft(number, Kind::Capture, asset, &legs);
    Draft { price_version: 0x00c0_ffee, cost_femto, ..draft }
}

/// The same under spend limits: their memo legs sum to zero among themselves.
pub(crate) fn under(mut draft: Draft, asset: Asset, charged: i64, limits: &[AccountId]) -> Draft {
    let leg =
        |account, units| LegDraft { asset: memo_asset(asset), account, amount: Amount::from_units(units) };
    draft.legs.extend(limits.iter().map(|limit| leg(*limit, -charged)));
    draft.legs.push(leg(Chart::Memo.id(), charged * i64::try_from(limits.len()).unwrap()));
    draft
}

/// What the calls of a batch earned by model.
pub(crate) fn income(number: u8, from: u64, to: u64, models: &[(Asset, &str, i64)]) -> Draft {
    let mut draft = draft(number, Kind::Income, Asset::Usd, &[]);
    draft.reference = format!("lsn {from}-{to}");
    let mut cleared: BTreeMap<Asset, i64> = BTreeMap::new();
    let leg = |asset, account, units| LegDraft {
        asset: leg_asset(asset),
        account,
        amount: Amount::from_units(units),
    };
    for &(asset, model, units) in models {
        *cleared.entry(asset).or_default() -= units;
        draft.legs.push(leg(asset, Chart::Usage(model.to_owned()).id(), units));
    }
    draft.legs.extend(cleared.into_iter().map(|(asset, units)| leg(asset, Chart::UsageClearing.id(), units)));
    draft
}

/// 16 entries: every kind, three assets, budgets and a window, an overrun, a credit line, a correction,
/// an estimate, a call that could not be priced, the longest reference.
pub(crate) fn sample() -> Journal {
    let rail = |name: &str| Chart::RailClearing(name.to_owned()).id();
    let day = window_link(BOB, "day", 1_794_960_000);
    let test = |number, units: i64, payer| {
        draft(number, Kind::Deposit, Asset::Test, &[(rail("test"), -units), (payer, units)])
    };
    let mut journal = Journal::default();
    let drafts = [
        Draft { key: [0x11; 32], ..test(1, 5_000_000, ALICE) },
        Draft {
            key: [0x22; 32],
            reference: "0x5e771e".repeat(32),
            ..draft(
                2,
                Kind::Deposit,
                Asset::Usdc,
                &[(rail("x402:eip155:84532"), -9_000_000), (BOB, 9_000_000)],
            )
        },
        capture(3, Asset::Test, ALICE, 2_100_000_000_001, 0),
        under(capture(4, Asset::Usdc, BOB, 123_456_000_000, 0), Asset::Usdc, 123_456, &[KEY, day]),
        Draft {
            flags: Flags { estimated: true, ..Flags::default() },
            ..capture(5, Asset::Test, ALICE, 3_000_000_000_000, 100_001)
        },
        income(
            6,
            3,
            5,
            &[
                (Asset::Test, "gpt-x", 2_100_001),
                (Asset::Usdc, "gpt-x", 123_456),
                (Asset::Test, "o-y", 3_000_000),
            ],
        ),
        Draft {
            reference: "refund of 0x5e771e".to_owned(),
            ..draft(
                7,
                Kind::Refund,
                Asset::Usdc,
                &[(BOB, -1_000_000), (rail("x402:eip155:84532"), 1_000_000)],
            )
        },
        Draft {
            corrects: [5; 16],
            reference: "estimate was too high".to_owned(),
            ..draft(
                8,
                Kind::Adjust,
                Asset::Test,
                &[(Chart::Usage("o-y".into()).id(), -500_000), (ALICE, 500_000)],
            )
        },
        draft(9, Kind::Deposit, Asset::Usd, &[(rail("operator"), -250_000), (CAROL, 250_000)]),
        capture(10, Asset::Usd, CAROL, 999_999_999_999, 0),
        Draft {
            flags: Flags { estimated: true, ..Flags::default() },
            ..draft(
                11,
                Kind::Capture,
                Asset::Test,
                &[(ALICE, -400_000), (Chart::UsageClearing.id(), 400_000)],
            )
        },
        income(12, 10, 11, &[(Asset::Usd, "gpt-x", 1_000_000), (Asset::Test, "gpt-x", 400_000)]),
        Draft { key: [0x33; 32], ..test(13, 1, DAVE) },
        under(capture(14, Asset::Usdc, BOB, 1, 0), Asset::Usdc, 1, &[day]),
        income(15, 14, 14, &[(Asset::Usdc, "gpt-x", 1)]),
        draft(16, Kind::Adjust, Asset::Test, &[(rail("operator"), -7), (DAVE, 7)]),
    ];
    drafts.into_iter().for_each(|draft| journal.post(draft));
    journal
}

/// Who is who in [`sample`].
pub(crate) fn accounts() -> Accounts {
    let rails = ["test", "x402:eip155:84532", "operator"].map(|rail| Chart::RailClearing(rail.to_owned()));
    let models = ["gpt-x", "o-y"].map(|model| Chart::Usage(model.to_owned()));
    let charts = rails.into_iter().chain(models).chain([Chart::UsageClearing, Chart::OverrunLoss]);
    Accounts {
        internal: charts.map(|chart| chart.id()).collect(),
        overdrafts: [(CAROL, Amount::from_units(1_000_000))].into(),
    }
}

/// An audit of a whole journal that expects the heads of [`sample`] at 12 and 16.
pub(crate) fn audit() -> Audit {
    let (sample, mut audit) = (sample(), Audit::new(Checkpoint::default(), accounts()));
    [12, 16].into_iter().for_each(|size| audit.expect(sample.head(size)));
    audit
}
