//! A channel as its program keeps it: one account of 256 bytes, numbers little-endian.
//!
//! `kind 1 | version 1 | bump | status | salt u64 | deposit u64 | settled u64 | paid out u64 | closing since i64 |
//! refunded at i64 | grace u32 | hash of the shares [32] | payer | payee | signer | mint | payer of the rent | slot u64`

/// Length of an account.
pub const ACCOUNT_BYTES: usize = 256;
const KIND: u8 = 1;
const VERSION: u8 = 1;

/// A channel on its chain. Whether the account is the program's own is for whoever asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelAccount {
    /// Whether anything is taken from it.
    pub status: Status,
    /// Tells channels of the same parties apart.
    pub salt: u64,
    /// Put in, in all.
    pub deposit: u64,
    /// Taken by vouchers, in all.
    pub settled: u64,
    /// What of that was paid to the payee.
    pub paid_out: u64,
    /// Unix seconds of the payer's wish to have his money back; 0: none.
    pub closing_since: i64,
    /// What he has to wait, in seconds.
    pub grace_s: u32,
    /// SHA-256 of who gets parts of what the payee is paid.
    pub shares_hash: [u8; 32],
    /// Who deposited.
    pub payer: [u8; 32],
    /// Who is paid.
    pub payee: [u8; 32],
    /// Who signs the vouchers.
    pub authorized_signer: [u8; 32],
    /// What it holds.
    pub mint: [u8; 32],
    /// Who gets back what the account itself cost.
    pub rent_payer: [u8; 32],
    /// Where the chain stood when it was opened, as its payer saw it.
    pub open_slot: u64,
}

/// What may be done on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everything.
    Open,
    /// No voucher is taken any more; nobody is paid yet.
    Sealed,
    /// Its payer waits for his money.
    Closing,
    /// Everybody is paid.
    Distributed,
}

/// Why bytes are no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Of another length.
    #[error("account is {0} bytes, a channel has {ACCOUNT_BYTES}")]
    Length(usize),
    /// Another kind of account, or of another version.
    #[error("account of kind {0}, version {1}")]
    Kind(u8, u8),
    /// A status that no channel has.
    #[error("channel has status {0}")]
    Status(u8),
}

impl ChannelAccount {
    /// Reads the account's bytes.
    ///
    /// # Errors
    /// [`AccountError`]: it is no channel that we know how to take from.
    pub fn parse(bytes: &[u8]) -> Result<Self, AccountError> {
        let length = || AccountError::Length(bytes.len());
        let whole: &[u8; ACCOUNT_BYTES] = bytes.try_into().map_err(|_| length())?;
        let ([kind, version, _bump, status], rest) = whole.split_first_chunk::<4>().ok_or_else(length)?;
        if (*kind, *version) != (KIND, VERSION) {
            return Err(AccountError::Kind(*kind, *version));
        }
        let status = Status::read(*status).ok_or(AccountError::Status(*status))?;
        let mut reader = Reader(rest);
        let mut read = || {
            let number = |reader: &mut Reader<'_>| reader.array().map(u64::from_le_bytes);
            let (salt, deposit, settled, paid_out) =
                (number(&mut reader)?, number(&mut reader)?, number(&mut reader)?, number(&mut reader)?);
            let closing_since = reader.array().map(i64::from_le_bytes)?;
            let _refunded_at: [u8; 8] = reader.array()?;
            let grace_s = reader.array().map(u32::from_le_bytes)?;
            Some(Self {
                status,
                salt,
                deposit,
                settled,
                paid_out,
                closing_since,
                grace_s,
                shares_hash: reader.array()?,
                payer: reader.array()?,
                payee: reader.array()?,
                authorized_signer: reader.array()?,
                mint: reader.array()?,
                rent_payer: reader.array()?,
                open_slot: number(&mut reader)?,
            })
        };
        read().ok_or_else(length)
    }

