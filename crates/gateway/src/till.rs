//! A till: one way to pay this gateway, and the offers that are made through it.

mod said;

use std::io;
use std::sync::Arc;

use money::{Amount, Asset};
use proof::mpp::permit;
use proof::x402_batch;
use proof::x402_exact::{self, EvmToken};
use proof::x402_permit2::{self, Spends};
use proof::x402_svm::{self, SvmToken};
use wire::x402::{Address, SCHEME_EXACT, SCHEME_UPTO, base58, batch, v1, v2};

use said::Said;
pub(crate) use said::{Asking, MIME_TYPE};

use crate::cashu;
use crate::channels::Unit;
use crate::config::{Batch, Config, EvmNetwork, Network, Submitter, SvmNetwork, X402, X402Scheme};
use crate::keys::mode;
use crate::lightning;
use crate::payer::usual_asset;
use crate::submitting;

/// Seconds a quote, and a proof made for it, may stay valid (reference item 7 allows 480).
pub(crate) const QUOTE_SECONDS: u64 = 300;

/// What a call that is settled afterwards has for itself at least.
const CALL_SECONDS_MIN: u64 = 30;

/// A way to pay this gateway.
#[derive(Clone, Debug)]
pub(crate) struct Till {
    pub(crate) method: Method,
    /// What a deposit through it is held in.
    pub(crate) asset: Asset,
    decimals: u32,
    deposit: Amount,
    ceiling_max: Option<Amount>,
    /// What must be left of a proof's time when it comes (X402-18).
    margin_s: u64,
    /// Name in journal and metrics: `test`, `x402:eip155:84532`.
    pub(crate) rail: String,
    said: Arc<Said>,
}

/// How a till is paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// The built-in rail.
    Test { pay_to: [u8; 32] },
    /// `exact` by EIP-3009.
    Transfer { token: Arc<EvmToken>, pay_to: Address },
    /// `exact` by Permit2.
    Permit2 { token: Arc<EvmToken>, pay_to: Address },
    /// `evm`/`charge` of the `Payment` scheme by Permit2: we send it to the chain ourselves. No entry of x402.
    Submitted { token: Arc<EvmToken>, pay_to: Address, spender: Address },
    /// `upto`, by Permit2 as well: settled after the call.
    Upto { token: Arc<EvmToken>, pay_to: Address },
    /// `batch-settlement`: a channel and vouchers.
    Channel { token: Arc<EvmToken>, terms: ChannelTerms },
    /// `exact` on Solana.
    Solana { token: Arc<SvmToken> },
    /// An invoice, and a token for whoever pays it: offered by `lightning`, not as an entry of x402.
    Lightning,
    /// Ecash of a mint.
    Cashu,
}

/// What channels that pay us are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChannelTerms {
    receiver: Address,
    receiver_authorizer: Address,
    /// Seconds.
    withdraw_delay: u64,
    /// Atomic units.
    min_deposit: Option<u128>,
}

/// Our own entry of `accepts`, as it is checked: the only source of price, asset and payee (X402-10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    Exact(x402_exact::Offer),
    Permit2(x402_permit2::Offer),
    Channel(x402_batch::Offer),
    Solana(x402_svm::Offer),
}

/// What a facilitator is called in an offer that only it can settle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// Anybody may settle.
    Nobody,
    /// `extra.facilitatorAddress`.
    Evm(Address),
    /// `extra.feePayer`.
    Svm([u8; 32]),
}

impl Till {
    /// What this till asks for a call that may cost `ceiling`: at least the operator's usual deposit. What is settled
    /// after the call has no deposit.
    pub(crate) fn deposit_for(&self, ceiling: Amount) -> Amount {
        match self.method {
            Method::Upto { .. } | Method::Channel { .. } => ceiling,
            Method::Test { .. }
            | Method::Transfer { .. }
            | Method::Permit2 { .. }
            | Method::Submitted { .. }
            | Method::Solana { .. }
            | Method::Lightning
            | Method::Cashu => ceiling.max(self.deposit),
        }
    }

    /// The scheme and network that a facilitator has to settle; none where we settle ourselves.
    pub(crate) fn kind(&self) -> Option<(&'static str, &str)> {
        match &self.method {
            Method::Test { .. } | Method::Submitted { .. } | Method::Lightning | Method::Cashu => None,
            Method::Transfer { token, .. } | Method::Permit2 { token, .. } => {
                Some((SCHEME_EXACT, token.network()))
            }
            Method::Upto { token, .. } => Some((SCHEME_UPTO, token.network())),
            Method::Channel { token, .. } => Some((batch::SCHEME, token.network())),
            Method::Solana { token } => Some((SCHEME_EXACT, token.network())),
        }
    }

