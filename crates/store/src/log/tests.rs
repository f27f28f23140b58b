use std::sync::Arc;

use ledger::{AccountId, Chart, Draft, Flags, Kind, LegDraft, leg_asset};
use money::{Amount, Asset};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::{Appended, Damaged, HEAD_BYTES, LOG_BYTES_MAX, Log, Name, SECTOR_BYTES, read};
use crate::{
    Attempt, Channel, ChannelKind, ChannelMirror, ChannelWrite, Idempotent, KeyRecord, Op, OpenCall, Outcome,
    Payment, PaymentState, Promise, Promised,
};

fn name() -> Name {
    Name::new(&[1; 16], 7)
}

fn charge(id: u8, facts: &[u8]) -> Op {
    let leg = |account, units| LegDraft {
        asset: leg_asset(Asset::Usd),
        account: AccountId([account; 16]),
        amount: Amount::from_units(units),
    };
    let entry = Draft {
        kind: Kind::Capture,
        flags: Flags { estimated: true, ..Flags::default() },
        time_ms: 1_795_000_000_000,
        id: [id; 16],
        key: [0; 32],
        reference: "a reference".into(),
        corrects: [0; 16],
        price_version: 3,
        cost_femto: 4,
        legs: vec![leg(9, -5), leg(2, 5)],
    };
    Op::Capture {
        id: [id; 16],
        entry: Some(entry),
        facts: facts.to_vec(),
        served: None,
        settles: None,
        income: Some(Chart::Usage("m".into())),
        idempotent: Vec::new(),
    }
}

fn named(id: u8) -> Op {
    let outcome =
        Outcome { status: 200, headers: vec![("farthing-price".into(), "1".into())], call: [id; 16] };
    let outcome = Idempotent { fingerprint: [id; 32], outcome, expires_s: 5 };
    Op::Capture {
        id: [id; 16],
        entry: None,
        facts: b"{}".to_vec(),
        served: None,
        settles: None,
        income: None,
        idempotent: vec![([1; 32], outcome.clone()), ([2; 32], outcome)],
    }
}

fn shown(ops: &[Op]) -> String {
    format!("{ops:?}")
}

/// A log of these frames, each after transaction `after`.
fn written(after: u64, frames: &[&[Op]]) -> (Arc<InMemoryBackend>, Log) {
    let medium = Arc::new(InMemoryBackend::new());
    let backend: Arc<dyn StorageBackend> = Arc::<InMemoryBackend>::clone(&medium);
    let mut log = Log::new(backend, name()).unwrap();
    for frame in frames {
        assert_eq!(log.append(after, frame.iter()).unwrap(), Appended::Durable);
    }
    (medium, log)
}

fn bytes(medium: &InMemoryBackend) -> Vec<u8> {
    super::bytes(medium).unwrap()
}

#[test]
fn charges_come_back_as_they_were_and_in_order() {
    let frames = [vec![charge(1, b"{\"model\":\"m\"}")], vec![named(2), charge(3, b"")]];
    let (medium, _) = written(4, &[&frames[0], &frames[1]]);
    let found = read(&bytes(&medium), &name(), 4).unwrap();
    assert_eq!(shown(&found), shown(&frames.concat()));
}

fn payment() -> Payment {
    let attempt = Attempt {
        facilitator: "f".into(),
        request: "{\"a\":1}".into(),
        count: 1,
        in_vain: 0,
        last_ms: 1,
        next_ms: 2,
        transaction: String::new(),
    };
    Payment {
        state: PaymentState::Intent,
        fingerprint: [1; 32],
        account: [2; 16],
        asset: Asset::Usd.code(),
        amount: -3,
        rail: "x402:eip155:84532".into(),
        payer: "0x".into(),
        reference: "0xab".into(),
        created_ms: 4,
        valid_before_s: u64::MAX,
        outcome: Some(outcome()),
        received_msat: None,
        promised: true,
        attempt: Some(attempt),
    }
}

fn outcome() -> Outcome {
    Outcome { status: 200, headers: vec![("farthing-price".into(), "1".into())], call: [3; 16] }
}

