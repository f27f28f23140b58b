//! Channels of `solana/session`: their addresses, and the calls of their program that take what is owed and end them.
//!
//! A signature under a voucher is checked by the chain itself, in a call that stands right before ours. `settle` takes a
//! whole promise, and so does the end: the program gives no part of one. What an end takes too much is sent back by another
//! call of the same transaction.

use wire::mpp::solana::ChannelAccount;
use wire::x402::base58;
use wire::x402::svm::SvmVoucher;

use super::Signed;
use super::solana::SolanaSignature;
use crate::ed25519;
use crate::solana::address;
use crate::solana::transaction::{Account, Call};
use crate::x402_svm::token_account::{self, ASSOCIATED_TOKEN, TokenProgram};

/// What is hashed for a channel whose payee gets everything: no shares.
const NO_SHARES: [u8; 4] = [0; 4];
/// SHA-256 of no shares: everything is the payee's.
pub const NO_SHARES_HASH: [u8; 32] = [
    0xdf, 0x3f, 0x61, 0x98, 0x04, 0xa9, 0x2f, 0xdb, 0x40, 0x57, 0x19, 0x2d, 0xc4, 0x3d, 0xd7, 0x48, 0xea,
    0x77, 0x8a, 0xdc, 0x52, 0xbc, 0x49, 0x8c, 0xe8, 0x05, 0x24, 0xc0, 0x14, 0xb8, 0x11, 0x19,
];

const ED25519: &str = "Ed25519SigVerify111111111111111111111111111";
const INSTRUCTIONS: &str = "Sysvar1nstructions1111111111111111111111111";
/// The system's own program.
const SYSTEM: [u8; 32] = [0; 32];

const SETTLE: u8 = 2;
const SETTLE_AND_SEAL: u8 = 4;
const SEAL: u8 = 6;
const DISTRIBUTE: u8 = 7;
/// Creates a token account unless it is there.
const CREATE_IDEMPOTENT: u8 = 1;
/// Moves tokens of this mint and so many decimals.
const TRANSFER_CHECKED: u8 = 12;

/// A deployment of the program that keeps channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub address: [u8; 32],
    /// Whose token account gets what no share can be paid of: built into a deployment.
    pub treasury: [u8; 32],
    /// What keeps the tokens.
    pub token: TokenProgram,
}

/// What a channel has to be, to pay us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who is paid.
    pub payee: [u8; 32],
    /// In what.
    pub mint: [u8; 32],
    /// How long its payer waits for his money at least, in seconds: the time we have to take what is owed.
    pub grace_s: u32,
}

/// Why a channel does not pay us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// Its account is at another address than its members lead to.
    #[error("channel is not at its address")]
    Address,
    /// It pays somebody else.
    #[error("channel pays somebody else")]
    Payee,
    /// It holds something else.
    #[error("channel holds another token")]
    Mint,
    /// Somebody gets parts of what we are paid.
    #[error("channel pays shares to others")]
    Shares,
    /// Its payer could withdraw before we have taken what is owed.
    #[error("payer waits {0} s, which is too short")]
    Grace(u32),
    /// Nobody can sign its vouchers, or anybody.
    #[error("channel has no usable signer")]
    Signer,
}

/// What names a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Who deposits.
    pub payer: [u8; 32],
    /// Who is paid.
    pub payee: [u8; 32],
    /// What is deposited.
    pub mint: [u8; 32],
    /// Who signs the vouchers.
    pub authorized_signer: [u8; 32],
    /// Tells channels of the same parties apart.
    pub salt: u64,
    /// Where the chain stood when it was opened, as its payer saw it: no address has two channels.
    pub open_slot: u64,
}

/// How a channel's payer is paid out at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payout {
    /// Whether his token account has to be created: without one the program would pay the treasury.
    pub creates_account: bool,
    /// What goes back to him of what the end takes, in base units.
    pub back: u128,
    /// Decimal places of the token.
    pub decimals: u8,
}