    /// Whether it pays for calls only: what is left of a charge stays in the channel.
    pub(crate) const fn is_channel(&self) -> bool {
        matches!(self.method, Method::Channel { .. })
    }

    /// How atomic units are counted here.
    pub(crate) const fn unit(&self) -> Unit {
        Unit { asset: self.asset, decimals: self.decimals }
    }

    /// Whether what is signed is a ceiling, of which the metered amount is taken after the call.
    pub(crate) const fn is_settled_after(&self) -> bool {
        matches!(self.method, Method::Upto { .. })
    }

    /// The most this till asks at once, if it is bounded.
    pub(crate) const fn ceiling_max(&self) -> Option<Amount> {
        self.ceiling_max
    }

    /// The offer for a deposit of `amount`, rounded up to whole atomic units. None: it is no amount there, or nobody is
    /// named who has to be.
    pub(crate) fn offer(&self, amount: Amount, named: &Named, quote: Option<String>) -> Option<Offer> {
        self.offer_of(self.asked(amount)?, named, quote)
    }

    /// What an offer for a deposit of `amount` asks for, in atomic units.
    pub(crate) fn asked(&self, amount: Amount) -> Option<u128> {
        // What is promised is never more than may be open of a payer (X402-21).
        if self.is_settled_after() && self.ceiling_max.is_some_and(|most| amount > most) {
            return None;
        }
        self.atomic_up(amount)
    }

    /// As [`Till::offer`], for so many atomic units.
    pub(crate) fn offer_of(&self, atomic: u128, named: &Named, quote: Option<String>) -> Option<Offer> {
        let exact = |method| {
            Offer::Exact(x402_exact::Offer {
                method,
                amount: atomic,
                max_timeout_s: QUOTE_SECONDS,
                quote: quote.clone(),
            })
        };
        let permit2 = |token: &Arc<EvmToken>, pay_to: &Address, spends| {
            Offer::Permit2(x402_permit2::Offer {
                token: Arc::clone(token),
                pay_to: *pay_to,
                amount: atomic,
                spends,
                max_timeout_s: QUOTE_SECONDS,
                margin_s: self.margin_s,
                quote: quote.clone(),
            })
        };
        match (&self.method, named) {
            (Method::Test { pay_to }, _) => Some(exact(x402_exact::Method::Test { pay_to: *pay_to })),
            (Method::Transfer { token, pay_to }, _) => {
                Some(exact(x402_exact::Method::Evm { token: Arc::clone(token), pay_to: *pay_to }))
            }
            (Method::Permit2 { token, pay_to }, _) => Some(permit2(token, pay_to, Spends::Exact)),
            (Method::Upto { token, pay_to }, Named::Evm(facilitator)) => {
                Some(permit2(token, pay_to, Spends::Upto { facilitator: *facilitator }))
            }
            (Method::Channel { token, terms }, _) => Some(Offer::Channel(x402_batch::Offer {
                token: Arc::clone(token),
                receiver: terms.receiver,
                receiver_authorizer: terms.receiver_authorizer,
                withdraw_delay: terms.withdraw_delay,
                min_deposit: terms.min_deposit,
                amount: atomic,
                max_timeout_s: QUOTE_SECONDS,
                quote,
            })),
            (Method::Solana { token }, Named::Svm(fee_payer)) => Some(Offer::Solana(x402_svm::Offer {
                token: Arc::clone(token),
                amount: u64::try_from(atomic).ok()?,
                fee_payer: *fee_payer,
                memo: None,
                max_timeout_s: QUOTE_SECONDS,
                quote,
            })),
            (
                Method::Upto { .. }
                | Method::Solana { .. }
                | Method::Submitted { .. }
                | Method::Lightning
                | Method::Cashu,
                _,
            ) => None,
        }
    }

    /// What a permit has to say that we send ourselves, for so many atomic units; none through other tills.
    pub(crate) fn charge_of(&self, atomic: u128) -> Option<permit::Offer> {
        let Method::Submitted { token, pay_to, spender } = &self.method else { return None };
        let (token, pay_to, spender) = (Arc::clone(token), *pay_to, *spender);
        Some(permit::Offer { token, pay_to, amount: atomic, spender, external_id: String::new() })
    }

