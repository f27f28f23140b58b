//! `rails.mpp`: the `Payment` scheme (specs/mpp.md). It has no money of its own: its methods pay through the other rails.

use std::time::Duration;

use super::processor::{self, Card, Stripe};
use super::rail::{Network, Rails, X402Scheme};
use super::section::{Keys, Section};
use super::solana::{self, Solana};
use super::submitter::{self, Submitter};
use super::tempo::{self, Tempo};
use super::value;

/// The `Payment` scheme, switched on.
#[derive(Clone, Debug)]
pub struct Mpp {
    /// What challenges are for; host and port of the public URL when absent (MPP-2).
    pub realm: Option<String>,
    /// Methods in the order of their offers; what is configured elsewhere when absent, `credit` last.
    pub methods: Vec<MppMethod>,
    /// How long a challenge can be answered, default 5 minutes (MPP-3).
    pub expiry: Duration,
    /// Whether a challenge is bound to the body where that decides the price, default yes (MPP-12).
    pub digest: bool,
    /// What sessions are given.
    pub sessions: MppSessions,
    /// Who sends permits to chains of `rails.x402`.
    pub evm: Vec<Submitter>,
    /// Channels of Tempo.
    pub tempo: Option<Tempo>,
    /// Channels of Solana.
    pub solana: Option<Solana>,
    /// Shared payment tokens.
    pub stripe: Option<Stripe>,
    /// Encrypted cards.
    pub card: Option<Card>,
}

/// Sessions: accounts that are paid into while they are drawn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MppSessions {
    /// How long a stream waits for its payer's next voucher, default 60 s (ENG-8).
    pub grace: Duration,
    /// After how long without a request a session over Lightning is closed and its rest goes back, default 5 minutes.
    pub idle: Duration,
}

/// A method of the scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MppMethod {
    /// An invoice; needs `rails.l402`.
    Lightning,
    /// A signed transfer of a token on an EVM chain; needs `exact` of `rails.x402`, or who sends permits.
    Evm,
    /// Tempo.
    Tempo,
    /// Solana.
    Solana,
    /// Stripe.
    Stripe,
    /// Encrypted cards.
    Card,
    /// A credit key of ours.
    Credit,
}

impl MppMethod {
    /// All of them, in the usual order of their offers.
    pub const ALL: [Self; 7] =
        [Self::Lightning, Self::Evm, Self::Tempo, Self::Solana, Self::Stripe, Self::Card, Self::Credit];

    /// Its name in challenges.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lightning => "lightning",
            Self::Evm => "evm",
            Self::Tempo => "tempo",
            Self::Solana => "solana",
            Self::Stripe => "stripe",
            Self::Card => "card",
            Self::Credit => "credit",
        }
    }

    /// What has to be configured for it and is not; none where it can be offered.
    fn lacks(self, rails: &Rails, own: &Mpp) -> Option<&'static str> {
        let is_there = match self {
            Self::Lightning => rails.l402.is_some(),
            Self::Evm => rails.x402.as_ref().is_some_and(|x402| {
                !own.evm.is_empty()
                    || x402.schemes.contains(&X402Scheme::Exact)
                        && x402.networks.iter().any(|network| matches!(network, Network::Evm(_)))
            }),
            Self::Credit => true,
            Self::Tempo => own.tempo.is_some(),
            Self::Stripe => own.stripe.is_some(),
            Self::Card => own.card.is_some(),
            Self::Solana => own.solana.is_some(),
        };
        (!is_there).then_some(match self {
            Self::Lightning => "rails.l402, whose node makes the invoices",
            Self::Evm => "rails.x402 with scheme exact on an EVM chain, or rails.mpp.evm",
            Self::Tempo => "rails.mpp.tempo",
            Self::Solana => "rails.mpp.solana",
            Self::Stripe => "rails.mpp.stripe",
            Self::Card => "rails.mpp.card",
            Self::Credit => "nothing",
        })
    }
}

const KEYS: Keys = Keys::secret(
    &["realm", "methods", "expiry", "digest", "sessions", "evm", "tempo", "solana", "stripe", "card"],
    &[],
);
const SESSION_KEYS: Keys = Keys::new(&["grace", "idle"], &[]);

const EXPIRY: Duration = Duration::from_secs(300);
const GRACE: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(300);

/// Reads the section; `others` are the rails that its methods pay through.
pub(super) fn read(rails: &Section<'_>, others: &Rails) -> Option<Mpp> {
    let section = Section::open(rails.context, "rails.mpp", rails.node("mpp")?, KEYS)?;
    let mut mpp = Mpp {
        realm: section.value("realm", realm),
        methods: Vec::new(),
        expiry: section.value("expiry", expiry).unwrap_or(EXPIRY),
        digest: section.value("digest", value::flag).unwrap_or(true),
        sessions: read_sessions(&section),
        evm: submitter::read(&section, others),
        tempo: tempo::read(&section),
        solana: solana::read(&section),
        stripe: processor::stripe(&section),
        card: processor::card(&section),
    };
    mpp.methods = read_methods(&section, others, &mpp);
    Some(mpp)
}

fn read_sessions(mpp: &Section<'_>) -> MppSessions {
    let section = mpp.section("sessions", SESSION_KEYS);
    let value = |name| section.as_ref().and_then(|section| section.value(name, value::duration));
    MppSessions { grace: value("grace").unwrap_or(GRACE), idle: value("idle").unwrap_or(IDLE) }
}

fn read_methods(mpp: &Section<'_>, others: &Rails, own: &Mpp) -> Vec<MppMethod> {
    let Some(written) = mpp.values("methods", method) else {
        return MppMethod::ALL.into_iter().filter(|method| method.lacks(others, own).is_none()).collect();
    };
    let mut methods = Vec::new();
    for (span, method) in written {
        if methods.contains(&method) {
            mpp.context.report.add(span, format!("rails.mpp.methods: {} stands twice", method.name()));
        }
        if let Some(lacks) = method.lacks(others, own) {
            mpp.context.report.add(span, format!("rails.mpp.methods: {} needs {lacks}", method.name()));
        }
        methods.push(method);
    }
    if methods.is_empty() {
        mpp.complain("methods", "rails.mpp.methods: needs at least one");
    }
    // Whoever has a payment to make should see that first.
    methods.sort_by_key(|method| *method == MppMethod::Credit);
    methods
}

fn method(text: &str) -> Result<MppMethod, String> {
    let names = || MppMethod::ALL.map(MppMethod::name).join(", ");
    MppMethod::ALL
        .into_iter()
        .find(|method| method.name() == text)
        .ok_or_else(|| format!("\"{text}\" is no method that we know: {}", names()))
}

/// It stands in what is signed, between bars, and in a quoted header value (MPP-1, MPP-2).
fn realm(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_graphic() && !b"|\"\\".contains(&b);
    if text.is_empty() || text.len() > 255 || !text.bytes().all(fits) {
        return Err(format!("\"{text}\" is no realm: visible ASCII without | \" \\, at most 255 of them"));
    }
    Ok(text.to_owned())
}

fn expiry(text: &str) -> Result<Duration, String> {
    let expiry = value::duration(text)?;
    if (60..=600).contains(&expiry.as_secs()) {
        Ok(expiry)
    } else {
        Err("is between 60 s and 10 minutes".to_owned())
    }
}