impl Descriptor {
    /// What an account says that it was named by.
    #[must_use]
    pub const fn of(account: &ChannelAccount) -> Self {
        Self {
            payer: account.payer,
            payee: account.payee,
            mint: account.mint,
            authorized_signer: account.authorized_signer,
            salt: account.salt,
            open_slot: account.open_slot,
        }
    }
}

impl Program {
    /// The address of a channel.
    #[must_use]
    pub fn channel_id(&self, channel: &Descriptor) -> Option<[u8; 32]> {
        let (salt, slot) = (channel.salt.to_le_bytes(), channel.open_slot.to_le_bytes());
        let Descriptor { payer, payee, mint, authorized_signer, .. } = channel;
        address::derive(&[b"channel", payer, payee, mint, authorized_signer, &salt, &slot], &self.address)
    }

    /// Whether the channel whose account stands at `id` pays us, and what names it. Whether it is open, and what is in it, is
    /// for the engine.
    ///
    /// # Errors
    /// [`NotOurs`]: nothing may be delivered on it.
    pub fn check(
        &self,
        id: &[u8; 32],
        account: &ChannelAccount,
        asked: &Asked,
    ) -> Result<Descriptor, NotOurs> {
        let channel = Descriptor::of(account);
        if channel.payee != asked.payee {
            return Err(NotOurs::Payee);
        }
        if channel.mint != asked.mint {
            return Err(NotOurs::Mint);
        }
        if account.shares_hash != NO_SHARES_HASH {
            return Err(NotOurs::Shares);
        }
        if account.grace_s < asked.grace_s {
            return Err(NotOurs::Grace(account.grace_s));
        }
        if !ed25519::is_usable(&channel.authorized_signer) {
            return Err(NotOurs::Signer);
        }
        if self.channel_id(&channel) != Some(*id) {
            return Err(NotOurs::Address);
        }
        Ok(channel)
    }

    /// The calls that take a promise, while the channel goes on. `None` where the promise is wider than the chain counts.
    #[must_use]
    pub fn settle(
        &self,
        channel: &Descriptor,
        id: &[u8; 32],
        promise: &Signed<SolanaSignature>,
    ) -> Option<Vec<Call>> {
        let accounts = vec![Account::written(*id), Account::read(key(INSTRUCTIONS)?)];
        let settle = Call { program: self.address, accounts, data: vec![SETTLE] };
        Some(vec![checked(channel, id, promise)?, settle])
    }

    /// The calls that pay the payee what was taken and is not paid yet, while the channel goes on. Nobody else is paid.
    #[must_use]
    pub fn pay(&self, channel: &Descriptor, id: &[u8; 32], rent_payer: [u8; 32]) -> Option<Vec<Call>> {
        Some(vec![
            self.keeps(channel, channel.payee)?,
            self.keeps(channel, self.treasury)?,
            self.distribute(channel, id, rent_payer)?,
        ])
    }

    /// The calls that end a channel, by a last promise or by what was taken before: everybody is paid in the same
    /// transaction, and what the promise brought too much goes back in it.
    #[must_use]
    pub fn close(
        &self,
        channel: &Descriptor,
        id: &[u8; 32],
        rent_payer: [u8; 32],
        promise: Option<&Signed<SolanaSignature>>,
        payout: &Payout,
    ) -> Option<Vec<Call>> {
        let mut calls = Vec::new();
        if let Some(promise) = promise {
            calls.push(checked(channel, id, promise)?);
        }
        let accounts = vec![
            Account::read(channel.payee).signing(),
            Account::written(*id),
            Account::read(key(INSTRUCTIONS)?),
        ];
        let data = vec![SETTLE_AND_SEAL, u8::from(promise.is_some())];
        calls.push(Call { program: self.address, accounts, data });
        calls.extend(self.pay_out(channel, id, rent_payer, payout)?);
        Some(calls)
    }

