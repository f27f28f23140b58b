//! The bytes of a channel's account, and who gets parts of what its payee is paid.

use sha2::{Digest as _, Sha256};

use super::super::ledger::{Account, Fault, Key, Running};
use super::{DATA, program};

const SHARES_MAX: u32 = 32;
/// All of it, in hundredths of a per cent.
pub(super) const WHOLE_BPS: u64 = 10_000;

pub(super) const BYTES: usize = 256;
pub(super) const KIND_AND_VERSION: [u8; 2] = [1, 1];
pub(super) const STATUS: usize = 3;
pub(super) const SALT: usize = 4;
pub(super) const DEPOSIT: usize = 12;
pub(super) const SETTLED: usize = 20;
pub(super) const PAID_OUT: usize = 28;
pub(super) const CLOSING_SINCE: usize = 36;
pub(super) const REFUNDED_AT: usize = 44;
pub(super) const GRACE: usize = 52;
pub(super) const SHARES: usize = 56;
pub(super) const PAYER: usize = 88;
pub(super) const PAYEE: usize = 120;
pub(super) const SIGNER: usize = 152;
pub(super) const CHANNEL_MINT: usize = 184;
pub(super) const RENT_PAYER: usize = 216;
pub(super) const OPEN_SLOT: usize = 248;

pub(super) const OPEN: u8 = 0;
pub(super) const SEALED: u8 = 1;
pub(super) const CLOSING: u8 = 2;
pub(super) const DISTRIBUTED: u8 = 3;

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
    pub(in super::super) fn of(account: &Account) -> Option<Self> {
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

/// The bytes of a channel.
#[derive(Clone, Copy)]
pub(super) struct Channel(pub(super) [u8; BYTES]);

impl Channel {
    pub(super) fn load(running: &Running<'_>, at: &Key) -> Result<Self, Fault> {
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

    pub(super) fn store(&self, running: &mut Running<'_>, at: &Key) -> Result<(), Fault> {
        running.change(at)?.data = self.0.to_vec();
        Ok(())
    }

    pub(super) fn number(&self, place: usize) -> u64 {
        u64::from_le_bytes(self.0[place..place + 8].try_into().unwrap())
    }

    pub(super) fn time(&self, place: usize) -> i64 {
        i64::from_le_bytes(self.0[place..place + 8].try_into().unwrap())
    }

    pub(super) fn key(&self, place: usize) -> Key {
        self.0[place..place + 32].try_into().unwrap()
    }

    pub(super) fn put(&mut self, place: usize, bytes: &[u8]) {
        self.0[place..place + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn status(&self) -> u8 {
        self.0[STATUS]
    }

    /// When the payer gets his money without the payee.
    pub(super) fn deadline(&self) -> i64 {
        let grace = u32::from_le_bytes(self.0[GRACE..GRACE + 4].try_into().unwrap());
        self.time(CLOSING_SINCE) + i64::from(grace)
    }
}

/// Who gets parts of what the payee is paid, as it is hashed: a count, then keys with hundredths of a per cent.
pub(super) struct Shares<'a> {
    bytes: &'a [u8],
    pub(super) each: Vec<(Key, u64)>,
}

impl<'a> Shares<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
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

    pub(super) fn sum(&self) -> u64 {
        self.each.iter().map(|(_, bps)| bps).sum()
    }

    pub(super) fn hash(&self) -> Key {
        Sha256::digest(self.bytes).into()
    }
}
