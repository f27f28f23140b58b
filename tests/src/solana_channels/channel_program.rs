//! The program that keeps channels, by the facts of its source: solana-foundation/payment-channels 3ffa4d6.
//!
//! Every call wants its accounts in one order and no others, and fails with the number that the program gives. Nothing here
//! is taken from the code that it is to judge: an account's members are found by their places in its bytes.

mod channel;
mod filling;
mod paying;
mod taking;

use proof::solana::address;
use wire::mpp::solana::PROGRAM;

use super::ledger::{Fault, Key, Named, Running};
use super::tokens::{self, NotTheirs};
use super::{COMPUTE_BUDGET, ED25519, MEMO, SYSTEM, key};

pub use channel::{OnChain, Status};

/// Slots for which a channel may be opened after the one that its address names, and its address stays taken.
const OPEN_SLOTS: u64 = 1_500;

const NO_SIGNATURE: Fault = Fault::Custom(1);
const WRONG_STATUS: Fault = Fault::Custom(2);
const WRONG_PAYER: Fault = Fault::Custom(5);
const WRONG_MINT: Fault = Fault::Custom(7);
const TOO_FEW_ACCOUNTS: Fault = Fault::Custom(9);
const NOT_ITS_TOKENS: Fault = Fault::Custom(50);
const NO_DEPOSIT: Fault = Fault::Custom(200);
const DATA: Fault = Fault::Named("InvalidInstructionData");
const ACCOUNTS: Fault = Fault::Named("NotEnoughAccountKeys");

/// Where the program is.
pub(super) fn program() -> Key {
    key(PROGRAM)
}

/// What can be called on this chain.
pub(super) fn programs() -> [Key; 7] {
    let associated = key(proof::x402_svm::token_account::ASSOCIATED_TOKEN);
    [SYSTEM, tokens::program(), associated, key(COMPUTE_BUDGET), key(ED25519), key(MEMO), program()]
}

fn event_authority() -> Key {
    address::derive(&[b"event_authority"], &program()).unwrap()
}

/// Runs a call.
pub(super) fn run(running: &mut Running<'_>) -> Result<(), Fault> {
    let data = running.call().data.clone();
    let (which, rest) = data.split_first().ok_or(DATA)?;
    let name = match which {
        1 => filling::open(running, rest).map(|()| "open"),
        2 => taking::settle(running).map(|()| "settle"),
        3 => filling::top_up(running, rest).map(|()| "topUp"),
        4 => taking::settle_and_seal(running, rest).map(|()| "settleAndSeal"),
        5 => taking::request_close(running).map(|()| "requestClose"),
        6 => taking::seal(running).map(|()| "seal"),
        7 => paying::distribute(running, rest).map(|()| "distribute"),
        8 => paying::withdraw_payer(running).map(|()| "withdrawPayer"),
        9 => paying::reclaim(running).map(|()| "reclaim"),
        _ => Err(DATA),
    }?;
    running.done.push(name);
    Ok(())
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
