//! What its payer puts in: `open` and `topUp`.

use ed25519_dalek::VerifyingKey;
use proof::solana::address;
use sha2::{Digest as _, Sha256};

use super::super::ledger::{Fault, Key, Named, Running, rent};
use super::super::{RENT, SYSTEM, key, tokens};
use super::channel::{
    BYTES, CHANNEL_MINT, Channel, DEPOSIT, GRACE, KIND_AND_VERSION, OPEN, OPEN_SLOT, PAYEE, PAYER,
    RENT_PAYER, SALT, SHARES, SIGNER, Shares,
};
use super::{
    ACCOUNTS, DATA, NO_DEPOSIT, NOT_ITS_TOKENS, OPEN_SLOTS, TOO_FEW_ACCOUNTS, WRONG_MINT, WRONG_PAYER,
    WRONG_STATUS, accounts, check_escrow, check_mint, check_payer_tokens, program, signed, tell,
};

/// `salt u64 | deposit u64 | grace u32 | slot u64 | shares`
pub(super) fn open(running: &mut Running<'_>, data: &[u8]) -> Result<(), Fault> {
    let (salt, rest) = data.split_first_chunk::<8>().ok_or(DATA)?;
    let (deposit_bytes, rest) = rest.split_first_chunk::<8>().ok_or(DATA)?;
    let (grace, rest) = rest.split_first_chunk::<4>().ok_or(DATA)?;
    let (slot_bytes, rest) = rest.split_first_chunk::<8>().ok_or(DATA)?;
    let shares = Shares::read(rest)?;
    let [
        payer,
        rent_payer,
        payee,
        mint,
        signer,
        channel,
        payer_tokens,
        escrow,
        token_program,
        _system,
        rent_account,
        _associated,
        events,
        _this,
    ] = accounts(running, ACCOUNTS)?;
    signed(&payer)?;
    signed(&rent_payer)?;
    if payer.key == payee.key {
        return Err(Fault::Custom(2001));
    }
    let deposit = u64::from_le_bytes(*deposit_bytes);
    if deposit == 0 {
        return Err(NO_DEPOSIT);
    }
    if *grace == [0; 4] {
        return Err(Fault::Custom(201));
    }
    if VerifyingKey::from_bytes(&signer.key).is_err() {
        return Err(Fault::Custom(2002));
    }
    let slot = u64::from_le_bytes(*slot_bytes);
    if running.clock.slot.checked_sub(slot).is_none_or(|age| age > OPEN_SLOTS) {
        return Err(Fault::Custom(2003));
    }
    let seeds: [&[u8]; 7] = [b"channel", &payer.key, &payee.key, &mint.key, &signer.key, salt, slot_bytes];
    let (place, bump) = derive(&seeds);
    if shares.each.iter().any(|(who, _)| *who == place) {
        return Err(Fault::Custom(261));
    }
    if channel.key != place {
        return Err(Fault::Custom(2000));
    }
    check_mint(running, &mint, &token_program)?;
    if !tokens::is_place(&escrow.key, &place, &mint.key) {
        return Err(NOT_ITS_TOKENS);
    }
    check_payer_tokens(running, &payer_tokens.key, &payer.key, &mint.key)?;
    if rent_account.key != key(RENT) {
        return Err(Fault::Named("InvalidArgument"));
    }
    allocate(running, &rent_payer, &place)?;
    tokens::open(running, &rent_payer, &escrow.key, &place, &mint.key)?;
    tokens::transfer(running, &payer_tokens.key, &escrow.key, &payer.key, &mint.key, deposit)?;
    let mut made = Channel([0; BYTES]);
    for (place, bytes) in [
        (0, &[KIND_AND_VERSION[0], KIND_AND_VERSION[1], bump, OPEN][..]),
        (SALT, salt),
        (DEPOSIT, deposit_bytes),
        (GRACE, grace),
        (SHARES, &shares.hash()),
        (PAYER, &payer.key),
        (PAYEE, &payee.key),
        (SIGNER, &signer.key),
        (CHANNEL_MINT, &mint.key),
        (RENT_PAYER, &rent_payer.key),
        (OPEN_SLOT, slot_bytes),
    ] {
        made.put(place, bytes);
    }
    made.store(running, &place)?;
    tell(running, &events)
}

/// An address of the program's own, and the number that leads to it.
fn derive(seeds: &[&[u8]]) -> (Key, u8) {
    let found = address::derive(seeds, &program()).unwrap();
    let hashed = |bump: u8| -> Key {
        let program = program();
        let end: [&[u8]; 3] = [&[bump], &program, b"ProgramDerivedAddress"];
        Sha256::digest([seeds.concat(), end.concat()].concat()).into()
    };
    let bump = (0..=u8::MAX).rev().find(|bump| hashed(*bump) == found).unwrap();
    (found, bump)
}

/// SOL that somebody left at the address before is no obstacle; an account that is in use is.
fn allocate(running: &mut Running<'_>, funder: &Named, at: &Key) -> Result<(), Fault> {
    running.calls_program(&SYSTEM)?;
    running.lends(at)?;
    let missing = rent(BYTES).saturating_sub(running.at(at).lamports);
    if missing > 0 {
        running.lends_signed(&funder.key)?;
        running.move_lamports(&funder.key, at, missing)?;
    }
    let account = running.change(at)?;
    if !account.data.is_empty() || account.owner != SYSTEM {
        return Err(Fault::Custom(0));
    }
    account.owner = program();
    account.data = vec![0; BYTES];
    Ok(())
}

pub(super) fn top_up(running: &mut Running<'_>, data: &[u8]) -> Result<(), Fault> {
    let more = u64::from_le_bytes(data.try_into().map_err(|_| DATA)?);
    let [payer, channel, payer_tokens, escrow, mint, token_program] = accounts(running, TOO_FEW_ACCOUNTS)?;
    signed(&payer)?;
    if more == 0 {
        return Err(NO_DEPOSIT);
    }
    let mut state = Channel::load(running, &channel.key)?;
    if state.status() != OPEN {
        return Err(WRONG_STATUS);
    }
    if state.key(PAYER) != payer.key {
        return Err(WRONG_PAYER);
    }
    if state.key(CHANNEL_MINT) != mint.key {
        return Err(WRONG_MINT);
    }
    check_mint(running, &mint, &token_program)?;
    check_escrow(running, &escrow.key, &channel.key, &mint.key)?;
    check_payer_tokens(running, &payer_tokens.key, &payer.key, &mint.key)?;
    let deposit = state.number(DEPOSIT).checked_add(more).ok_or(Fault::Custom(2100))?;
    state.put(DEPOSIT, &deposit.to_le_bytes());
    state.store(running, &channel.key)?;
    tokens::transfer(running, &payer_tokens.key, &escrow.key, &payer.key, &mint.key, more)
}
