//! The program that keeps channels, by the facts of its source: solana-foundation/payment-channels 3ffa4d6.
//!
//! Every call wants its accounts in one order and no others, and fails with the number that the program gives. Nothing here
//! is taken from the code that it is to judge: an account's members are found by their places in its bytes.

use proof::solana::address;
use sha2::{Digest as _, Sha256};
use wire::mpp::solana::{PROGRAM, TREASURY};

use super::ledger::{Account, Fault, Key, Named, Running, rent};
use super::tokens::{self, NotTheirs};
use super::{COMPUTE_BUDGET, ED25519, INSTRUCTIONS, RENT, SYSTEM, key};

/// Slots for which a channel may be opened after the one that its address names, and its address stays taken.
const OPEN_SLOTS: u64 = 1_500;
const SHARES_MAX: u32 = 32;
const WHOLE_BPS: u64 = 10_000;

const BYTES: usize = 256;
const KIND_AND_VERSION: [u8; 2] = [1, 1];
const STATUS: usize = 3;
const SALT: usize = 4;
const DEPOSIT: usize = 12;
const SETTLED: usize = 20;
const PAID_OUT: usize = 28;
const CLOSING_SINCE: usize = 36;
const REFUNDED_AT: usize = 44;
const GRACE: usize = 52;
const SHARES: usize = 56;
const PAYER: usize = 88;
const PAYEE: usize = 120;
const SIGNER: usize = 152;
const CHANNEL_MINT: usize = 184;
const RENT_PAYER: usize = 216;
const OPEN_SLOT: usize = 248;

const OPEN: u8 = 0;
const SEALED: u8 = 1;
const CLOSING: u8 = 2;
const DISTRIBUTED: u8 = 3;

const NO_SIGNATURE: Fault = Fault::Custom(1);
const WRONG_STATUS: Fault = Fault::Custom(2);
const WRONG_PAYER: Fault = Fault::Custom(5);
const WRONG_PAYEE: Fault = Fault::Custom(6);
const WRONG_MINT: Fault = Fault::Custom(7);
const WRONG_RENT_PAYER: Fault = Fault::Custom(10);
const TOO_FEW_ACCOUNTS: Fault = Fault::Custom(9);
const NOT_ITS_TOKENS: Fault = Fault::Custom(50);
const NO_DEPOSIT: Fault = Fault::Custom(200);
const NO_SIGNATURE_CHECK: Fault = Fault::Custom(230);
const DATA: Fault = Fault::Named("InvalidInstructionData");
const ACCOUNTS: Fault = Fault::Named("NotEnoughAccountKeys");

/// A channel as the chain has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnChain {
    /// What may be done on it.
    pub status: Status,
    /// Put in, in all.
    pub deposit: u64,
    /// Taken by vouchers, in all.
    pub settled: u64,
    /// What of that was paid.
    pub paid_out: u64,
    /// Unix seconds; 0: its payer did not ask.
    pub closing_since: i64,
}

/// What may be done on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everything.
    Open,
    /// To be paid out.
    Sealed,
    /// Its payer waits for his money.
    Closing,
    /// All of it is paid out.
    Distributed,
}

impl OnChain {
    pub(super) fn of(account: &Account) -> Option<Self> {
        let is_channel = account.owner == program() && account.data.len() == BYTES;
        let channel = is_channel.then(|| Channel(account.data.clone().try_into().unwrap()))?;
        let status = match channel.0[STATUS] {
            OPEN => Status::Open,
            SEALED => Status::Sealed,
            CLOSING => Status::Closing,
            _ => Status::Distributed,
        };
        Some(Self {
            status,
            deposit: channel.number(DEPOSIT),
            settled: channel.number(SETTLED),
            paid_out: channel.number(PAID_OUT),
            closing_since: channel.time(CLOSING_SINCE),
        })
    }
}

/// Where the program is.
pub(super) fn program() -> Key {
    key(PROGRAM)
}

