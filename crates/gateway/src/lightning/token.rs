//! The credential: whether it was paid, whether we sold it, and what it permits (L402-10..17, L402-50..57).

use std::cell::Cell;
use std::rc::Rc;

use http::{HeaderMap, HeaderName, header};
use ledger::{AccountId, Budget};
use money::Amount;
use proof::caveat::Context;
use proof::l402::{self, L402Error, Verified, VerifiedToken};
use wire::caveat::Caveat;
use wire::l402::{Credential, CredentialError, Terms};

use crate::call::Arrived;
use crate::config::{L402, Route};
use crate::credential::KEY_FIELDS;
use crate::gate::Gate;
use crate::identity::{self, Content};
use crate::refusal::{Code, Facts, Refusal};
use crate::remembered::Remembered;

/// Credentials of L402 that this thread has verified.
pub(crate) type KnownTokens = Remembered<OpenToken>;

/// A credential that was paid for and has a token of ours. Holds no secret.
#[derive(Debug)]
pub(crate) struct OpenToken {
    pub(crate) verified: Verified,
    /// Whether this thread has seen its payment in the account that it names.
    is_in: Cell<bool>,
}

/// The token of a credential that permits a request.
#[derive(Clone, Debug)]
pub(crate) struct TokenUse {
    open: Rc<OpenToken>,
    place: usize,
}

/// Where the credential of a request stands.
enum Shown<'h> {
    Nowhere,
    /// In this one value, and nowhere else.
    Here(&'h str),
    /// In several lines, or in one that has to be decoded to be known.
    Somewhere,
}

/// Caveats of a token as we sell it: `services=`.
const MINTED_CAVEATS: usize = 1;
/// The prefix of a credential that stands where an API key does.
const WRAPPED: &str = "l402_";
/// Fields that carry a token in hexadecimal, with the preimage in a caveat.
pub(crate) static HEX_FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("macaroon"),
    HeaderName::from_static("grpc-metadata-macaroon"),
    HeaderName::from_static("token"),
];

impl<'h> Shown<'h> {
    fn find(headers: &'h HeaderMap) -> Self {
        if HEX_FIELDS.iter().any(|name| headers.contains_key(name)) {
            return Self::Somewhere;
        }
        let of_scheme = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| {
            let text = value.to_str().ok()?.trim();
            let (scheme, rest) = text.split_once(' ')?;
            let ours = ["L402", "LSAT"].iter().any(|name| scheme.eq_ignore_ascii_case(name));
            let wrapped = scheme.eq_ignore_ascii_case("bearer") && rest.trim_start().starts_with(WRAPPED);
            (ours || wrapped).then_some(text)
        });
        let plain = KEY_FIELDS.iter().filter_map(|name| headers.get(name)?.to_str().ok().map(str::trim));
        let mut found = of_scheme.chain(plain.filter(|text| text.starts_with(WRAPPED)));
        match (found.next(), found.next()) {
            (None, _) => Self::Nowhere,
            (Some(text), None) => Self::Here(text),
            (Some(_), Some(_)) => Self::Somewhere,
        }
    }
}

/// Whether a request has anything that may be a credential of L402.
pub(crate) fn is_shown(headers: &HeaderMap) -> bool {
    match Shown::find(headers) {
        Shown::Nowhere => false,
        Shown::Here(_) => true,
        // The name `token` is not ours alone.
        Shown::Somewhere => !matches!(read(headers), Ok(None)),
    }
}

