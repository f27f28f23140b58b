//! Accounts, and the rules by which transactions change them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;

use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wire::x402::svm::Transaction;

use super::channel_program::{self, OnChain};
use super::{COMPUTE_BUDGET, ED25519, MEMO, RENT, SYSTEM, Trick, key, tokens};
use crate::payer::now_s;

/// An address.
pub type Key = [u8; 32];

/// Where the chain stands at first.
const FIRST_SLOT: u64 = 400_000_000;
/// Slots without a block so far: slots and blocks are two counts, as on the real chain.
const EMPTY_SLOTS: u64 = 21_000_000;
/// Blocks for which a transaction counts after the one whose hash it names.
const BLOCKS_VALID: u64 = 150;
const LAMPORTS_PER_SIGNATURE: u64 = 5_000;
/// What an account has to hold for itself and each byte of its data.
const ACCOUNT_OVERHEAD_BYTES: u64 = 128;
const LAMPORTS_PER_BYTE: u64 = 6_960;

/// What stands at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// SOL, in its smallest unit.
    pub lamports: u64,
    /// The program that may change it.
    pub owner: Key,
    /// What that program keeps in it.
    pub data: Vec<u8>,
    /// Whether it can be called.
    pub is_program: bool,
}

/// Why an instruction has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A program's own number.
    Custom(u32),
    /// One of the chain's names.
    Named(&'static str),
}

/// Why a transaction has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was never begun.
    Whole(&'static str),
    /// This instruction of it.
    At(usize, Fault),
}

/// One instruction, with what its accounts may be used for.
pub(super) struct Call {
    pub(super) program: Key,
    pub(super) accounts: Vec<Named>,
    pub(super) data: Vec<u8>,
}

/// An account of an instruction.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub(super) key: Key,
    pub(super) signs: bool,
    pub(super) is_written: bool,
}

/// Where the chain stands for a program.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) slot: u64,
    pub(super) unix_s: i64,
}

/// An instruction while it runs.
pub(super) struct Running<'a> {
    pub(super) accounts: &'a mut HashMap<Key, Account>,
    /// All of the transaction's, and which of them runs.
    pub(super) calls: &'a [Call],
    pub(super) place: usize,
    pub(super) clock: Clock,
    /// Names of what the channel program has done.
    pub(super) done: &'a mut Vec<&'static str>,
}

/// What became of a transaction.
struct Landed {
    slot: u64,
    failure: Option<Failure>,
}

/// What a transaction does: with a failure, no more than pay its fee.
struct Ran {
    after: HashMap<Key, Account>,
    done: Vec<&'static str>,
    failure: Option<Failure>,
}

/// A chain: every transaction has a block of its own.
pub struct Ledger {
    accounts: HashMap<Key, Account>,
    slot: u64,
    /// Seconds by which its clock is ahead of ours.
    ahead_s: u64,
    landed: HashMap<[u8; 64], Landed>,
    held: Vec<Transaction>,
    /// Names of what the channel program has done, in order.
    pub done: Vec<&'static str>,
    /// Sums of vouchers that everybody can read.
    pub published: Vec<u64>,
    /// What is done in place of the next transactions.
    pub tricks: VecDeque<Trick>,
}

impl Account {
    const NOTHING: Self = Self { lamports: 0, owner: SYSTEM, data: Vec::new(), is_program: false };
}

impl Failure {
    /// As a node writes it.
    pub fn to_json(self) -> Value {
        match self {
            Self::Whole(name) => json!(name),
            Self::At(place, Fault::Custom(number)) => {
                json!({"InstructionError": [place, {"Custom": number}]})
            }
            Self::At(place, Fault::Named(name)) => json!({"InstructionError": [place, name]}),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole("BlockhashNotFound") => f.write_str("Blockhash not found"),
            Self::Whole("AlreadyProcessed") => f.write_str("This transaction has already been processed"),
            Self::Whole(name) => f.write_str(name),
            Self::At(place, Fault::Custom(number)) => {
                write!(f, "Error processing Instruction {place}: custom program error: {number:#x}")
            }
            Self::At(place, Fault::Named(name)) => write!(f, "Error processing Instruction {place}: {name}"),
        }
    }
}

/// What an account of this size has to hold.
pub(super) fn rent(data_bytes: usize) -> u64 {
    (ACCOUNT_OVERHEAD_BYTES + data_bytes as u64) * LAMPORTS_PER_BYTE
}

