//! Signing in with the wallet: the way to a balance whose key was lost, without paying again (X402-35).
//!
//! The seller's terms are signed only for the very host that we talk to: signed for another one they would open the
//! payer's account there, to whoever relayed them.

use http::{HeaderName, HeaderValue, Method, StatusCode};
use money::Asset;
use proof::siwx;
use serde_json::Value;
use wire::credit_key::CreditKey;
use wire::x402::siwx::{Challenge as Terms, ID, SIGN_IN_WITH_X, SignatureType, VERSION};
use wire::{json, x402};

use crate::challenge::{Challenge, Said};
use crate::client::{Client, See, Step};
use crate::connection::SendError;
use crate::error::CallError;
use crate::keyring;
use crate::receipt::Money;
use crate::{Request, Secret, Target, printable};

/// Where a gateway of ours hands out keys for signatures.
const PATH: &str = "/farthing/sign-in";
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A balance that was opened. Its key is kept for the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// Whose it is.
    pub origin: String,
    /// What can be spent.
    pub balance: Option<Money>,
}

/// Why no balance was opened. Nothing was paid.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// As for any call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The seller offers no sign-in.
    #[error("{0} offers no sign-in with a wallet")]
    NotOffered(String),
    /// What is to be signed names another host than the one that we talk to.
    #[error("{origin} asks for a signature that is for {domain}: not signed")]
    Elsewhere {
        /// Whom we talk to.
        origin: String,
        /// For whom the signature would be.
        domain: String,
    },
    /// Another kind of wallet is asked for, or terms that make no text.
    #[error("the terms of {0} cannot be signed with this wallet")]
    Terms(String),
    /// The seller says no.
    #[error("the seller answered {status}{}", code(.said))]
    Refused {
        /// The answer.
        status: StatusCode,
        /// What it says.
        said: Box<Said>,
    },
}

impl Client {
    /// Opens the balance that this wallet has with an origin, and keeps the key to it.
    ///
    /// # Errors
    /// [`SignInError`]; nothing was paid.
    pub async fn sign_in(&self, target: &Target, see: &mut See<'_>) -> Result<SignedIn, SignInError> {
        let wallet = self.wallet.as_ref().ok_or(CallError::NoWallet { price: None })?;
        let folder = self.folder.as_ref().ok_or(CallError::NoFolder)?;
        let origin = target.origin_text();
        if !target.may_carry_credentials() {
            return Err(CallError::ClearText(origin).into());
        }
        let network = |error: SendError| CallError::Network(error.to_string());
        let request = Request::of_target(Method::POST, target.sibling(PATH.to_owned()));
        let answer = self.ask(&request, &[], see).await.map_err(network)?;
        if answer.status != StatusCode::PAYMENT_REQUIRED {
            return Err(SignInError::NotOffered(origin));
        }
        let challenge = self.read_challenge(answer, see).await?;
        let terms = terms(&challenge).ok_or_else(|| SignInError::NotOffered(origin.clone()))?;
        let header = answer_to(&terms, &request, |info, chain| siwx::answer(&wallet.evm, info, chain))?;
        let answer = self.ask(&request, &[header], see).await.map_err(network)?;
        let status = answer.status;
        let body = answer.body.collect(ANSWER_BYTES_MAX).await;
        let body = body.map_err(|error| CallError::Network(error.to_string()))?;
        let document = json::parse_strict(&body).unwrap_or_default();
        let key = document["key"].as_str().filter(|key| CreditKey::parse(key).is_ok());
        let Some(key) = key.filter(|_| status.is_success()) else {
            return Err(SignInError::Refused { status, said: Box::new(Said::parse(&body)) });
        };
        let balance = Money::read(&document["balance"]);
        let asset = balance.as_ref().and_then(|balance| Asset::from_name(&balance.currency));
        let key = Secret::new(key.to_owned());
        keyring::save(&folder.keys_file(), &origin, &key, asset).map_err(CallError::from)?;
        see(Step::KeySaved);
        Ok(SignedIn { origin, balance })
    }

    /// Whether a 402 can be met by a balance whose key we have lost: the seller lets wallets sign in, and we have been
    /// his customer.
    pub(crate) fn may_sign_in(
        &self,
        request: &Request,
        challenge: &Challenge,
        key_was_refused: bool,
    ) -> bool {
        let Some(folder) = self.folder.as_ref().filter(|_| self.save_keys && self.wallet.is_some()) else {
            return false;
        };
        let origin = request.target.origin_text();
        // Receipts of his were checked before, and there is no key now.
        let known =
            || crate::pins::known(&folder.trust_file(), &origin, "").is_ok_and(|known| known.is_some());
        let lost = || keyring::saved_for(&folder.keys_file(), &origin).is_ok_and(|key| key.is_none());
        let free = !request.brings_key() && !request.brings_payment() && self.key.is_none();
        free && terms(challenge).is_some() && (key_was_refused || (known() && lost()))
    }
}

/// The header that answers a seller's terms.
fn answer_to(
    terms: &Terms,
    request: &Request,
    sign: impl FnOnce(x402::siwx::Info, &str) -> Result<x402::siwx::Answer, siwx::SiwxError>,
) -> Result<(HeaderName, HeaderValue), SignInError> {
    let (info, origin) = (&terms.info, request.target.origin_text());
    // Up to the path, so that neither a longer host nor a user before it passes.
    let behind = info.uri.strip_prefix(origin.as_str());
    let here = behind.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
    if info.domain != request.target.origin().authority() || !here {
        return Err(SignInError::Elsewhere { origin, domain: printable(&info.domain) });
    }
    let evm = |chain: &&x402::siwx::SupportedChain| {
        chain.signature_type == SignatureType::Eip191 && chain.chain_id.starts_with("eip155:")
    };
    let unsignable = || SignInError::Terms(origin.clone());
    let chain = terms.supported_chains.iter().find(evm).ok_or_else(unsignable)?;
    if info.version != VERSION {
        return Err(unsignable());
    }
    let answer = sign(info.clone(), &chain.chain_id).map_err(|_| unsignable())?;
    let mut value = HeaderValue::try_from(answer.to_header()).map_err(|_| unsignable())?;
    value.set_sensitive(true);
    Ok((HeaderName::from_static(SIGN_IN_WITH_X), value))
}

/// The terms in a challenge.
fn terms(challenge: &Challenge) -> Option<Terms> {
    let entry: &Value = challenge.extensions.as_ref()?.get(ID)?;
    serde_json::from_value(entry.clone()).ok()
}

fn code(said: &Said) -> String {
    let reason = if said.reason.is_empty() { &said.code } else { &said.reason };
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}