    /// The calls that pay everybody out of a channel that was sealed. A token account that is missing would lose its owner
    /// his money. That of the payer is created only where it is missing: one that he has given away is in nobody's way so.
    #[must_use]
    pub fn pay_out(
        &self,
        channel: &Descriptor,
        id: &[u8; 32],
        rent_payer: [u8; 32],
        payout: &Payout,
    ) -> Option<Vec<Call>> {
        let mut calls = vec![self.keeps(channel, channel.payee)?];
        if payout.creates_account {
            calls.push(self.keeps(channel, channel.payer)?);
        }
        calls.push(self.keeps(channel, self.treasury)?);
        calls.push(self.distribute(channel, id, rent_payer)?);
        if payout.back > 0 {
            calls.push(self.give_back(channel, payout)?);
        }
        Some(calls)
    }

    /// The call that seals a channel whose payer has waited long enough. Anybody may.
    #[must_use]
    pub fn seal(&self, id: &[u8; 32]) -> Call {
        Call { program: self.address, accounts: vec![Account::written(*id)], data: vec![SEAL] }
    }

    fn distribute(&self, channel: &Descriptor, id: &[u8; 32], rent_payer: [u8; 32]) -> Option<Call> {
        let kept = |owner: &[u8; 32]| Some(Account::written(self.token_account(channel, owner)?));
        let accounts = vec![
            Account::written(*id),
            Account::written(channel.payer),
            Account::written(rent_payer),
            kept(id)?,
            kept(&channel.payer)?,
            kept(&channel.payee)?,
            kept(&self.treasury)?,
            Account::read(channel.mint),
            Account::read(key(self.token.address())?),
            Account::read(address::derive(&[b"event_authority"], &self.address)?),
            Account::read(self.address),
        ];
        let data = [&[DISTRIBUTE][..], &NO_SHARES].concat();
        Some(Call { program: self.address, accounts, data })
    }

    /// From what the payee was paid to the payer.
    fn give_back(&self, channel: &Descriptor, payout: &Payout) -> Option<Call> {
        let accounts = vec![
            Account::written(self.token_account(channel, &channel.payee)?),
            Account::read(channel.mint),
            Account::written(self.token_account(channel, &channel.payer)?),
            Account::read(channel.payee).signing(),
        ];
        let sum = u64::try_from(payout.back).ok()?.to_le_bytes();
        let data = [&[TRANSFER_CHECKED][..], &sum, &[payout.decimals]].concat();
        Some(Call { program: key(self.token.address())?, accounts, data })
    }

    /// Sees to it that somebody can be paid. The payee pays for that.
    fn keeps(&self, channel: &Descriptor, owner: [u8; 32]) -> Option<Call> {
        let accounts = vec![
            Account::written(channel.payee).signing(),
            Account::written(self.token_account(channel, &owner)?),
            Account::read(owner),
            Account::read(channel.mint),
            Account::read(SYSTEM),
            Account::read(key(self.token.address())?),
        ];
        Some(Call { program: key(ASSOCIATED_TOKEN)?, accounts, data: vec![CREATE_IDEMPOTENT] })
    }

    /// Where somebody keeps what a channel holds.
    #[must_use]
    pub fn token_account(&self, channel: &Descriptor, owner: &[u8; 32]) -> Option<[u8; 32]> {
        token_account::derive(owner, self.token, &channel.mint)
    }
}

/// The call in which the chain checks the signature under a promise. Its layout is the only one that the program reads:
/// one signature, key, signature and message in this order, and nothing from elsewhere in the transaction.
fn checked(channel: &Descriptor, id: &[u8; 32], promise: &Signed<SolanaSignature>) -> Option<Call> {
    const HERE: u16 = u16::MAX;
    let SolanaSignature { bytes, expires_at } = promise.signature;
    let cumulative = u64::try_from(promise.max_claimable).ok()?;
    let expires_at = (expires_at != 0).then_some(expires_at);
    let message = SvmVoucher { channel_id: *id, cumulative, expires_at }.to_bytes();
    let places: [u16; 7] = [48, HERE, 16, HERE, 112, 50, HERE];
    let places = places.map(u16::to_le_bytes);
    let data = [&[1, 0][..], places.as_flattened(), &channel.authorized_signer, &bytes, &message].concat();
    Some(Call { program: key(ED25519)?, accounts: Vec::new(), data })
}