fn read(headers: &HeaderMap) -> Result<Option<Credential>, CredentialError> {
    Credential::read(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
}

impl KnownTokens {
    /// The credential of a request: paid for, and of our making. None: it has none. Asks nobody and reads nothing (L402-50).
    ///
    /// # Errors
    /// What is wrong with it; nothing was taken.
    pub(crate) fn verify(&self, gate: &Gate, headers: &HeaderMap) -> Result<Option<Rc<OpenToken>>, Refusal> {
        let text = match Shown::find(headers) {
            Shown::Nowhere => return Ok(None),
            Shown::Here(text) => Some(text),
            Shown::Somewhere => None,
        };
        let masters = gate.keys.masters.load();
        if let Some(open) = text.and_then(|text| self.get(&masters, text)) {
            return Ok(Some(open));
        }
        let Some(credential) = read(headers).map_err(unreadable)? else { return Ok(None) };
        let verified = l402::verify(&masters.l402, &credential).map_err(refusal)?;
        let open = Rc::new(OpenToken { verified, is_in: Cell::new(false) });
        if let Some(text) = text {
            self.keep(&masters, text, &open);
        }
        Ok(Some(open))
    }
}

impl OpenToken {
    /// The account of its payment, whatever tokens were made of it (L402-59).
    pub(crate) const fn account(&self) -> AccountId {
        AccountId(self.verified.account)
    }

    /// Whether its payment is a deposit already, as far as this thread knows.
    pub(crate) fn is_in(&self) -> bool {
        self.is_in.get()
    }

    /// Its payment is in the account that it names.
    pub(super) fn came_in(&self) {
        self.is_in.set(true);
    }

    /// The first of its tokens that permits a call.
    ///
    /// # Errors
    /// Why none does; nothing was taken.
    pub(crate) fn permits(
        self: &Rc<Self>,
        gate: &Gate,
        arrived: &Arrived,
        rules: &L402,
        (route, model): (&Route, &str),
        content: Content<'_>,
    ) -> Result<TokenUse, Refusal> {
        let own = &route.l402;
        let scope = Scope {
            service: own.service.as_deref().unwrap_or(&rules.service),
            tier: own.tier,
            capability: own.capability.as_deref(),
            route: &route.name,
            model: Some(model),
        };
        self.within(gate, arrived, rules, scope, content)
    }

    /// The same for what is no call: a look at the balance, a deposit without a call.
    ///
    /// # Errors
    /// As [`OpenToken::permits`].
    pub(crate) fn permits_no_call(
        self: &Rc<Self>,
        gate: &Gate,
        arrived: &Arrived,
        rules: &L402,
        content: Content<'_>,
    ) -> Result<TokenUse, Refusal> {
        // What it was narrowed to last is what it is good for.
        let caveats = self.verified.tokens.first().map_or(&[][..], |token| &token.caveats);
        let named = caveats.iter().rev().find_map(first_service);
        let scope = Scope {
            service: named.unwrap_or(&rules.service),
            tier: 0,
            capability: None,
            route: "",
            model: None,
        };
        self.within(gate, arrived, rules, scope, content)
    }

    fn within(
        self: &Rc<Self>,
        gate: &Gate,
        arrived: &Arrived,
        rules: &L402,
        scope: Scope<'_>,
        content: Content<'_>,
    ) -> Result<TokenUse, Refusal> {
        let context = Context {
            now_unix_s: arrived.now.seconds(),
            service: scope.service,
            tier: scope.tier,
            capability: scope.capability,
            route: scope.route,
            model: scope.model,
            preimage: None,
            holder: None,
            unknown: rules.unknown_caveats,
            require_scope: rules.require_scope,
        };
        let permits = |holder| {
            l402::permits(&self.verified, &Context { holder, ..context }, |id| gate.is_revoked([id]))
        };
        let good = match (permits(None), self.verified.holder()) {
            (Ok(good), _) => good,
            // Bound to a key, and nothing else stands against it: now it is worth a curve operation (IDN-29).
            (Err(_), Some(holder)) if permits(Some(holder)).is_ok() => {
                identity::check_holder(gate, arrived, holder, content)?;
                permits(Some(holder)).map_err(refusal)?
            }
            (Err(error), _) => return Err(refusal(error)),
        };
        let place = self.verified.tokens.iter().position(|token| std::ptr::eq(token, good)).unwrap_or(0);
        Ok(TokenUse { open: Rc::clone(self), place })
    }
}

struct Scope<'a> {
    service: &'a str,
    tier: u8,
    capability: Option<&'a str>,
    route: &'a str,
    model: Option<&'a str>,
}

fn first_service(caveat: &Caveat) -> Option<&str> {
    let Caveat::Services(services) = caveat else { return None };
    services.first().map(|service| service.name.as_str())
}

/// What is wrong with a credential that was decoded. Nothing was taken, and what its payment has left stays.
pub(super) fn refusal(error: L402Error) -> Refusal {
    let code = match &error {
        L402Error::Preimage
        | L402Error::Unknown
        | L402Error::Revoked
        | L402Error::Caveat(_)
        | L402Error::Widened(_)
        | L402Error::PreimageCaveat
        | L402Error::WrongAsset
        | L402Error::Unscoped => Code::ProofInvalid,
        L402Error::EpochRetired | L402Error::Expired(_) | L402Error::ClaimWindow(_) => Code::ProofExpired,
        L402Error::UnknownCaveat(_) | L402Error::Forbidden(_) => Code::KeyForbidden,
        L402Error::HolderProofMissing => Code::HolderProofMissing,
        L402Error::BeforeRestore => Code::VerificationFailed,
    };
    refused(code, error.reason(), format!("This L402 credential is not taken: {error}."))
}

/// What is wrong with lines that are no credential.
fn unreadable(error: CredentialError) -> Refusal {
    let is_ambiguous = error == CredentialError::Ambiguous;
    let code = if is_ambiguous { Code::AmbiguousCredentials } else { Code::MalformedCredential };
    refused(code, error.reason(), format!("The L402 credential cannot be read: {error}."))
}

fn refused(code: Code, reason: &str, detail: String) -> Refusal {
    Refusal::new(code, detail).facts(Facts { reason: Some(reason.to_owned()), ..Facts::default() })
}

impl TokenUse {
    /// The token; there is one, since its place was found in the list.
    fn token(&self) -> Option<&VerifiedToken> {
        self.open.verified.tokens.get(self.place)
    }

    pub(crate) fn open(&self) -> &OpenToken {
        &self.open
    }

    /// Whether it is the token as we sold it: whoever was given less must get no more (L402-51). In the hexadecimal form
    /// the preimage is a caveat, and narrows nothing.
    pub(crate) fn is_whole(&self) -> bool {
        let narrows = |caveat: &&Caveat| !matches!(caveat, Caveat::Preimage(_));
        self.token().is_some_and(|token| token.caveats.iter().filter(narrows).count() == MINTED_CAVEATS)
    }

    /// What was sold.
    pub(crate) fn terms(&self) -> Option<&Terms> {
        self.token().map(|token| &token.terms)
    }

    /// The most that one call may cost.
    pub(crate) fn per_call(&self) -> Option<Amount> {
        self.token()?.per_call
    }

    /// One name per point of its chain: what it can be revoked by (L402-44).
    pub(crate) fn links(&self) -> impl Iterator<Item = &[u8; 16]> {
        self.token().into_iter().flat_map(|token| &token.links)
    }

    /// Every budget on its chain (L402-55).
    pub(crate) fn budgets(&self) -> impl Iterator<Item = Budget> {
        let budgets = self.token().into_iter().flat_map(|token| &token.budgets);
        budgets.map(|budget| Budget { link: AccountId(budget.link), limit: budget.limit, ends_s: None })
    }
}
