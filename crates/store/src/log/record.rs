//! A write as a record of the log.
//!
//! The first half of its key, or the whole of an id (16), what kind it is (u8), and its fields. Whatever has no fixed length
//! is behind that (u32); rows are JSON, as in the database; an entry is as in the journal, with its place left blank.
//!
//! Kinds below 16 are charges, whose bits say what there is of the optional fields: entry, name of the model that it is
//! income of, facts, how many names the request gave itself (u16) and each (32) with its outcome, the payment that the call
//! was made for (32) with its outcome, the payment that is to be settled.

use ledger::{Chart, Draft, Entry, Leg, LegDraft};
use money::Amount;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ChannelWrite, Op};

const HAS_ENTRY: u8 = 1;
const HAS_INCOME: u8 = 2;
const HAS_SERVED: u8 = 4;
const HAS_SETTLES: u8 = 8;

const INTENT: u8 = 16;
const ATTEMPT: u8 = 17;
const DEPOSIT: u8 = 18;
const SERVED: u8 = 19;
const CHANNEL: u8 = 20;
const OPEN: u8 = 21;
const ENDED: u8 = 22;
const KEY: u8 = 23;
const FREE_CALL: u8 = 24;

/// Puts a write behind what is there. False, and nothing is put: it may not be in the log, because it removes rows, or puts
/// some that are read before the next transaction and are not [`crate::recent`].
pub(super) fn put(op: &Op, out: &mut Vec<u8>) -> bool {
    match op {
        Op::Capture { income: None | Some(Chart::Usage(_)), .. } => put_charge(op, out),
        Op::Intent { key, payment } => {
            keyed(INTENT, key, out);
            json(payment, out);
        }
        Op::Attempt { key, attempt } => {
            keyed(ATTEMPT, key, out);
            json(attempt, out);
        }
        // What came in over Lightning may be asked back at once, from its lot.
        Op::Deposit { key, payment, entry } if payment.received_msat.is_none() => {
            keyed(DEPOSIT, key, out);
            json(payment, out);
            sized(&unplaced(entry), out);
        }
        Op::Served { key, outcome } => {
            keyed(SERVED, key, out);
            json(outcome, out);
        }
        Op::Channel(write) => put_channel(write, out),
        Op::Open { id, call } => {
            of_id(OPEN, id, out);
            json(call, out);
        }
        Op::Ended { id } => of_id(ENDED, id, out),
        Op::Key { id, record } => {
            of_id(KEY, id, out);
            json(record, out);
        }
        Op::FreeCall { until_s, who, used } => {
            of_id(FREE_CALL, who, out);
            out.extend(until_s.to_be_bytes());
            out.extend(used.to_be_bytes());
        }
        Op::Capture { .. }
        | Op::Deposit { .. }
        | Op::Unknown { .. }
        | Op::Refused { .. }
        | Op::Charged { .. }
        | Op::ForgetChannel { .. }
        | Op::LightningSession(_)
        | Op::Payout { .. }
        | Op::TopUp { .. }
        | Op::Codes(_)
        | Op::TopUpRefund { .. }
        | Op::Cashu(_)
        | Op::Post { .. }
        | Op::Account { .. }
        | Op::Revoke { .. }
        | Op::Head { .. }
        | Op::Sweep { .. }
        | Op::Forget { .. }
        | Op::Flush => return false,
    }
    true
}

/// Takes the next record off; none where the bytes are not those of one.
pub(super) fn take(bytes: &mut &[u8]) -> Option<Op> {
    let id = fixed(bytes)?;
    let [kind] = fixed(bytes)?;
    Some(match kind {
        charge if charge < INTENT => take_charge(id, charge, bytes)?,
        INTENT => Op::Intent { key: key(id, bytes)?, payment: parsed(bytes)? },
        ATTEMPT => Op::Attempt { key: key(id, bytes)?, attempt: parsed(bytes)? },
        DEPOSIT => {
            Op::Deposit { key: key(id, bytes)?, payment: parsed(bytes)?, entry: draft(variable(bytes)?)? }
        }
        SERVED => Op::Served { key: key(id, bytes)?, outcome: parsed(bytes)? },
        CHANNEL => Op::Channel(Box::new(take_channel(key(id, bytes)?, bytes)?)),
        OPEN => Op::Open { id, call: parsed(bytes)? },
        ENDED => Op::Ended { id },
        KEY => Op::Key { id, record: parsed(bytes)? },
        FREE_CALL => {
            let until_s = u64::from_be_bytes(fixed(bytes)?);
            Op::FreeCall { until_s, who: id, used: u32::from_be_bytes(fixed(bytes)?) }
        }
        _ => return None,
    })
}