impl Ledger {
    /// The programs, and a mint that nobody has anything of.
    pub(super) fn genesis() -> Self {
        let mut accounts = HashMap::new();
        for program in channel_program::programs() {
            accounts.insert(program, Account { lamports: 1, is_program: true, ..Account::NOTHING });
        }
        let rates = [&LAMPORTS_PER_BYTE.to_le_bytes()[..], &1_f64.to_le_bytes(), &[50]].concat();
        accounts.insert(key(RENT), Account { lamports: rent(rates.len()), data: rates, ..Account::NOTHING });
        accounts.insert(key(super::MINT), tokens::mint());
        Self {
            accounts,
            slot: FIRST_SLOT,
            ahead_s: 0,
            landed: HashMap::new(),
            held: Vec::new(),
            done: Vec::new(),
            published: Vec::new(),
            tricks: VecDeque::new(),
        }
    }

    /// Where it stands.
    pub fn slot(&self) -> u64 {
        self.slot
    }

    /// How many blocks it has.
    pub fn height(&self) -> u64 {
        self.slot - EMPTY_SLOTS
    }

    /// The newest block's hash.
    pub fn blockhash(&self) -> Key {
        blockhash(self.slot)
    }

    /// The last block that may hold a transaction which names the newest one.
    pub fn last_valid_height(&self) -> u64 {
        self.height() + BLOCKS_VALID
    }

    /// Blocks go by.
    pub fn advance(&mut self, blocks: u64) {
        self.slot += blocks;
    }

    /// Time goes by, and blocks with it.
    pub fn pass(&mut self, seconds: u64) {
        self.ahead_s += seconds;
        self.slot += seconds * 5 / 2;
    }

    /// Unix seconds, as programs see them.
    pub fn now_s(&self) -> u64 {
        now_s() + self.ahead_s
    }

    /// What stands at an address.
    pub fn account(&self, key: &Key) -> Option<&Account> {
        self.accounts.get(key)
    }

    /// Gives somebody SOL.
    pub fn give(&mut self, owner: Key, lamports: u64) {
        self.accounts.entry(owner).or_insert(Account::NOTHING).lamports += lamports;
    }

    /// Gives somebody an account of the mint with so much in it.
    pub fn give_tokens(&mut self, owner: Key, amount: u64) {
        let place = tokens::place(&owner);
        let before = self.tokens(&owner).unwrap_or_default();
        self.accounts.insert(place, tokens::held(&owner, before + amount));
    }

    /// Takes somebody's token account off the chain, with what was in it.
    pub fn drop_tokens(&mut self, owner: &Key) {
        self.accounts.remove(&tokens::place(owner));
    }

    /// Somebody's token account is frozen.
    pub fn freeze_tokens(&mut self, owner: &Key) {
        tokens::freeze(self.accounts.get_mut(&tokens::place(owner)).unwrap());
    }

    /// Somebody makes his token account another's, with what is in it.
    pub fn give_away_tokens(&mut self, owner: &Key, to: &Key) {
        tokens::give_away(self.accounts.get_mut(&tokens::place(owner)).unwrap(), to);
    }

    /// What somebody has of the mint; none without an account for it.
    pub fn tokens(&self, owner: &Key) -> Option<u64> {
        self.accounts.get(&tokens::place(owner)).and_then(tokens::amount)
    }

    /// A channel, while its account is there.
    pub fn channel(&self, id: &Key) -> Option<OnChain> {
        self.accounts.get(id).and_then(OnChain::of)
    }

    /// What a node says of a transaction.
    pub(super) fn status(&self, id: &[u8; 64]) -> Value {
        self.landed.get(id).map_or(Value::Null, |landed| {
            let err = landed.failure.map_or(Value::Null, Failure::to_json);
            let ended = if err.is_null() { json!({"Ok": null}) } else { json!({"Err": err}) };
            json!({"slot": landed.slot, "confirmations": 1, "err": err, "status": ended,
                "confirmationStatus": "confirmed"})
        })
    }

    /// What a transaction would do in the next block; nothing changes.
    ///
    /// # Errors
    /// Why it would do nothing.
    pub fn simulate(&self, transaction: &Transaction) -> Result<(), Failure> {
        self.run(transaction)?.failure.map_or(Ok(()), Err)
    }

    /// Puts a transaction into the next block. One that may not be in a block is dropped.
    pub fn land(&mut self, transaction: &Transaction) {
        self.slot += 1;
        let Ok(ran) = self.run(transaction) else { return };
        self.published.extend(transaction.message.instructions.iter().filter_map(|instruction| {
            let program = transaction.message.program(instruction)?;
            (*program == key(ED25519)).then_some(())?;
            instruction.data.get(146..154)?.try_into().ok().map(u64::from_le_bytes)
        }));
        self.accounts = ran.after;
        self.done.extend(ran.done);
        let landed = Landed { slot: self.slot, failure: ran.failure };
        self.landed.insert(transaction.signatures[0], landed);
    }

