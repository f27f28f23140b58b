//! SPL Token, as far as channels need it: accounts of 165 bytes, moved, opened and closed.

use proof::x402_svm::token_account::{self, TokenProgram};

use super::ledger::{Account, Fault, Key, Named, Running, rent};
use super::{DECIMALS, MINT, SYSTEM, key};

/// `mint | owner | amount u64 | delegate | state | native | delegated | who may close it`
const BYTES: usize = 165;
const AMOUNT: usize = 64;
const STATE: usize = 108;
const INITIALIZED: u8 = 1;
const FROZEN: u8 = 2;
/// `authority | supply u64 | decimals | initialized | freezer`
const MINT_BYTES: usize = 82;
const MINT_DECIMALS: usize = 44;

const INSUFFICIENT: Fault = Fault::Custom(1);
const MINT_MISMATCH: Fault = Fault::Custom(3);
const OWNER_MISMATCH: Fault = Fault::Custom(4);
const NOT_EMPTY: Fault = Fault::Custom(11);
const MALFORMED: Fault = Fault::Custom(12);
const IS_FROZEN: Fault = Fault::Custom(17);
const DECIMALS_MISMATCH: Fault = Fault::Custom(18);

/// Why an account is not somebody's own for the mint, in working order.
pub(super) enum NotTheirs {
    /// It is at another address.
    Address,
    /// It is no token account, or none yet.
    Malformed,
    /// It was never opened, or is frozen.
    State,
    /// It was given away.
    Owner,
}

/// The program.
pub(super) fn program() -> Key {
    key(TokenProgram::Token.address())
}

/// Where somebody keeps the mint.
pub(super) fn place(owner: &Key) -> Key {
    place_of(owner, &key(MINT))
}

fn place_of(owner: &Key, mint: &Key) -> Key {
    token_account::derive(owner, TokenProgram::Token, mint).unwrap()
}

/// The mint's account.
pub(super) fn mint() -> Account {
    let mut data = vec![0; MINT_BYTES];
    data[MINT_DECIMALS] = DECIMALS;
    data[MINT_DECIMALS + 1] = INITIALIZED;
    Account { lamports: rent(MINT_BYTES), owner: program(), data, is_program: false }
}

/// Somebody's account with so much in it.
pub(super) fn held(owner: &Key, amount: u64) -> Account {
    opened(owner, &key(MINT), amount)
}

fn opened(owner: &Key, mint: &Key, amount: u64) -> Account {
    let mut data = vec![0; BYTES];
    data[..32].copy_from_slice(mint);
    data[32..64].copy_from_slice(owner);
    data[AMOUNT..AMOUNT + 8].copy_from_slice(&amount.to_le_bytes());
    data[STATE] = INITIALIZED;
    Account { lamports: rent(BYTES), owner: program(), data, is_program: false }
}

/// What is in an account; none where it is no token account.
pub(super) fn amount(account: &Account) -> Option<u64> {
    is_account(account).then(|| u64::from_le_bytes(account.data[AMOUNT..AMOUNT + 8].try_into().unwrap()))
}

fn is_account(account: &Account) -> bool {
    account.owner == program() && account.data.len() == BYTES
}

/// Whether an account is a mint of the program.
pub(super) fn is_mint(account: &Account) -> bool {
    account.owner == program() && account.data.len() == MINT_BYTES
}

/// Whether an account is where `owner` keeps a mint, and in working order.
pub(super) fn is_theirs(running: &Running<'_>, at: &Key, owner: &Key, mint: &Key) -> Result<(), NotTheirs> {
    if *at != place_of(owner, mint) {
        return Err(NotTheirs::Address);
    }
    let account = running.at(at);
    if !is_account(account) {
        return Err(NotTheirs::Malformed);
    }
    if account.data[STATE] != INITIALIZED {
        return Err(NotTheirs::State);
    }
    let is_same = account.data[..32] == *mint && account.data[32..64] == *owner;
    is_same.then_some(()).ok_or(NotTheirs::Owner)
}

/// Whether an account is at the address where `owner` keeps a mint, whatever stands there.
pub(super) fn is_place(at: &Key, owner: &Key, mint: &Key) -> bool {
    *at == place_of(owner, mint)
}

/// Calls of the program by a transaction itself: `TransferChecked` alone.
pub(super) fn run(running: &mut Running<'_>) -> Result<(), Fault> {
    const TRANSFER_CHECKED: u8 = 12;
    let call = running.call();
    let Some((&TRANSFER_CHECKED, rest)) = call.data.split_first() else { return Err(MALFORMED) };
    let (sum, rest) = rest.split_first_chunk::<8>().ok_or(MALFORMED)?;
    let (sum, decimals) = (u64::from_le_bytes(*sum), *rest.first().ok_or(MALFORMED)?);
    let [from, mint, to, authority, ..] = call.accounts[..] else {
        return Err(Fault::Named("NotEnoughAccountKeys"));
    };
    let moved = Moved { from: from.key, to: to.key, authority: authority.key, mint: mint.key, sum, decimals };
    moved.check(running)?;
    authority.signs.then_some(()).ok_or(Fault::Named("MissingRequiredSignature"))?;
    moved.carry_out(running)
}

