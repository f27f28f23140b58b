//! Do the caveats of a token hold, and does none of them widen an earlier one?
//!
//! Called only after the signature chain stands: before that a caveat is a stranger's claim.

use wire::caveat::{Caveat, CaveatError, Service};

/// What the caveats are held against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Unix seconds.
    pub now_unix_s: u64,
    /// The route's service.
    pub service: &'a str,
    /// The tier the route asks for.
    pub tier: u8,
    /// The capability the route needs, if it names one.
    pub capability: Option<&'a str>,
    /// The route's name.
    pub route: &'a str,
    /// The requested model, if the request names one.
    pub model: Option<&'a str>,
    /// The preimage that came beside the token, if one did.
    pub preimage: Option<&'a [u8; 32]>,
    /// Whether the request carries a good signature of this holder key.
    pub holder: Option<&'a [u8; 32]>,
    /// What happens to names we do not know.
    pub unknown: UnknownCaveats,
    /// Whether a token must name services at all (L402-54).
    pub require_scope: bool,
}

/// What happens to a caveat we do not know (L402-53).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownCaveats {
    /// Somebody relied on that restriction.
    Reject,
    /// As the L402 specification says; never for credit keys.
    Skip,
}

/// Why the caveats refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A caveat cannot be read, or its meaning is not built.
    #[error(transparent)]
    Caveat(#[from] CaveatError),
    /// Somebody tried to widen the token.
    #[error(transparent)]
    Widened(#[from] Widened),
    /// A name we do not know, under [`UnknownCaveats::Reject`].
    #[error("unknown caveat `{0}`")]
    Unknown(String),
    /// The token's time is over.
    #[error("expired at {0}")]
    Expired(u64),
    /// This caveat excludes this request.
    #[error("caveat `{0}` forbids this request")]
    Forbidden(&'static str),
    /// No `services=` where one is required.
    #[error("the token names no service")]
    Unscoped,
}

/// A repeat of this name is more permissive than an earlier one (L402-51).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("caveat `{0}` widens an earlier one")]
pub struct Widened(pub String);

/// Reads every caveat.
///
/// # Errors
/// [`CaveatError`] of the first that cannot be read.
pub fn parse_all<B: AsRef<[u8]>>(caveats: &[B]) -> Result<Vec<Caveat>, CaveatError> {
    caveats.iter().map(|caveat| Caveat::parse(caveat.as_ref())).collect()
}

/// That each caveat is at most as permissive as the last one of its kind before it (L402-51, L402-52).
///
/// # Errors
/// [`Widened`] with the name, even if the conjunction would still permit the request.
pub fn check_narrowing(caveats: &[Caveat]) -> Result<(), Widened> {
    for (index, caveat) in caveats.iter().enumerate() {
        // Narrowing is transitive, so the nearest earlier one of the kind stands for all before it.
        let earlier = caveats[..index].iter().rev().find_map(|earlier| narrows(earlier, caveat));
        if earlier == Some(false) {
            return Err(Widened(caveat.name().to_owned()));
        }
    }
    Ok(())
}

/// Every caveat must hold (L402-51).
///
/// # Errors
/// [`Refused`] of the first that does not.
pub fn evaluate(caveats: &[Caveat], context: &Context<'_>) -> Result<(), Refused> {
    check_narrowing(caveats)?;
    permit(caveats, context)
}

/// The same for caveats that were found to narrow when they were read: what is left for each request.
///
/// # Errors
/// [`Refused`] of the first that does not hold.
pub fn permit(caveats: &[Caveat], context: &Context<'_>) -> Result<(), Refused> {
    let scoped = caveats.iter().any(|caveat| matches!(caveat, Caveat::Services(_)));
    if context.require_scope && !scoped {
        return Err(Refused::Unscoped);
    }
    caveats.iter().try_for_each(|caveat| holds(caveat, context))
}

/// Whether `later` is at most as permissive as `earlier`; `None` when they are of different kinds.
fn narrows(earlier: &Caveat, later: &Caveat) -> Option<bool> {
    use Caveat as C;
    Some(match (earlier, later) {
        (C::Expires(a), C::Expires(b)) | (C::Expiration(a), C::Expiration(b)) => b <= a,
        (C::NotBefore(a), C::NotBefore(b)) => b >= a,
        (C::PerCall(asset_a, a), C::PerCall(asset_b, b)) => asset_a == asset_b && b <= a,
        (C::Models(a), C::Models(b)) => b.iter().all(|b| a.iter().any(|a| a.covers(b))),
        (C::Routes(a), C::Routes(b)) => b.iter().all(|b| a.contains(b)),
        (C::Services(a), C::Services(b)) => b.iter().all(|b| a.iter().any(|a| grants(a, &b.name, b.tier))),
        (C::Capabilities { service: of_a, names: a }, C::Capabilities { service: of_b, names: b })
            if of_a == of_b =>
        {
            b.iter().all(|b| a.contains(b))
        }
        (C::ValidUntil { service: of_a, until: a }, C::ValidUntil { service: of_b, until: b })
            if of_a == of_b =>
        {
            b <= a
        }
        (C::Preimage(a), C::Preimage(b)) | (C::Holder(a), C::Holder(b)) => a == b,
        (
            C::Expires(_)
            | C::NotBefore(_)
            | C::PerCall(..)
            | C::Budget { .. }
            | C::Models(_)
            | C::Routes(_)
            | C::Services(_)
            | C::Capabilities { .. }
            | C::ValidUntil { .. }
            | C::Expiration(_)
            | C::Preimage(_)
            | C::Holder(_)
            | C::Unknown(_),
            _,
        ) => return None,
    })
}

fn holds(caveat: &Caveat, context: &Context<'_>) -> Result<(), Refused> {
    let now = context.now_unix_s;
    let forbid = |holds: bool, name| if holds { Ok(()) } else { Err(Refused::Forbidden(name)) };
    match caveat {
        Caveat::Expires(until) => live(now, *until),
        Caveat::Expiration(until_ms) => live(now, expires_from_ms(*until_ms)),
        // Another service's end does not concern us.
        Caveat::ValidUntil { service, until } if service == context.service => live(now, *until),
        Caveat::ValidUntil { .. } => Ok(()),
        Caveat::NotBefore(from) => forbid(now >= *from, "not_before"),
        Caveat::Models(patterns) => {
            let matched = context.model.is_some_and(|model| patterns.iter().any(|p| p.matches(model)));
            forbid(matched, "models")
        }
        Caveat::Routes(routes) => forbid(routes.iter().any(|route| route == context.route), "routes"),
        Caveat::Services(services) => {
            let granted = services.iter().any(|service| grants(service, context.service, context.tier));
            forbid(granted, "services")
        }
        Caveat::Capabilities { service, names } if service == context.service => {
            let has = context.capability.is_none_or(|needed| names.iter().any(|name| name == needed));
            forbid(has, "capabilities")
        }
        Caveat::Capabilities { .. } => Ok(()),
        Caveat::Preimage(preimage) => {
            use subtle::ConstantTimeEq as _;
            let same = context.preimage.is_none_or(|beside| preimage.ct_eq(beside).into());
            forbid(same, "preimage")
        }
        Caveat::Holder(key) => forbid(context.holder == Some(key), "holder"),
        // What a call may cost is decided when it is reserved.
        Caveat::PerCall(..) | Caveat::Budget { .. } => Ok(()),
        Caveat::Unknown(name) => match context.unknown {
            UnknownCaveats::Reject => Err(Refused::Unknown(name.clone())),
            UnknownCaveats::Skip => Ok(()),
        },
    }
}

fn live(now_unix_s: u64, until: u64) -> Result<(), Refused> {
    if now_unix_s < until { Ok(()) } else { Err(Refused::Expired(until)) }
}

fn grants(service: &Service, name: &str, tier: u8) -> bool {
    service.name == name && tier <= service.tier
}

/// The whole second from which on `now >= ms` holds.
pub(crate) const fn expires_from_ms(ms: u64) -> u64 {
    ms.div_ceil(1000)
}

#[cfg(test)]
mod tests;