fn channel(payment: Option<([u8; 32], Payment)>, entry: Option<Draft>) -> Op {
    let mirror = ChannelMirror {
        balance: u128::MAX,
        total_claimed: 1,
        withdrawing: 0,
        withdraw_requested_at: 0,
        refund_nonce: [7; 32],
        synced_at_s: 5,
    };
    let channel = Channel {
        kind: ChannelKind::Session,
        network: "eip155:84532".into(),
        config: serde_json::json!({"salt": "0x00", "n": 1}),
        asset: Asset::Usd.code(),
        decimals: 6,
        charged: u128::MAX,
        accepted: 9,
        newest: Some(Promise { max_claimable: u128::MAX, signature: "0xaa".into(), expires_at: -1 }),
        earlier: vec![Promise { max_claimable: 1, signature: "0xbb".into(), expires_at: 0 }],
        published: vec![1, u128::MAX],
        published_floor: 1,
        mirror,
        used_ms: 6,
        era: 2,
        refunding: None,
        refunded: None,
        closing: None,
        taking: None,
    };
    let begins = payment.is_some();
    Op::Channel(Box::new(ChannelWrite { id: [8; 32], channel, payment, entry, begins }))
}

fn entry() -> Draft {
    let Op::Capture { entry: Some(entry), .. } = charge(1, b"") else { unreachable!() };
    Draft { kind: Kind::Deposit, key: [6; 32], corrects: [5; 16], ..entry }
}

fn key(last: u8) -> [u8; 32] {
    let mut key = [4; 32];
    key[31] = last;
    key
}

/// Of every kind that a log may have.
fn loggable() -> Vec<Op> {
    let Op::Capture { id, entry: charged, facts, income, idempotent, .. } = charge(7, b"{}") else {
        unreachable!()
    };
    let settles = Some(Box::new(Promised { key: key(1), payment: payment() }));
    let open = OpenCall { account: [1; 16], asset: 1, held: 5, begun_ms: 6, owed: None };
    let record = KeyRecord { account: [1; 16], label: "change".into(), created_ms: 1, expires_s: None };
    vec![
        Op::Capture {
            id,
            entry: charged,
            facts,
            served: Some((key(2), outcome())),
            settles,
            income,
            idempotent,
        },
        Op::Intent { key: key(3), payment: payment() },
        Op::Attempt { key: key(4), attempt: payment().attempt.unwrap() },
        Op::Deposit { key: key(5), payment: payment(), entry: entry() },
        Op::Served { key: key(6), outcome: outcome() },
        channel(Some((key(7), payment())), Some(entry())),
        channel(None, None),
        Op::Open { id: [1; 16], call: open },
        Op::Ended { id: [2; 16] },
        Op::Key { id: [3; 16], record },
        Op::FreeCall { until_s: 7, who: [4; 16], used: 8 },
    ]
}

/// What is kept and hidden when it is shown is held against the bytes.
#[test]
fn every_write_comes_back_as_it_was() {
    let ops = loggable();
    let (medium, _) = written(4, &[&ops]);
    let found = read(&bytes(&medium), &name(), 4).unwrap();
    assert_eq!(shown(&found), shown(&ops));
    let (again, _) = written(4, &[&found]);
    assert!(bytes(&again) == bytes(&medium));
    for op in &ops {
        let mut record = Vec::new();
        assert!(super::record::put(op, &mut record), "{op:?}");
        for end in 0..record.len() {
            assert!(super::record::take(&mut &record[..end]).is_none(), "{op:?} {end}");
        }
    }
}

#[test]
fn what_removes_rows_or_is_read_from_the_database_at_once_is_not_logged() {
    let Op::Capture { id, entry, facts, served, settles, idempotent, .. } = charge(1, b"") else {
        unreachable!()
    };
    let income = Some(Chart::RefundPayable);
    let of_no_model = Op::Capture { id, entry, facts, served, settles, income, idempotent };
    let over_lightning = Payment { received_msat: Some(1), ..payment() };
    for op in [
        of_no_model,
        Op::Deposit { key: key(1), payment: over_lightning, entry: self::entry() },
        Op::Refused { key: key(1) },
        Op::Unknown { key: key(1) },
        Op::Revoke { id, time_ms: 1 },
        Op::Sweep { now_ms: 1 },
        Op::Flush,
    ] {
        let (medium, mut log) = written(4, &[&[charge(1, b"1")]]);
        assert_eq!(log.append(4, [&charge(2, b"2"), &op]).unwrap(), Appended::No, "{op:?}");
        assert_eq!(read(&bytes(&medium), &name(), 4).unwrap().len(), 1, "{op:?}");
    }
}

