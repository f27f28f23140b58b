//! Who is paid: `distribute`, `withdrawPayer`, and `reclaim`, by which an account is cleared away.

use wire::mpp::solana::TREASURY;

use super::super::ledger::{Fault, Key, Named, Running};
use super::super::tokens::{self, NotTheirs};
use super::super::{SYSTEM, key};
use super::channel::{
    CHANNEL_MINT, Channel, DEPOSIT, DISTRIBUTED, OPEN, OPEN_SLOT, PAID_OUT, PAYEE, PAYER, REFUNDED_AT,
    RENT_PAYER, SEALED, SETTLED, SHARES, STATUS, Shares, WHOLE_BPS,
};
use super::{
    ACCOUNTS, OPEN_SLOTS, TOO_FEW_ACCOUNTS, WRONG_MINT, WRONG_PAYER, WRONG_STATUS, accounts, check_escrow,
    check_mint, check_payer_tokens, signed, tell,
};

const WRONG_RENT_PAYER: Fault = Fault::Custom(10);

/// The accounts that `distribute` always has; those of the shares come after.
struct Payout {
    channel: Named,
    rent_payer: Named,
    escrow: Named,
    treasury: Named,
    mint: Named,
    events: Named,
}

pub(super) fn distribute(running: &mut Running<'_>, data: &[u8]) -> Result<(), Fault> {
    let shares = Shares::read(data)?;
    let all = running.call().accounts.to_vec();
    let (fixed, rest) = all.split_first_chunk::<11>().ok_or(ACCOUNTS)?;
    let [
        channel,
        payer,
        rent_payer,
        escrow,
        payer_tokens,
        payee_tokens,
        treasury,
        mint,
        token_program,
        events,
        _this,
    ] = *fixed;
    let mut state = Channel::load(running, &channel.key)?;
    if ![OPEN, SEALED].contains(&state.status()) {
        return Err(Fault::Custom(2400));
    }
    for (member, account, fault) in [
        (PAYER, &payer, WRONG_PAYER),
        (CHANNEL_MINT, &mint, WRONG_MINT),
        (RENT_PAYER, &rent_payer, WRONG_RENT_PAYER),
    ] {
        (state.key(member) == account.key).then_some(()).ok_or(fault)?;
    }
    check_mint(running, &mint, &token_program)?;
    check_escrow(running, &escrow.key, &channel.key, &mint.key)?;
    tokens::is_theirs(running, &treasury.key, &key(TREASURY), &mint.key).map_err(|why| match why {
        NotTheirs::Address | NotTheirs::State | NotTheirs::Owner => Fault::Custom(2401),
        NotTheirs::Malformed => Fault::Custom(2402),
    })?;
    if shares.hash() != state.key(SHARES) {
        return Err(Fault::Custom(2407));
    }
    if rest.len() != shares.each.len() {
        return Err(Fault::Custom(2409));
    }
    let (settled, paid_out) = (state.number(SETTLED), state.number(PAID_OUT));
    if state.status() == OPEN && settled == paid_out {
        return Err(Fault::Custom(2408));
    }
    let payout = Payout { channel, rent_payer, escrow, treasury, mint, events };
    let owed = |bps: u64| {
        let part =
            |sum: u64| u64::try_from(u128::from(sum) * u128::from(bps) / u128::from(WHOLE_BPS)).unwrap();
        part(settled) - part(paid_out)
    };
    for ((who, bps), at) in shares.each.iter().zip(rest) {
        payout.pay(running, &at.key, who, owed(*bps), 2404)?;
    }
    payout.pay(running, &payee_tokens.key, &state.key(PAYEE), owed(WHOLE_BPS - shares.sum()), 60)?;
    if state.status() == OPEN {
        state.put(PAID_OUT, &settled.to_le_bytes());
        return state.store(running, &channel.key);
    }
    let refund = state.number(DEPOSIT) - settled;
    if state.time(REFUNDED_AT) == 0 && refund > 0 {
        payout.pay(running, &payer_tokens.key, &payer.key, refund, 57)?;
    }
    payout.finish(running, &mut state)
}

