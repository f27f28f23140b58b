//! `rails.mpp.solana`: sessions by vouchers on a payment channel of Solana (specs/vouchers.md "Solana").

use proof::SigningKey;
use proof::voucher::solana_channel::Program;
use proof::x402_svm::token_account::TokenProgram;
use wire::mpp::solana::{IDLE_TIMEOUT_MAX_S, PROGRAM, TREASURY};

use super::Mode;
use super::channel_terms::{self, ChannelTerms};
use super::rail::encrypted;
use super::secret::Secret32;
use super::section::{Keys, Section, joined};
use super::svm::{public_key, usdc};
use super::url::BaseUrl;
use super::value;

/// What channels are opened on, and when what they owe is taken.
#[derive(Clone, Debug)]
pub struct Solana {
    /// Which chain.
    pub network: SolanaNetwork,
    /// The program that keeps the channels, as it is deployed there.
    pub program: Program,
    /// What they hold.
    pub mint: [u8; 32],
    /// Signs the transactions that take what is owed and that close channels, and pays for them.
    pub key: Secret32,
    /// Its address: who is paid.
    pub payee: [u8; 32],
    /// A node of the chain.
    pub rpc: BaseUrl,
    /// Seconds that a payer who closes alone waits for his money: the time we have to take what is owed, default 15 min.
    pub grace_s: u32,
    /// Seconds without a voucher after which a channel is ended, default 30 days: the most that receipts can say.
    pub idle_s: u64,
    /// How its sums are counted, and what is asked of a channel.
    pub terms: ChannelTerms,
}

/// A chain, as challenges name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SolanaNetwork {
    /// Where money is real.
    Mainnet,
    /// The public one without real money.
    Devnet,
    /// One on a machine of the operator's.
    Localnet,
}

impl SolanaNetwork {
    const ALL: [Self; 3] = [Self::Mainnet, Self::Devnet, Self::Localnet];

    /// Its name in challenges.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::Devnet => "devnet",
            Self::Localnet => "localnet",
        }
    }

    /// CAIP-2. A chain of one's own has no genesis that anybody knows: it has its name there.
    #[must_use]
    pub const fn caip2(self) -> &'static str {
        match self {
            Self::Mainnet => "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
            Self::Devnet => "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
            Self::Localnet => "solana:localnet",
        }
    }
}

/// The keys of `rails.mpp.solana`.
const KEYS: Keys = Keys::secret(&joined::<17>(&OWN_KEYS, &channel_terms::KEYS), &[]);
const OWN_KEYS: [&str; 8] = ["network", "program", "treasury", "mint", "key", "rpc", "grace", "idle"];

const GRACE_S: u32 = 900;
/// Less is no time to settle in, and more than a month nobody waits for.
const GRACES_S: std::ops::RangeInclusive<u64> = 60..=30 * 86_400;
/// What a challenge can say.
const DECIMALS_MAX: u32 = 9;

/// Reads the section. None: there is none, or it cannot be used.
pub(super) fn read(mpp: &Section<'_>) -> Option<Solana> {
    let section = mpp.section("solana", KEYS)?;
    let mode = section.context.mode;
    let network = section.value("network", |text| network(text, mode)).unwrap_or(match mode {
        Mode::Live => SolanaNetwork::Mainnet,
        Mode::Test => SolanaNetwork::Devnet,
    });
    let program = program(&section, network);
    let mint = section.value("mint", public_key).or_else(|| usdc(network.caip2()));
    if mint.is_none() {
        section.missing("rails.mpp.solana needs \"mint\": which token do channels hold?");
    }
    let rpc = section.required("rpc", |text| encrypted(text, "a node"));
    let (key, payee) = key(&section)?;
    Some(Solana {
        network,
        program: program?,
        mint: mint?,
        key,
        payee,
        rpc: rpc?,
        grace_s: section.value("grace", grace).unwrap_or(GRACE_S),
        idle_s: section.value("idle", idle).unwrap_or(IDLE_TIMEOUT_MAX_S),
        terms: channel_terms::read(&section, DECIMALS_MAX),
    })
}

/// The program and its treasury, which is built into a deployment: of another one than the known one both are named.
fn program(section: &Section<'_>, network: SolanaNetwork) -> Option<Program> {
    let at = |key: &str| section.value(key, public_key);
    let known = |text: &str| match network {
        SolanaNetwork::Mainnet => public_key(text).ok(),
        SolanaNetwork::Devnet | SolanaNetwork::Localnet => None,
    };
    let deployed = match (at("program"), at("treasury")) {
        (Some(address), Some(treasury)) => Some((address, treasury)),
        (None, None) => known(PROGRAM).zip(known(TREASURY)),
        (Some(_), None) | (None, Some(_)) => None,
    };
    if deployed.is_none() {
        section.missing(
            "rails.mpp.solana needs \"program\" and \"treasury\" together: which deployment keeps the channels?",
        );
    }
    deployed.map(|(address, treasury)| Program { address, treasury, token: TokenProgram::Token })
}

fn key(section: &Section<'_>) -> Option<(Secret32, [u8; 32])> {
    let Some(node) = section.get("key") else {
        section.missing("rails.mpp.solana needs \"key\": who is paid, and takes what channels owe?");
        return None;
    };
    let key = section.context.secret32(&section.path_of("key"), node)?;
    let payee = SigningKey::from_bytes(key.expose()).verifying_key().to_bytes();
    Some((key, payee))
}

/// Real money in mode live, test money in mode test, never mixed (reference item 41).
fn network(text: &str, mode: Mode) -> Result<SolanaNetwork, String> {
    let names = || SolanaNetwork::ALL.map(SolanaNetwork::name).join(", ");
    let found = SolanaNetwork::ALL.into_iter().find(|network| network.name() == text);
    let found = found.ok_or_else(|| format!("\"{text}\" is none of {}", names()))?;
    match (mode, found == SolanaNetwork::Mainnet) {
        (Mode::Live, true) | (Mode::Test, false) => Ok(found),
        (Mode::Live, false) => Err(format!("{text} is a test network, and the mode is live")),
        (Mode::Test, true) => Err(format!("{text} moves real money, and the mode is test; set mode: live")),
    }
}

fn grace(text: &str) -> Result<u32, String> {
    let seconds = value::duration(text)?.as_secs();
    let fits = u32::try_from(seconds).ok().filter(|_| GRACES_S.contains(&seconds));
    fits.ok_or_else(|| "is between 1 minute and 30 days".to_owned())
}

fn idle(text: &str) -> Result<u64, String> {
    let seconds = Some(value::duration(text)?.as_secs());
    let fits = seconds.filter(|seconds| (1..=IDLE_TIMEOUT_MAX_S).contains(seconds));
    fits.ok_or_else(|| "is between 1 second and 30 days".to_owned())
}