#[test]
fn a_log_of_another_round_or_store_is_empty() {
    let (medium, mut log) = written(4, &[&[charge(1, b"1")], &[charge(2, b"2")]]);
    let found = |name: &Name, after| read(&bytes(&medium), name, after).unwrap().len();
    assert_eq!(found(&name(), 4), 2);
    for (other, after) in [(name(), 3), (name(), 5), (Name::new(&[2; 16], 7), 4), (Name::new(&[1; 16], 8), 4)]
    {
        assert_eq!(found(&other, after), 0);
    }
    // The next round begins at the start; what is left behind it is of the round before.
    log.append(5, [&charge(3, b"3")]).unwrap();
    assert_eq!(found(&name(), 5), 1);
    // A database that is older than its log.
    assert_eq!(read(&bytes(&medium), &name(), 4).unwrap_err(), Damaged { at: 0 });
    assert_eq!(read(&[], &name(), 0).unwrap().len(), 0);
}

/// Where a frame begins and its records end.
fn frame_at(bytes: &[u8], at: usize) -> (usize, usize) {
    let length = u32::from_be_bytes(bytes[at + 20..at + 24].try_into().unwrap());
    (at, at + HEAD_BYTES + length as usize)
}

/// A crash while the last frame is written: whatever of it arrived, those before it are there and it is not.
#[test]
fn a_torn_frame_is_the_end() {
    let frames = [charge(1, &[b'a'; 2000]), charge(2, &[b'b'; 2000])];
    let (medium, _) = written(4, &[&frames[..1], &frames[1..]]);
    let whole = bytes(&medium);
    let (second, end) = frame_at(&whole, frame_at(&whole, 0).1.next_multiple_of(SECTOR_BYTES));
    for cut in second..end {
        assert_eq!(read(&whole[..cut], &name(), 4).unwrap().len(), 1, "{cut}");
    }
    assert_eq!(read(&whole[..end], &name(), 4).unwrap().len(), 2);
    for sector in (second..end).step_by(SECTOR_BYTES) {
        let mut torn = whole.clone();
        torn[sector..sector + SECTOR_BYTES].fill(0);
        assert_eq!(read(&torn, &name(), 4).unwrap().len(), 1, "{sector}");
    }
}

/// Damage is not taken for the end, and no changed charge is ever read.
#[test]
fn a_flipped_bit_before_the_last_frame_is_damage() {
    let frames = [charge(1, b"one"), charge(2, b"two"), charge(3, b"three")];
    let (medium, _) = written(4, &[&frames[..1], &frames[1..2], &frames[2..]]);
    let whole = bytes(&medium);
    let is_padding = |at: usize| at >= frame_at(&whole, at - at % SECTOR_BYTES).1;
    for at in 0..3 * SECTOR_BYTES {
        for bit in [0, 7] {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            let expected = match at / SECTOR_BYTES {
                _ if is_padding(at) => Ok(3),
                2 => Ok(2),
                frame => Err(Damaged { at: frame * SECTOR_BYTES }),
            };
            let found = read(&flipped, &name(), 4);
            if let (Ok(found), Ok(count)) = (&found, expected) {
                assert_eq!(shown(found), shown(&frames[..count]), "byte {at}");
            }
            assert_eq!(found.map(|found| found.len()), expected, "byte {at}");
        }
    }
}

#[test]
fn a_full_log_takes_nothing_and_stays_readable() {
    let (medium, mut log) = written(4, &[&[charge(1, &vec![b'x'; LOG_BYTES_MAX / 2])]]);
    let large = charge(2, &vec![b'y'; LOG_BYTES_MAX / 2]);
    assert_eq!(log.append(4, [&large]).unwrap(), Appended::No);
    assert_eq!(log.append(4, [&charge(3, b"")]).unwrap(), Appended::Durable);
    assert_eq!(read(&bytes(&medium), &name(), 4).unwrap().len(), 2);
    assert!(medium.len().unwrap() <= LOG_BYTES_MAX as u64);
    assert_eq!(log.append(5, [&large]).unwrap(), Appended::Durable);
}

proptest::proptest! {
    #[test]
    fn reading_is_total(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3000)) {
        let mut records = bytes.as_slice();
        while super::record::take(&mut records).is_some() {}
        assert!(read(&bytes, &name(), 0).is_ok());
    }
}