    /// The bytes, with a bump of 255.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ACCOUNT_BYTES] {
        let numbers = [self.salt, self.deposit, self.settled, self.paid_out].map(u64::to_le_bytes);
        let parts: [&[u8]; 12] = [
            &[KIND, VERSION, u8::MAX, self.status.number()],
            numbers.as_flattened(),
            &self.closing_since.to_le_bytes(),
            &[0; 8],
            &self.grace_s.to_le_bytes(),
            &self.shares_hash,
            &self.payer,
            &self.payee,
            &self.authorized_signer,
            &self.mint,
            &self.rent_payer,
            &self.open_slot.to_le_bytes(),
        ];
        let mut bytes = [0; ACCOUNT_BYTES];
        for (place, byte) in bytes.iter_mut().zip(parts.concat()) {
            *place = byte;
        }
        bytes
    }
}

impl Status {
    const fn read(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Open),
            1 => Some(Self::Sealed),
            2 => Some(Self::Closing),
            3 => Some(Self::Distributed),
            _ => None,
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Sealed => 1,
            Self::Closing => 2,
            Self::Distributed => 3,
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }
}

#[cfg(test)]
mod tests {
    use super::{ACCOUNT_BYTES, AccountError as E, ChannelAccount, Status};

    fn channel() -> ChannelAccount {
        ChannelAccount {
            status: Status::Closing,
            salt: 1,
            deposit: 500_000,
            settled: 300,
            paid_out: 200,
            closing_since: 1_800_000_000,
            grace_s: 900,
            shares_hash: [1; 32],
            payer: [2; 32],
            payee: [3; 32],
            authorized_signer: [4; 32],
            mint: [5; 32],
            rent_payer: [6; 32],
            open_slot: 352_114_093,
        }
    }

    /// Each member stands where the program's own struct has it.
    #[test]
    fn members_have_their_places() {
        let bytes = channel().to_bytes();
        assert_eq!(ChannelAccount::parse(&bytes), Ok(channel()));
        for (what, at, expected) in [
            ("kind, version, bump, status", 0, &[1, 1, 255, 2][..]),
            ("salt", 4, &1u64.to_le_bytes()),
            ("deposit", 12, &500_000u64.to_le_bytes()),
            ("settled", 20, &300u64.to_le_bytes()),
            ("paid out", 28, &200u64.to_le_bytes()),
            ("closing since", 36, &1_800_000_000i64.to_le_bytes()),
            ("refunded at", 44, &[0; 8]),
            ("grace", 52, &900u32.to_le_bytes()),
            ("shares", 56, &[1; 32]),
            ("payer", 88, &[2; 32]),
            ("payee", 120, &[3; 32]),
            ("signer", 152, &[4; 32]),
            ("mint", 184, &[5; 32]),
            ("rent payer", 216, &[6; 32]),
            ("slot", 248, &352_114_093u64.to_le_bytes()),
        ] {
            assert_eq!(&bytes[at..at + expected.len()], expected, "{what}");
        }
    }

    #[test]
    fn other_accounts_are_refused() {
        let with = |at: usize, byte: u8| {
            let mut bytes = channel().to_bytes();
            bytes[at] = byte;
            bytes.to_vec()
        };
        for (what, bytes, expected) in [
            ("nothing", vec![], E::Length(0)),
            ("a shorter one", vec![1; ACCOUNT_BYTES - 1], E::Length(255)),
            ("a longer one", vec![1; ACCOUNT_BYTES + 1], E::Length(257)),
            ("never written to", vec![0; ACCOUNT_BYTES], E::Kind(0, 0)),
            ("a tombstone", with(0, 2), E::Kind(2, 1)),
            ("another version", with(1, 2), E::Kind(1, 2)),
            ("another status", with(3, 4), E::Status(4)),
        ] {
            assert_eq!(ChannelAccount::parse(&bytes), Err(expected), "{what}");
        }
    }
}