    /// What `atomic` units through this till are worth in the ledger.
    pub(crate) fn credit(&self, atomic: u128) -> Option<Amount> {
        money::ledger_from_atomic_down(atomic, self.asset.exponent(), self.decimals).ok()
    }

    /// What `amount` is in atomic units here, rounded up.
    pub(crate) fn atomic_up(&self, amount: Amount) -> Option<u128> {
        money::atomic_from_ledger_up(amount, self.asset.exponent(), self.decimals).ok()
    }
}

impl Offer {
    /// As version 1 writes it; none where version 1 has no such thing.
    pub(crate) fn requirements_v1(
        &self,
        resource: &str,
        description: &str,
        mime_type: &str,
    ) -> Option<v1::PaymentRequirements> {
        match self {
            Self::Exact(offer) => offer.requirements_v1(resource, description, mime_type),
            Self::Solana(offer) => offer.requirements_v1(resource, description, mime_type),
            Self::Permit2(_) | Self::Channel(_) => None,
        }
    }

    /// As version 2 writes it.
    pub(crate) fn requirements_v2(&self) -> v2::PaymentRequirements {
        match self {
            Self::Exact(offer) => offer.requirements_v2(),
            Self::Permit2(offer) => offer.requirements_v2(),
            Self::Channel(offer) => offer.requirements_v2(),
            Self::Solana(offer) => offer.requirements_v2(),
        }
    }
}

impl Named {
    /// The member of a facilitator's `extra` in which it names itself, where an offer of this till has to repeat that.
    pub(crate) const fn member(till: &Till) -> Option<&'static str> {
        match &till.method {
            Method::Test { .. }
            | Method::Transfer { .. }
            | Method::Permit2 { .. }
            | Method::Submitted { .. }
            | Method::Channel { .. }
            | Method::Lightning
            | Method::Cashu => None,
            Method::Upto { .. } => Some("facilitatorAddress"),
            Method::Solana { .. } => Some("feePayer"),
        }
    }

    /// Reads that member.
    pub(crate) fn read(till: &Till, text: &str) -> Option<Self> {
        match &till.method {
            Method::Test { .. }
            | Method::Transfer { .. }
            | Method::Permit2 { .. }
            | Method::Submitted { .. }
            | Method::Channel { .. }
            | Method::Lightning
            | Method::Cashu => None,
            Method::Upto { .. } => text.parse().ok().map(Self::Evm),
            Method::Solana { .. } => base58::decode_array(text).ok().map(Self::Svm),
        }
    }
}

/// The tills of a configuration, in the order of their offers. `payee` is paid on the test rail.
pub(crate) fn of_config(config: &Config, payee: [u8; 32]) -> io::Result<Vec<Till>> {
    let mut tills = Vec::new();
    if let Some(test) = &config.rails.test {
        tills.push(Till {
            method: Method::Test { pay_to: payee },
            asset: Asset::Test,
            decimals: proof::test_rail::DECIMALS,
            deposit: test.deposit.unwrap_or_default(),
            ceiling_max: None,
            margin_s: x402_exact::SETTLE_MARGIN_S,
            rail: "test".to_owned(),
            said: Arc::default(),
        });
    }
    if let Some(x402) = &config.rails.x402 {
        for network in &x402.networks {
            match network {
                Network::Evm(network) => {
                    let token = evm_token(network)?;
                    tills
                        .extend(x402.schemes.iter().filter_map(|scheme| evm(x402, network, &token, *scheme)));
                    let submitters = config.rails.mpp.iter().flat_map(|mpp| &mpp.evm);
                    let here = submitters.filter(|submitter| submitter.network == network.network);
                    tills.extend(here.map(|submitter| submitted(x402, network, &token, submitter)));
                }
                Network::Svm(network) if x402.schemes.contains(&X402Scheme::Exact) => {
                    tills.push(solana(x402, network)?);
                }
                Network::Svm(_) => {}
            }
        }
    }
    if let Some(l402) = &config.rails.l402 {
        let asset = usual_asset(mode(config.mode));
        tills.push(Till {
            method: Method::Lightning,
            asset,
            decimals: asset.exponent(),
            deposit: l402.deposit.unwrap_or_default(),
            ceiling_max: Some(l402.ceiling_max),
            margin_s: x402_exact::SETTLE_MARGIN_S,
            rail: lightning::RAIL.to_owned(),
            said: Arc::default(),
        });
    }
    if let Some(cashu) = &config.rails.cashu {
        let asset = usual_asset(mode(config.mode));
        tills.push(Till {
            method: Method::Cashu,
            asset,
            decimals: asset.exponent(),
            deposit: cashu.deposit.unwrap_or_default(),
            ceiling_max: Some(cashu.ceiling_max),
            margin_s: x402_exact::SETTLE_MARGIN_S,
            // Each mint is a rail of its own.
            rail: cashu::PROTOCOL.to_owned(),
            said: Arc::default(),
        });
    }
    for till in &mut tills {
        till.said = Arc::new(Said::of(till)?);
    }
    Ok(tills)
}