fn key(text: &str) -> Option<[u8; 32]> {
    base58::decode_array(text).ok()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use serde_json::Value;
    use sha2::{Digest as _, Sha256};
    use wire::mpp::solana::{ChannelAccount, PROGRAM, Status, TREASURY};
    use wire::x402::base58;
    use wire::{base64, hex};

    use super::{Asked, Descriptor, NO_SHARES, NO_SHARES_HASH, NotOurs, Payout, Program};
    use crate::solana::transaction::{Account, Call, CallsError, sign};
    use crate::voucher::Signed;
    use crate::voucher::solana;
    use crate::x402_svm::token_account::TokenProgram;

    /// Of 1,232 that a chain takes.
    const LONGEST_BYTES: usize = 854;

    fn file() -> Value {
        serde_json::from_str(include_str!("../../../../specs/vectors/mpp/solana-session-channels.json"))
            .unwrap()
    }

    fn key(value: &Value) -> [u8; 32] {
        base58::decode_array(value.as_str().unwrap()).unwrap()
    }

    fn program() -> Program {
        Program {
            address: base58::decode_array(PROGRAM).unwrap(),
            treasury: base58::decode_array(TREASURY).unwrap(),
            token: TokenProgram::Token,
        }
    }

    fn channel(file: &Value, place: usize) -> Descriptor {
        let number = |name: &str| file["channels"][place][name].as_str().unwrap().parse().unwrap();
        Descriptor {
            payer: key(&file["payer"]),
            payee: key(&file["payee"]),
            mint: key(&file["mint"]),
            authorized_signer: key(&file["authorizedSigner"]),
            salt: number("salt"),
            open_slot: number("openSlot"),
        }
    }

    #[test]
    fn channels_have_the_addresses_that_solana_derives() {
        let file = file();
        assert_eq!((&file["program"], &file["treasury"]), (&PROGRAM.into(), &TREASURY.into()));
        let channels = file["channels"].as_array().unwrap();
        assert_eq!(channels.len(), 3);
        for (place, expected) in channels.iter().enumerate() {
            let id = program().channel_id(&channel(&file, place)).unwrap();
            assert_eq!(id, key(&expected["channelId"]), "{expected}");
        }
    }

    /// Whoever opens a channel chooses all of it: what was not asked for is no payment to us.
    #[test]
    fn a_channel_pays_us_or_not() {
        let channel = channel(&file(), 1);
        let id = program().channel_id(&channel).unwrap();
        let asked = Asked { payee: channel.payee, mint: channel.mint, grace_s: 900 };
        let good = ChannelAccount {
            status: Status::Open,
            salt: channel.salt,
            deposit: 500_000,
            settled: 0,
            paid_out: 0,
            closing_since: 0,
            grace_s: 900,
            shares_hash: NO_SHARES_HASH,
            payer: channel.payer,
            payee: channel.payee,
            authorized_signer: channel.authorized_signer,
            mint: channel.mint,
            rent_payer: channel.payer,
            open_slot: channel.open_slot,
        };
        // y = 1: the neutral element, under which anybody can sign anything.
        let mut weak = [0; 32];
        weak[0] = 1;
        for (what, account, expected) in [
            ("as asked", good, Ok(channel)),
            ("a longer wait", ChannelAccount { grace_s: 901, ..good }, Ok(channel)),
            ("a shorter one", ChannelAccount { grace_s: 899, ..good }, Err(NotOurs::Grace(899))),
            ("somebody else's", ChannelAccount { payee: good.payer, ..good }, Err(NotOurs::Payee)),
            ("another token", ChannelAccount { mint: good.payer, ..good }, Err(NotOurs::Mint)),
            ("shares", ChannelAccount { shares_hash: [0; 32], ..good }, Err(NotOurs::Shares)),
            ("a weak signer", ChannelAccount { authorized_signer: weak, ..good }, Err(NotOurs::Signer)),
            ("another payer", ChannelAccount { payer: good.mint, ..good }, Err(NotOurs::Address)),
            ("another salt", ChannelAccount { salt: good.salt + 1, ..good }, Err(NotOurs::Address)),
            ("another slot", ChannelAccount { open_slot: 1, ..good }, Err(NotOurs::Address)),
        ] {
            assert_eq!(program().check(&id, &account, &asked), expected, "{what}");
        }
        let elsewhere = Program { address: [9; 32], ..program() };
        assert_eq!(elsewhere.check(&id, &good, &asked), Err(NotOurs::Address));
    }

    /// Byte for byte what Solana's own library makes of the same calls.
    #[test]
    fn eng_4_5_calls_are_the_transactions_of_solanas_own_library() {
        let file = file();
        let channel = channel(&file, 1);
        let id = program().channel_id(&channel).unwrap();
        let payee =
            SigningKey::from_bytes(&hex::decode_array(file["payee_seed_hex"].as_str().unwrap()).unwrap());
        let signature: [u8; 64] =
            hex::decode_array(file["voucher"]["signature_hex"].as_str().unwrap()).unwrap();
        let text = base58::encode(&signature);
        let promise: Signed<_> =
            solana::verify(&id, 250_000, 1_800_000_000, &text, &channel.authorized_signer, 0).unwrap();
        let rent = channel.payer;
        let whole = Payout { creates_account: true, back: 0, decimals: 6 };
        let part = Payout { back: 100_000, ..whole };
        let to_his = Payout { creates_account: false, ..part };
        let close = |promise: Option<&Signed<_>>, payout: &Payout| {
            program().close(&channel, &id, rent, promise, payout)
        };
        for (name, calls) in [
            ("settle", program().settle(&channel, &id, &promise)),
            ("close", close(Some(&promise), &whole)),
            ("close_without_voucher", close(None, &whole)),
            ("close_giving_back", close(Some(&promise), &part)),
            ("close_giving_back_to_an_account_that_is_there", close(Some(&promise), &to_his)),
        ] {
            let signed = sign(&calls.unwrap(), &[0xbb; 32], &payee).unwrap();
            let expected = &file["transactions"][name];
            let bytes = base64::decode_any(&signed.raw, 2048).unwrap();
            assert_eq!(hex::encode(&bytes), expected["bytes_hex"].as_str().unwrap(), "{name}");
            assert_eq!(signed.id, expected["id"].as_str().unwrap(), "{name}");
        }
        let wide = Signed { max_claimable: 1 << 64, ..promise };
        assert_eq!(program().settle(&channel, &id, &wide), None);
        assert_eq!(close(Some(&promise), &Payout { back: 1 << 64, ..part }), None);
        // Whatever its promise, the longest that we send.
        let longest = sign(&close(Some(&promise), &part).unwrap(), &[0xbb; 32], &payee).unwrap();
        assert_eq!(base64::decode_any(&longest.raw, 2048).unwrap().len(), LONGEST_BYTES);
    }

    #[test]
    fn calls_that_are_no_transaction_of_ours() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let call =
            |account, length| Call { program: [1; 32], accounts: vec![account], data: vec![0; length] };
        let other = call(Account::read([2; 32]).signing(), 1);
        assert_eq!(sign(&[other], &[0; 32], &key), Err(CallsError::OtherSigner));
        let long = call(Account::read([2; 32]), 1300);
        assert_eq!(sign(&[long], &[0; 32], &key), Err(CallsError::TooLong));
    }

    #[test]
    fn no_shares_have_their_hash() {
        assert_eq!(<[u8; 32]>::from(Sha256::digest(NO_SHARES)), NO_SHARES_HASH);
    }
}