    /// As a node does with a transaction: tried first, then in a block.
    ///
    /// # Errors
    /// Why it would do nothing.
    pub fn send(&mut self, transaction: &Transaction) -> Result<(), Failure> {
        self.simulate(transaction)?;
        self.land(transaction);
        Ok(())
    }

    pub(super) fn hold(&mut self, transaction: Transaction) {
        self.held.push(transaction);
    }

    /// What was held back comes in, as things stand by now.
    pub fn land_held(&mut self) {
        for transaction in std::mem::take(&mut self.held) {
            self.land(&transaction);
        }
    }

    fn run(&self, transaction: &Transaction) -> Result<Ran, Failure> {
        let message = &transaction.message;
        for (key, signature) in message.keys.iter().zip(&transaction.signatures) {
            let good = VerifyingKey::from_bytes(key).is_ok_and(|key| {
                key.verify_strict(&transaction.message_bytes, &Signature::from_bytes(signature)).is_ok()
            });
            good.then_some(()).ok_or(Failure::Whole("SignatureFailure"))?;
        }
        if message.keys.iter().collect::<BTreeSet<_>>().len() < message.keys.len() {
            return Err(Failure::Whole("AccountLoadedTwice"));
        }
        if self.landed.contains_key(&transaction.signatures[0]) {
            return Err(Failure::Whole("AlreadyProcessed"));
        }
        let mut recent = self.slot.saturating_sub(BLOCKS_VALID)..=self.slot;
        if !recent.any(|slot| blockhash(slot) == message.recent_blockhash) {
            return Err(Failure::Whole("BlockhashNotFound"));
        }
        let calls = calls(transaction);
        let mut charged = self.accounts.clone();
        take_fee(&mut charged, transaction, &calls)?;
        for call in &calls {
            let program = charged.get(&call.program).ok_or(Failure::Whole("ProgramAccountNotFound"))?;
            program.is_program.then_some(()).ok_or(Failure::Whole("InvalidProgramForExecution"))?;
        }
        let mut after = charged.clone();
        let mut done = Vec::new();
        let clock = Clock { slot: self.slot, unix_s: i64::try_from(self.now_s()).unwrap() };
        for place in 0..calls.len() {
            let running = Running { accounts: &mut after, calls: &calls, place, clock, done: &mut done };
            if let Err(fault) = running.run() {
                let failure = Some(Failure::At(place, fault));
                return Ok(Ran { after: charged, done: Vec::new(), failure });
            }
        }
        after.retain(|_, account| account.lamports > 0);
        if message.keys.iter().any(|key| is_short(&self.accounts, &after, key)) {
            let failure = Some(Failure::Whole("InsufficientFundsForRent"));
            return Ok(Ran { after: charged, done: Vec::new(), failure });
        }
        Ok(Ran { after, done, failure: None })
    }
}

fn blockhash(slot: u64) -> Key {
    Sha256::digest([&b"block"[..], &slot.to_le_bytes()].concat()).into()
}

/// Whether an account holds less than it has to, and did not before.
fn is_short(before: &HashMap<Key, Account>, after: &HashMap<Key, Account>, key: &Key) -> bool {
    let short = |accounts: &HashMap<Key, Account>| {
        accounts
            .get(key)
            .is_some_and(|account| !account.is_program && account.lamports < rent(account.data.len()))
    };
    short(after) && !short(before)
}

/// The instructions of a transaction. The header says what each key may be used for, in all of them.
fn calls(transaction: &Transaction) -> Vec<Call> {
    let message = &transaction.message;
    let header = &transaction.message_bytes[usize::from(transaction.message_bytes[0] == 0x80)..][..3];
    let [signers, read_signers, read_others] = [0, 1, 2].map(|place| usize::from(header[place]));
    let named = |place: usize| {
        let signs = place < signers;
        let end = if signs { signers - read_signers } else { message.keys.len() - read_others };
        Named { key: message.keys[place], signs, is_written: place < end }
    };
    let call = |instruction: &wire::x402::svm::Instruction| Call {
        program: message.keys[instruction.program],
        accounts: instruction.accounts.iter().map(|place| named(*place)).collect(),
        data: instruction.data.clone(),
    };
    message.instructions.iter().map(call).collect()
}