fn put_charge(op: &Op, out: &mut Vec<u8>) {
    let Op::Capture { id, entry, facts, served, settles, income, idempotent } = op else { return };
    let model = if let Some(Chart::Usage(model)) = income { Some(model) } else { None };
    let has = |bit, is_there| if is_there { bit } else { 0 };
    let bits = has(HAS_ENTRY, entry.is_some())
        | has(HAS_INCOME, model.is_some())
        | has(HAS_SERVED, served.is_some())
        | has(HAS_SETTLES, settles.is_some());
    of_id(bits, id, out);
    if let Some(entry) = entry {
        sized(&unplaced(entry), out);
    }
    if let Some(model) = model {
        sized(model.as_bytes(), out);
    }
    sized(facts, out);
    out.extend(u16::try_from(idempotent.len()).unwrap_or(u16::MAX).to_be_bytes());
    for (key, outcome) in idempotent.iter().take(usize::from(u16::MAX)) {
        out.extend(key);
        json(outcome, out);
    }
    if let Some((key, outcome)) = served {
        out.extend(key);
        json(outcome, out);
    }
    if let Some(promised) = settles {
        json(promised, out);
    }
}

fn take_charge(id: [u8; 16], bits: u8, bytes: &mut &[u8]) -> Option<Op> {
    let has = |bit| bits & bit != 0;
    let entry = if has(HAS_ENTRY) { Some(draft(variable(bytes)?)?) } else { None };
    let income = if has(HAS_INCOME) {
        Some(Chart::Usage(String::from_utf8(variable(bytes)?.to_vec()).ok()?))
    } else {
        None
    };
    let facts = variable(bytes)?.to_vec();
    let names = u16::from_be_bytes(fixed(bytes)?);
    let mut idempotent = Vec::new();
    for _ in 0..names {
        idempotent.push((fixed(bytes)?, parsed(bytes)?));
    }
    let served = if has(HAS_SERVED) { Some((fixed(bytes)?, parsed(bytes)?)) } else { None };
    let settles = if has(HAS_SETTLES) { Some(parsed(bytes)?) } else { None };
    Some(Op::Capture { id, entry, facts, served, settles, income, idempotent })
}

/// Whether it begins something, then record, payment and entry; the last two are empty for none.
fn put_channel(write: &ChannelWrite, out: &mut Vec<u8>) {
    let ChannelWrite { id, channel, payment, entry, begins } = write;
    keyed(CHANNEL, id, out);
    out.push(u8::from(*begins));
    json(channel, out);
    match payment {
        Some(payment) => json(payment, out),
        None => sized(&[], out),
    }
    match entry {
        Some(entry) => sized(&unplaced(entry), out),
        None => sized(&[], out),
    }
}

fn take_channel(id: [u8; 32], bytes: &mut &[u8]) -> Option<ChannelWrite> {
    let [begins] = fixed(bytes)?;
    let channel = parsed(bytes)?;
    let payment = match variable(bytes)? {
        [] => None,
        payment => Some(serde_json::from_slice(payment).ok()?),
    };
    let entry = match variable(bytes)? {
        [] => None,
        entry => Some(draft(entry)?),
    };
    Some(ChannelWrite { id, channel, payment, entry, begins: begins != 0 })
}

/// An entry's bytes with nothing in them that its place decides.
fn unplaced(draft: &Draft) -> Vec<u8> {
    let leg = |leg: &LegDraft| Leg {
        asset: leg.asset,
        account: leg.account,
        amount: leg.amount,
        balance_after: Amount::ZERO,
    };
    let legs = draft.legs.iter().map(leg).collect();
    let draft = Draft { reference: draft.reference.clone(), legs: Vec::new(), ..*draft };
    Entry { draft, lsn: 0, legs, previous: [0; 32] }.bytes()
}

fn draft(bytes: &[u8]) -> Option<Draft> {
    let Entry { draft, legs, .. } = Entry::parse(bytes).ok()?;
    let leg = |leg: Leg| LegDraft { asset: leg.asset, account: leg.account, amount: leg.amount };
    Some(Draft { legs: legs.into_iter().map(leg).collect(), ..draft })
}

fn of_id(kind: u8, id: &[u8; 16], out: &mut Vec<u8>) {
    out.extend(id);
    out.push(kind);
}

fn keyed(kind: u8, key: &[u8; 32], out: &mut Vec<u8>) {
    out.extend(&key[..16]);
    out.push(kind);
    out.extend(&key[16..]);
}

fn key(first_half: [u8; 16], bytes: &mut &[u8]) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&first_half);
    key[16..].copy_from_slice(&fixed::<16>(bytes)?);
    Some(key)
}

fn json(row: &impl Serialize, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend([0; 4]);
    // Text and numbers: it does not fail, and what is empty is no row when it is read.
    if serde_json::to_writer(&mut *out, row).is_err() {
        out.truncate(at + 4);
    }
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn parsed<T: DeserializeOwned>(bytes: &mut &[u8]) -> Option<T> {
    serde_json::from_slice(variable(bytes)?).ok()
}

fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

fn fixed<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn variable<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(u32::from_be_bytes(fixed(bytes)?)).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}