/// Moves tokens for a program. `authority` has signed, or is an address of that program's own.
pub(super) fn transfer(
    running: &mut Running<'_>,
    from: &Key,
    to: &Key,
    authority: &Key,
    mint: &Key,
    sum: u64,
) -> Result<(), Fault> {
    running.calls_program(&program())?;
    running.lends(from)?;
    running.lends(to)?;
    let decimals = DECIMALS;
    let moved = Moved { from: *from, to: *to, authority: *authority, mint: *mint, sum, decimals };
    moved.check(running)?;
    moved.carry_out(running)
}

/// Tokens on their way, in the order of what is asked of them.
struct Moved {
    from: Key,
    to: Key,
    authority: Key,
    mint: Key,
    sum: u64,
    decimals: u8,
}

impl Moved {
    fn check(&self, running: &Running<'_>) -> Result<(), Fault> {
        let Self { from, to, mint, .. } = self;
        for at in [from, to] {
            let account = running.at(at);
            is_account(account).then_some(()).ok_or(Fault::Named("InvalidAccountData"))?;
            match account.data[STATE] {
                0 => return Err(Fault::Named("UninitializedAccount")),
                FROZEN => return Err(IS_FROZEN),
                _ => {}
            }
        }
        if amount(running.at(from)).is_none_or(|there| there < self.sum) {
            return Err(INSUFFICIENT);
        }
        let of = |at: &Key| running.at(at).data[..32] == *mint;
        if !of(from) || !of(to) {
            return Err(MINT_MISMATCH);
        }
        if running.at(mint).data.get(MINT_DECIMALS) != Some(&self.decimals) {
            return Err(DECIMALS_MISMATCH);
        }
        let is_owners = running.at(from).data[32..64] == self.authority;
        is_owners.then_some(()).ok_or(OWNER_MISMATCH)
    }

    fn carry_out(&self, running: &mut Running<'_>) -> Result<(), Fault> {
        if self.from == self.to {
            return Ok(());
        }
        let held = |at: &Key| amount(running.at(at)).unwrap();
        let (left, there) = (held(&self.from) - self.sum, held(&self.to) + self.sum);
        running.change(&self.from)?.data[AMOUNT..AMOUNT + 8].copy_from_slice(&left.to_le_bytes());
        running.change(&self.to)?.data[AMOUNT..AMOUNT + 8].copy_from_slice(&there.to_le_bytes());
        Ok(())
    }
}

/// What its issuer does to an account: nothing goes in or out.
pub(super) fn freeze(account: &mut Account) {
    account.data[STATE] = FROZEN;
}

/// What its owner does to it: from here on it is another's, at the same address.
pub(super) fn give_away(account: &mut Account, to: &Key) {
    account.data[32..64].copy_from_slice(to);
}

/// Closes an empty account for a program; what it cost goes to somebody.
pub(super) fn close(running: &mut Running<'_>, at: &Key, to: &Key) -> Result<(), Fault> {
    running.calls_program(&program())?;
    running.lends(at)?;
    running.lends(to)?;
    if amount(running.at(at)) != Some(0) {
        return Err(NOT_EMPTY);
    }
    let lamports = running.at(at).lamports;
    running.move_lamports(at, to, lamports)?;
    running.change(at)?.data.clear();
    running.change(at)?.owner = SYSTEM;
    Ok(())
}

/// The program that opens accounts at the address that is derived for them: only unless they are there.
pub(super) fn associated(running: &mut Running<'_>) -> Result<(), Fault> {
    const CREATE_IDEMPOTENT: u8 = 1;
    if running.call().data != [CREATE_IDEMPOTENT] {
        return Err(Fault::Named("InvalidInstructionData"));
    }
    let [funder, at, owner, mint, _system, _token] = running.call().accounts[..] else {
        return Err(Fault::Named("NotEnoughAccountKeys"));
    };
    open(running, &funder, &at.key, &owner.key, &mint.key)
}

/// Opens an account at the address that is derived for it, unless it is there. `funder` pays for it.
pub(super) fn open(
    running: &mut Running<'_>,
    funder: &Named,
    at: &Key,
    owner: &Key,
    mint: &Key,
) -> Result<(), Fault> {
    running.calls_program(&SYSTEM)?;
    running.calls_program(&program())?;
    if !is_place(at, owner, mint) {
        return Err(Fault::Named("InvalidSeeds"));
    }
    let there = running.at(at);
    if is_account(there) {
        let is_same = there.data[..32] == *mint && there.data[32..64] == *owner;
        return is_same.then_some(()).ok_or(Fault::Custom(0));
    }
    if there.owner != SYSTEM {
        return Err(Fault::Named("IllegalOwner"));
    }
    if !is_mint(running.at(mint)) {
        return Err(Fault::Named("InvalidAccountData"));
    }
    running.lends_signed(&funder.key)?;
    running.lends(at)?;
    let missing = rent(BYTES).saturating_sub(running.at(at).lamports);
    running.move_lamports(&funder.key, at, missing)?;
    let account = running.change(at)?;
    let lamports = account.lamports;
    *account = Account { lamports, ..opened(owner, mint, 0) };
    Ok(())
}