/// Signatures that the chain checks by a program cost as much as the transaction's own.
fn take_fee(
    accounts: &mut HashMap<Key, Account>,
    transaction: &Transaction,
    calls: &[Call],
) -> Result<(), Failure> {
    let checked = calls.iter().filter(|call| call.program == key(ED25519));
    let checked: usize = checked.map(|call| call.data.first().map_or(0, |count| usize::from(*count))).sum();
    let fee = LAMPORTS_PER_SIGNATURE * (transaction.signatures.len() + checked) as u64;
    let payer = accounts.get_mut(&transaction.message.keys[0]).ok_or(Failure::Whole("AccountNotFound"))?;
    payer.lamports = payer.lamports.checked_sub(fee).ok_or(Failure::Whole("InsufficientFundsForFee"))?;
    Ok(())
}

impl Running<'_> {
    fn run(mut self) -> Result<(), Fault> {
        let program = self.call().program;
        if program == key(ED25519) {
            self.check_signatures()
        } else if program == key(COMPUTE_BUDGET) || program == key(MEMO) {
            Ok(())
        } else if program == key(proof::x402_svm::token_account::ASSOCIATED_TOKEN) {
            tokens::associated(&mut self)
        } else if program == tokens::program() {
            tokens::run(&mut self)
        } else if program == channel_program::program() {
            channel_program::run(&mut self)
        } else {
            // Nobody calls the others but the programs above.
            Err(Fault::Named("InvalidInstructionData"))
        }
    }

    /// The instruction that runs.
    pub(super) fn call(&self) -> &Call {
        &self.calls[self.place]
    }

    /// What an account may be used for.
    fn named(&self, key: &Key) -> Result<Named, Fault> {
        self.call()
            .accounts
            .iter()
            .find(|named| named.key == *key)
            .copied()
            .ok_or(Fault::Named("MissingAccount"))
    }

    /// A program calls another one.
    pub(super) fn calls_program(&self, program: &Key) -> Result<(), Fault> {
        self.named(program).map(|_| ())
    }

    /// A program hands an account on to another one that will change it.
    pub(super) fn lends(&self, key: &Key) -> Result<(), Fault> {
        self.named(key)?.is_written.then_some(()).ok_or(Fault::Named("PrivilegeEscalation"))
    }

    /// The same, and the other one wants its signature.
    pub(super) fn lends_signed(&self, key: &Key) -> Result<(), Fault> {
        self.lends(key)?;
        self.named(key)?.signs.then_some(()).ok_or(Fault::Named("PrivilegeEscalation"))
    }

    /// What stands at an address.
    pub(super) fn at(&self, key: &Key) -> &Account {
        static NOTHING: Account = Account::NOTHING;
        self.accounts.get(key).unwrap_or(&NOTHING)
    }

    /// The same, to be changed.
    pub(super) fn change(&mut self, key: &Key) -> Result<&mut Account, Fault> {
        self.named(key)?.is_written.then_some(()).ok_or(Fault::Named("ReadonlyDataModified"))?;
        Ok(self.accounts.entry(*key).or_insert(Account::NOTHING))
    }

    /// Moves SOL. Who gives it has to have agreed, which is for the caller to see.
    pub(super) fn move_lamports(&mut self, from: &Key, to: &Key, sum: u64) -> Result<(), Fault> {
        let left = self.at(from).lamports.checked_sub(sum).ok_or(Fault::Custom(1))?;
        self.change(from)?.lamports = left;
        self.change(to)?.lamports += sum;
        Ok(())
    }

    /// The chain's own check of Ed25519 signatures: each is found by seven numbers, and may lie in any instruction.
    fn check_signatures(&self) -> Result<(), Fault> {
        const SIGNATURE: Fault = Fault::Custom(2);
        const OFFSETS: Fault = Fault::Custom(3);
        const SIZE: Fault = Fault::Custom(4);
        let data = &self.call().data;
        let [count, _, rest @ ..] = data.as_slice() else { return Err(SIZE) };
        if *count == 0 && !rest.is_empty() {
            return Err(SIZE);
        }
        let records = rest.chunks_exact(14).take(usize::from(*count));
        if records.len() < usize::from(*count) {
            return Err(SIZE);
        }
        for record in records {
            let number = |place: usize| u16::from_le_bytes([record[2 * place], record[2 * place + 1]]);
            let part = |at: u16, length: usize, instruction: u16| {
                let data = match instruction {
                    u16::MAX => data,
                    place => &self.calls.get(usize::from(place)).ok_or(OFFSETS)?.data,
                };
                let at = usize::from(at);
                data.get(at..at + length).ok_or(OFFSETS)
            };
            let signature = part(number(0), 64, number(1))?.try_into().unwrap();
            let public = part(number(2), 32, number(3))?.try_into().unwrap();
            let public = VerifyingKey::from_bytes(public).map_err(|_| Fault::Custom(0))?;
            let message = part(number(4), usize::from(number(5)), number(6))?;
            public.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| SIGNATURE)?;
        }
        Ok(())
    }
}