impl Payout {
    /// Pays somebody, or the treasury where he has no account in working order: what was his is lost to him.
    fn pay(
        &self,
        running: &mut Running<'_>,
        at: &Key,
        who: &Key,
        sum: u64,
        wrong_address: u32,
    ) -> Result<(), Fault> {
        let mint = self.mint.key;
        if sum == 0 {
            return tokens::is_place(at, who, &mint).then_some(()).ok_or(Fault::Custom(wrong_address));
        }
        let to = match tokens::is_theirs(running, at, who, &mint) {
            Ok(()) => *at,
            Err(NotTheirs::Address) => return Err(Fault::Custom(wrong_address)),
            Err(NotTheirs::Malformed | NotTheirs::State | NotTheirs::Owner) => {
                tell(running, &self.events)?;
                self.treasury.key
            }
        };
        tokens::transfer(running, &self.escrow.key, &to, &self.channel.key, &mint, sum)
    }

    /// What nobody is owed goes to the treasury, the accounts' own cost to who paid it.
    fn finish(&self, running: &mut Running<'_>, state: &mut Channel) -> Result<(), Fault> {
        let (escrow, channel) = (self.escrow.key, self.channel.key);
        let left = tokens::amount(running.at(&escrow)).ok_or(Fault::Custom(55))?;
        if left > 0 {
            tokens::transfer(running, &escrow, &self.treasury.key, &channel, &self.mint.key, left)?;
        }
        tokens::close(running, &escrow, &self.rent_payer.key)?;
        if running.clock.slot > state.number(OPEN_SLOT) + OPEN_SLOTS {
            return clear(running, &channel, &self.rent_payer.key);
        }
        state.put(STATUS, &[DISTRIBUTED]);
        state.store(running, &channel)
    }
}

/// Takes a channel's account off the chain.
fn clear(running: &mut Running<'_>, channel: &Key, rent_payer: &Key) -> Result<(), Fault> {
    let lamports = running.at(channel).lamports;
    running.move_lamports(channel, rent_payer, lamports)?;
    let account = running.change(channel)?;
    account.data.clear();
    account.owner = SYSTEM;
    Ok(())
}

pub(super) fn withdraw_payer(running: &mut Running<'_>) -> Result<(), Fault> {
    let [payer, channel, escrow, payer_tokens, mint, token_program] = accounts(running, TOO_FEW_ACCOUNTS)?;
    signed(&payer)?;
    let mut state = Channel::load(running, &channel.key)?;
    if state.status() != SEALED {
        return Err(WRONG_STATUS);
    }
    if state.key(PAYER) != payer.key {
        return Err(WRONG_PAYER);
    }
    if state.time(REFUNDED_AT) != 0 {
        return Err(Fault::Custom(2300));
    }
    if state.key(CHANNEL_MINT) != mint.key {
        return Err(WRONG_MINT);
    }
    check_mint(running, &mint, &token_program)?;
    check_escrow(running, &escrow.key, &channel.key, &mint.key)?;
    check_payer_tokens(running, &payer_tokens.key, &payer.key, &mint.key)?;
    state.put(REFUNDED_AT, &running.clock.unix_s.to_le_bytes());
    state.store(running, &channel.key)?;
    let refund = state.number(DEPOSIT) - state.number(SETTLED);
    if refund == 0 {
        return Ok(());
    }
    tokens::transfer(running, &escrow.key, &payer_tokens.key, &channel.key, &mint.key, refund)
}

pub(super) fn reclaim(running: &mut Running<'_>) -> Result<(), Fault> {
    let [channel, rent_payer] = accounts(running, ACCOUNTS)?;
    let state = Channel::load(running, &channel.key)?;
    if state.status() != DISTRIBUTED {
        return Err(WRONG_STATUS);
    }
    if state.key(RENT_PAYER) != rent_payer.key {
        return Err(WRONG_RENT_PAYER);
    }
    if running.clock.slot <= state.number(OPEN_SLOT) + OPEN_SLOTS {
        return Err(Fault::Custom(2414));
    }
    clear(running, &channel.key, &rent_payer.key)
}