/// What can be called on this chain.
pub(super) fn programs() -> [Key; 6] {
    let associated = key(proof::x402_svm::token_account::ASSOCIATED_TOKEN);
    [SYSTEM, tokens::program(), associated, key(COMPUTE_BUDGET), key(ED25519), program()]
}

fn event_authority() -> Key {
    address::derive(&[b"event_authority"], &program()).unwrap()
}

/// Runs a call.
pub(super) fn run(running: &mut Running<'_>) -> Result<(), Fault> {
    let data = running.call().data.clone();
    let (which, rest) = data.split_first().ok_or(DATA)?;
    let name = match which {
        1 => open(running, rest).map(|()| "open"),
        2 => settle(running).map(|()| "settle"),
        3 => top_up(running, rest).map(|()| "topUp"),
        4 => settle_and_seal(running, rest).map(|()| "settleAndSeal"),
        5 => request_close(running).map(|()| "requestClose"),
        6 => seal(running).map(|()| "seal"),
        7 => distribute(running, rest).map(|()| "distribute"),
        8 => withdraw_payer(running).map(|()| "withdrawPayer"),
        9 => reclaim(running).map(|()| "reclaim"),
        _ => Err(DATA),
    }?;
    running.done.push(name);
    Ok(())
}

/// The bytes of a channel.
#[derive(Clone, Copy)]
struct Channel([u8; BYTES]);

impl Channel {
    fn load(running: &Running<'_>, at: &Key) -> Result<Self, Fault> {
        let account = running.at(at);
        if account.owner != program() {
            return Err(Fault::Named("InvalidAccountOwner"));
        }
        let bytes = account.data.clone().try_into().map_err(|_| Fault::Named("InvalidAccountData"))?;
        let channel = Self(bytes);
        if channel.0[0] != KIND_AND_VERSION[0] {
            return Err(Fault::Custom(3));
        }
        if channel.0[1] != KIND_AND_VERSION[1] {
            return Err(Fault::Custom(4));
        }
        Ok(channel)
    }

    fn store(&self, running: &mut Running<'_>, at: &Key) -> Result<(), Fault> {
        running.change(at)?.data = self.0.to_vec();
        Ok(())
    }

    fn number(&self, place: usize) -> u64 {
        u64::from_le_bytes(self.0[place..place + 8].try_into().unwrap())
    }

    fn time(&self, place: usize) -> i64 {
        i64::from_le_bytes(self.0[place..place + 8].try_into().unwrap())
    }

    fn key(&self, place: usize) -> Key {
        self.0[place..place + 32].try_into().unwrap()
    }

    fn put(&mut self, place: usize, bytes: &[u8]) {
        self.0[place..place + bytes.len()].copy_from_slice(bytes);
    }

    fn status(&self) -> u8 {
        self.0[STATUS]
    }

    /// When the payer gets his money without the payee.
    fn deadline(&self) -> i64 {
        let grace = u32::from_le_bytes(self.0[GRACE..GRACE + 4].try_into().unwrap());
        self.time(CLOSING_SINCE) + i64::from(grace)
    }
}

/// Who gets parts of what the payee is paid, as it is hashed: a count, then keys with hundredths of a per cent.
struct Shares<'a> {
    bytes: &'a [u8],
    each: Vec<(Key, u64)>,
}

impl<'a> Shares<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let (count, rest) = bytes.split_first_chunk().ok_or(DATA)?;
        let count = u32::from_le_bytes(*count);
        if count > SHARES_MAX {
            return Err(Fault::Custom(260));
        }
        let (entries, left) = rest.as_chunks::<34>();
        if !left.is_empty() || entries.len() != usize::try_from(count).unwrap() {
            return Err(DATA);
        }
        let mut each: Vec<(Key, u64)> = Vec::new();
        for entry in entries {
            let (who, bps) = entry.split_first_chunk::<32>().unwrap();
            let bps = u64::from(u16::from_le_bytes(bps.try_into().unwrap()));
            if bps == 0 {
                return Err(Fault::Custom(261));
            }
            if each.iter().any(|(known, _)| known == who) {
                return Err(Fault::Custom(263));
            }
            each.push((*who, bps));
        }
        let shares = Self { bytes, each };
        (shares.sum() <= WHOLE_BPS).then_some(shares).ok_or(Fault::Custom(261))
    }

    fn sum(&self) -> u64 {
        self.each.iter().map(|(_, bps)| bps).sum()
    }

    fn hash(&self) -> Key {
        Sha256::digest(self.bytes).into()
    }
}