fn evm_token(network: &EvmNetwork) -> io::Result<Arc<EvmToken>> {
    let token = &network.token;
    EvmToken::new(&network.network, Address(token.address), &token.name, &token.version)
        .map(Arc::new)
        .map_err(|_| io::Error::other("an x402 network is not an EVM chain"))
}

/// One way to pay on a chain; none where what it needs is not configured, which the configuration has refused.
fn evm(x402: &X402, network: &EvmNetwork, token: &Arc<EvmToken>, scheme: X402Scheme) -> Option<Till> {
    let (known, pay_to) = (Arc::clone(token), Address(network.pay_to));
    // What is settled after the call must outlive at least a short one; a longer call ends in time for it.
    let after_call = x402.settle_timeout.as_secs().saturating_add(CALL_SECONDS_MIN);
    let (method, margin_s) = match scheme {
        X402Scheme::Exact => (Method::Transfer { token: known, pay_to }, x402_exact::SETTLE_MARGIN_S),
        X402Scheme::Permit2 => (Method::Permit2 { token: known, pay_to }, x402_exact::SETTLE_MARGIN_S),
        X402Scheme::Upto => (Method::Upto { token: known, pay_to }, after_call),
        X402Scheme::Batch => {
            let terms = terms(x402.batch.as_ref()?, network);
            (Method::Channel { token: known, terms }, x402_exact::SETTLE_MARGIN_S)
        }
    };
    let ceiling_max = match scheme {
        X402Scheme::Exact | X402Scheme::Permit2 | X402Scheme::Batch => x402.ceiling_max,
        X402Scheme::Upto => x402.ceiling_max.min(x402.optimistic_max),
    };
    let rail = match scheme {
        X402Scheme::Batch => crate::channels::rail(&network.network),
        X402Scheme::Exact | X402Scheme::Permit2 | X402Scheme::Upto => format!("x402:{}", network.network),
    };
    Some(Till {
        method,
        asset: network.token.asset,
        decimals: network.token.decimals,
        deposit: x402.deposit.unwrap_or_default(),
        ceiling_max: Some(ceiling_max),
        margin_s,
        rail,
        said: Arc::default(),
    })
}

/// By a permit that we send ourselves.
fn submitted(x402: &X402, network: &EvmNetwork, token: &Arc<EvmToken>, submitter: &Submitter) -> Till {
    let (token, pay_to, spender) = (Arc::clone(token), Address(network.pay_to), submitter.sender);
    Till {
        method: Method::Submitted { token, pay_to, spender },
        asset: network.token.asset,
        decimals: network.token.decimals,
        deposit: x402.deposit.unwrap_or_default(),
        ceiling_max: Some(x402.ceiling_max),
        margin_s: permit::SETTLE_MARGIN_S,
        rail: submitting::rail(&network.network),
        said: Arc::default(),
    }
}

fn terms(batch: &Batch, network: &EvmNetwork) -> ChannelTerms {
    let (exponent, decimals) = (network.token.asset.exponent(), network.token.decimals);
    let atomic = |amount| money::atomic_from_ledger_up(amount, exponent, decimals).ok();
    ChannelTerms {
        receiver: Address(network.pay_to),
        receiver_authorizer: batch.authorizer,
        withdraw_delay: batch.withdraw_delay,
        min_deposit: batch.min_deposit.and_then(atomic),
    }
}

fn solana(x402: &X402, network: &SvmNetwork) -> io::Result<Till> {
    let token = SvmToken::new(&network.network, network.mint, network.pay_to)
        .ok_or_else(|| io::Error::other("a Solana payee has no account for its token"))?;
    Ok(Till {
        method: Method::Solana { token: Arc::new(token) },
        asset: network.asset,
        decimals: network.decimals,
        deposit: x402.deposit.unwrap_or_default(),
        ceiling_max: Some(x402.ceiling_max),
        margin_s: x402_exact::SETTLE_MARGIN_S,
        rail: format!("x402:{}", network.network),
        said: Arc::default(),
    })
}
