//! A charge as a record of the log.
//!
//! Call id (16), what there is of the next two (u8: 1 entry, 2 income), the entry as in the journal with its place
//! left blank, the name of the model that it is income of, the facts, how many names the request gave itself
//! (u16), and each (32) with its outcome as JSON. Whatever has no fixed length is behind it (u32).

use ledger::{Chart, Draft, Entry, Leg, LegDraft};
use money::Amount;

use crate::Op;

const HAS_ENTRY: u8 = 1;
const HAS_INCOME: u8 = 2;

/// Whether a write may be in the log: a charge that touches no payment, and so nothing that is waited for.
pub(crate) fn is_loggable(op: &Op) -> bool {
    matches!(op, Op::Capture { served: None, settles: None, income: None | Some(Chart::Usage(_)), .. })
}

/// Puts a loggable write behind what is there; of any other, nothing.
pub(super) fn put(op: &Op, out: &mut Vec<u8>) {
    let Op::Capture { id, entry, facts, served: None, settles: None, income, idempotent } = op else {
        return;
    };
    let model = if let Some(Chart::Usage(model)) = income { Some(model) } else { None };
    out.extend(id);
    out.push(entry.as_ref().map_or(0, |_| HAS_ENTRY) | model.map_or(0, |_| HAS_INCOME));
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
        // Text and numbers: it does not fail.
        sized(&serde_json::to_vec(outcome).unwrap_or_default(), out);
    }
}

/// Takes the next record off; none where the bytes are not those of one.
pub(super) fn take(bytes: &mut &[u8]) -> Option<Op> {
    let id = fixed(bytes)?;
    let [has] = fixed(bytes)?;
    let entry = if has & HAS_ENTRY == 0 { None } else { Some(draft(variable(bytes)?)?) };
    let income = if has & HAS_INCOME == 0 {
        None
    } else {
        Some(Chart::Usage(String::from_utf8(variable(bytes)?.to_vec()).ok()?))
    };
    let facts = variable(bytes)?.to_vec();
    let names = u16::from_be_bytes(fixed(bytes)?);
    let mut idempotent = Vec::new();
    for _ in 0..names {
        let key = fixed(bytes)?;
        idempotent.push((key, serde_json::from_slice(variable(bytes)?).ok()?));
    }
    Some(Op::Capture { id, entry, facts, served: None, settles: None, income, idempotent })
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
