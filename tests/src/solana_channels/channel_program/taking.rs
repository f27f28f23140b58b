//! What vouchers take, and who may say that nothing more is taken: `settle`, `settleAndSeal`, `requestClose`, `seal`.

use super::super::ledger::{Fault, Key, Named, Running};
use super::super::{ED25519, INSTRUCTIONS, key};
use super::channel::{
    CLOSING, CLOSING_SINCE, Channel, DEPOSIT, OPEN, PAYEE, PAYER, SEALED, SETTLED, SIGNER, STATUS,
};
use super::{ACCOUNTS, DATA, TOO_FEW_ACCOUNTS, WRONG_PAYER, WRONG_STATUS, accounts, signed};

const NO_SIGNATURE_CHECK: Fault = Fault::Custom(230);

pub(super) fn settle(running: &mut Running<'_>) -> Result<(), Fault> {
    let [channel, instructions] = accounts(running, ACCOUNTS)?;
    let mut state = Channel::load(running, &channel.key)?;
    if state.status() != OPEN {
        return Err(WRONG_STATUS);
    }
    let sum = promised(running, &channel.key, &state, &instructions)?;
    state.put(SETTLED, &sum.to_le_bytes());
    state.store(running, &channel.key)
}

/// The sum of the voucher whose signature the instruction right before has checked.
fn promised(running: &Running<'_>, id: &Key, channel: &Channel, instructions: &Named) -> Result<u64, Fault> {
    const MALFORMED: Fault = Fault::Custom(231);
    if instructions.key != key(INSTRUCTIONS) {
        return Err(Fault::Named("UnsupportedSysvar"));
    }
    let before = running.place.checked_sub(1).ok_or(NO_SIGNATURE_CHECK)?;
    let checked = &running.calls[before];
    if checked.program != key(ED25519) {
        return Err(NO_SIGNATURE_CHECK);
    }
    let data: &[u8; 162] = checked.data.as_slice().try_into().map_err(|_| MALFORMED)?;
    let layout: [u16; 7] = [48, u16::MAX, 16, u16::MAX, 112, 50, u16::MAX];
    let expected = [&[1, 0][..], layout.map(u16::to_le_bytes).as_flattened()].concat();
    if data[..16] != expected {
        return Err(MALFORMED);
    }
    let (public, voucher) = (&data[16..48], &data[112..]);
    if voucher[..2] != [0x56, 0x01] {
        return Err(Fault::Custom(238));
    }
    if voucher[2..34] != *id {
        return Err(Fault::Custom(232));
    }
    let sum = u64::from_le_bytes(voucher[34..42].try_into().unwrap());
    let expires_at = i64::from_le_bytes(voucher[42..].try_into().unwrap());
    if expires_at != 0 && running.clock.unix_s >= expires_at {
        return Err(Fault::Custom(233));
    }
    if sum > channel.number(DEPOSIT) {
        return Err(Fault::Custom(235));
    }
    if sum <= channel.number(SETTLED) {
        return Err(Fault::Custom(234));
    }
    (*public == channel.key(SIGNER)).then_some(sum).ok_or(Fault::Custom(237))
}

pub(super) fn settle_and_seal(running: &mut Running<'_>, data: &[u8]) -> Result<(), Fault> {
    let [has_voucher] = data.try_into().map_err(|_| DATA)?;
    let [payee, channel, instructions] = accounts(running, TOO_FEW_ACCOUNTS)?;
    signed(&payee)?;
    let mut state = Channel::load(running, &channel.key)?;
    let is_late = state.status() == CLOSING && running.clock.unix_s >= state.deadline();
    if is_late || ![OPEN, CLOSING].contains(&state.status()) {
        return Err(WRONG_STATUS);
    }
    if state.key(PAYEE) != payee.key {
        return Err(Fault::Custom(6));
    }
    if has_voucher != 0_u8 {
        let sum = promised(running, &channel.key, &state, &instructions)?;
        state.put(SETTLED, &sum.to_le_bytes());
    }
    end(&mut state);
    state.store(running, &channel.key)
}

fn end(channel: &mut Channel) {
    channel.put(STATUS, &[SEALED]);
    channel.put(CLOSING_SINCE, &[0; 8]);
}

pub(super) fn request_close(running: &mut Running<'_>) -> Result<(), Fault> {
    let [payer, channel] = accounts(running, TOO_FEW_ACCOUNTS)?;
    signed(&payer)?;
    let mut state = Channel::load(running, &channel.key)?;
    if state.status() != OPEN {
        return Err(WRONG_STATUS);
    }
    if state.key(PAYER) != payer.key {
        return Err(WRONG_PAYER);
    }
    state.put(CLOSING_SINCE, &running.clock.unix_s.to_le_bytes());
    state.put(STATUS, &[CLOSING]);
    state.store(running, &channel.key)
}

pub(super) fn seal(running: &mut Running<'_>) -> Result<(), Fault> {
    let [channel] = accounts(running, ACCOUNTS)?;
    let mut state = Channel::load(running, &channel.key)?;
    if state.status() != CLOSING {
        return Err(WRONG_STATUS);
    }
    if running.clock.unix_s < state.deadline() {
        return Err(Fault::Custom(2201));
    }
    end(&mut state);
    state.store(running, &channel.key)
}
