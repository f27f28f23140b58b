//! The instructions of a payment: limit, price, transfer, memos, in this order; guards anywhere between.
//!
//! As deployed facilitators read them: by program and first byte, not by position.

use wire::x402::base58;
use wire::x402::svm::{Instruction, Message};

use super::SvmError;
use super::token_account::TokenProgram;

const COMPUTE_BUDGET: &str = "ComputeBudget111111111111111111111111111111";
/// Wallets add its assertions to what they sign; it can only make a transaction fail.
const LIGHTHOUSE: &str = "L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95";
const MEMO: &str = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr";
const INSTRUCTIONS_MIN: usize = 3;
const INSTRUCTIONS_MAX: usize = 7;
/// Five lamports per compute unit.
const PRICE_MICROLAMPORTS_MAX: u64 = 5_000_000;
const SET_LIMIT: u8 = 2;
const SET_PRICE: u8 = 3;
const TRANSFER_CHECKED: u8 = 12;

/// The transfer in a payment.
pub(super) struct TokenTransfer {
    pub(super) program: TokenProgram,
    pub(super) mint: [u8; 32],
    pub(super) destination: [u8; 32],
    pub(super) owner: [u8; 32],
    pub(super) amount: u64,
}

/// What is expected next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Limit,
    Price,
    Transfer,
    Memos,
}

/// Finds the transfer, and that nothing else is done.
pub(super) fn read(
    message: &Message,
    fee_payer: &[u8; 32],
    asked_memo: Option<&str>,
) -> Result<TokenTransfer, SvmError> {
    let instructions = &message.instructions;
    if !(INSTRUCTIONS_MIN..=INSTRUCTIONS_MAX).contains(&instructions.len()) {
        return Err(SvmError::InstructionCount(instructions.len()));
    }
    let (mut next, mut transfer, mut memos) = (Next::Limit, None, Vec::new());
    for (place, instruction) in instructions.iter().enumerate() {
        let misplaced = SvmError::Instruction(place);
        let program = message.program(instruction).ok_or(misplaced)?;
        let named = |account: &usize| message.keys.get(*account) == Some(fee_payer);
        if program == fee_payer || instruction.accounts.iter().any(named) {
            return Err(SvmError::FeePayerTouched);
        }
        let program = base58::encode(program);
        match (program.as_str(), next) {
            (LIGHTHOUSE, _) => {}
            (COMPUTE_BUDGET, Next::Limit) => {
                number::<4>(instruction, SET_LIMIT).ok_or(misplaced)?;
                next = Next::Price;
            }
            (COMPUTE_BUDGET, Next::Price) => {
                let price = u64::from_le_bytes(number(instruction, SET_PRICE).ok_or(misplaced)?);
                if price > PRICE_MICROLAMPORTS_MAX {
                    return Err(SvmError::ComputePrice);
                }
                next = Next::Transfer;
            }
            (MEMO, Next::Memos) => memos.push(instruction.data.as_slice()),
            (program, Next::Transfer) => {
                let program = TokenProgram::find(program).ok_or(misplaced)?;
                transfer = Some(token_transfer(message, instruction, program).ok_or(misplaced)?);
                next = Next::Memos;
            }
            _ => return Err(misplaced),
        }
    }
    if asked_memo.is_some_and(|asked| memos != [asked.as_bytes()]) {
        return Err(SvmError::Memo);
    }
    transfer.ok_or(SvmError::InstructionCount(instructions.len()))
}

/// Source, mint, destination, owner; amount and decimals. More accounts would be the signers of a multisig.
fn token_transfer(
    message: &Message,
    instruction: &Instruction,
    program: TokenProgram,
) -> Option<TokenTransfer> {
    let [TRANSFER_CHECKED, amount @ .., _decimals] = instruction.data.as_slice() else { return None };
    if instruction.accounts.len() != 4 {
        return None;
    }
    Some(TokenTransfer {
        program,
        mint: *message.account(instruction, 1)?,
        destination: *message.account(instruction, 2)?,
        owner: *message.account(instruction, 3)?,
        amount: u64::from_le_bytes(amount.try_into().ok()?),
    })
}

fn number<const N: usize>(instruction: &Instruction, tag: u8) -> Option<[u8; N]> {
    let (first, number) = instruction.data.split_first()?;
    (*first == tag).then_some(number.try_into().ok()?)
}