/// The accounts of a call, exactly so many.
fn accounts<const N: usize>(running: &Running<'_>, otherwise: Fault) -> Result<[Named; N], Fault> {
    running.call().accounts.as_slice().try_into().map_err(|_| otherwise)
}

fn signed(account: &Named) -> Result<(), Fault> {
    account.signs.then_some(()).ok_or(NO_SIGNATURE)
}

/// Only the program that keeps the mint, and a mint of it.
fn check_mint(running: &Running<'_>, mint: &Named, token_program: &Named) -> Result<(), Fault> {
    if token_program.key != tokens::program() {
        return Err(Fault::Custom(54));
    }
    tokens::is_mint(running.at(&mint.key)).then_some(()).ok_or(Fault::Custom(53))
}

fn check_payer_tokens(running: &Running<'_>, at: &Key, payer: &Key, mint: &Key) -> Result<(), Fault> {
    tokens::is_theirs(running, at, payer, mint).map_err(|why| match why {
        NotTheirs::Address | NotTheirs::State | NotTheirs::Owner => Fault::Custom(57),
        NotTheirs::Malformed => Fault::Custom(58),
    })
}

fn check_escrow(running: &Running<'_>, at: &Key, channel: &Key, mint: &Key) -> Result<(), Fault> {
    tokens::is_theirs(running, at, channel, mint).map_err(|why| match why {
        NotTheirs::Address | NotTheirs::State | NotTheirs::Owner => NOT_ITS_TOKENS,
        NotTheirs::Malformed => Fault::Custom(51),
    })
}

/// What the program tells the world goes through a call of itself.
fn tell(running: &Running<'_>, authority: &Named) -> Result<(), Fault> {
    if authority.key != event_authority() {
        return Err(Fault::Custom(8));
    }
    running.calls_program(&program())
}

/// `salt u64 | deposit u64 | grace u32 | slot u64 | shares`
fn open(running: &mut Running<'_>, data: &[u8]) -> Result<(), Fault> {
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
    if ed25519_dalek::VerifyingKey::from_bytes(&signer.key).is_err() {
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

fn settle(running: &mut Running<'_>) -> Result<(), Fault> {
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

fn top_up(running: &mut Running<'_>, data: &[u8]) -> Result<(), Fault> {
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

fn settle_and_seal(running: &mut Running<'_>, data: &[u8]) -> Result<(), Fault> {
    let [has_voucher] = data.try_into().map_err(|_| DATA)?;
    let [payee, channel, instructions] = accounts(running, TOO_FEW_ACCOUNTS)?;
    signed(&payee)?;
    let mut state = Channel::load(running, &channel.key)?;
    let is_late = state.status() == CLOSING && running.clock.unix_s >= state.deadline();
    if is_late || ![OPEN, CLOSING].contains(&state.status()) {
        return Err(WRONG_STATUS);
    }
    if state.key(PAYEE) != payee.key {
        return Err(WRONG_PAYEE);
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

fn request_close(running: &mut Running<'_>) -> Result<(), Fault> {
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

fn seal(running: &mut Running<'_>) -> Result<(), Fault> {
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

/// The accounts that `distribute` always has; those of the shares come after.
struct Payout {
    channel: Named,
    rent_payer: Named,
    escrow: Named,
    treasury: Named,
    mint: Named,
    events: Named,
}

fn distribute(running: &mut Running<'_>, data: &[u8]) -> Result<(), Fault> {
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

fn withdraw_payer(running: &mut Running<'_>) -> Result<(), Fault> {
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

fn reclaim(running: &mut Running<'_>) -> Result<(), Fault> {
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
