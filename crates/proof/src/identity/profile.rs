//! What each use of a signature demands of it (section 3 of the rules).

use wire::message_signature::{MessageSignature, Request};

use super::{ALGORITHM, Refused, Tag, Unproven, agent};

/// How far a signer's clock may be ahead of ours (IDN-10).
pub const AHEAD_MAX_S: u64 = 30;
/// Longest nonce (IDN-11).
pub const NONCE_BYTES_MAX: usize = 128;
/// How long a holder's signature lasts at most (IDN-28).
pub const HOLDER_WINDOW_S: u64 = 60;
/// How long any signature may last, whatever is configured: the longest of the drafts.
pub const WINDOW_S_MAX: u64 = 24 * 3600;

/// A use, with what is configured of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile<'p> {
    /// Web Bot Auth: who an agent is.
    WebBotAuth {
        /// Longest time from `created` to `expires`.
        window_s: u64,
        /// Whether one without a nonce is refused.
        needs_nonce: bool,
    },
    /// The same where it is to debit an account: what the agent accepts to pay is signed (IDN-21).
    Crawl {
        /// Longest time from `created` to `expires`.
        window_s: u64,
        /// The field that names the price.
        price_field: &'static str,
    },
    /// Visa Trusted Agent Protocol, either tag: who an agent is, and whether it is about to pay.
    VisaTap {
        /// Longest time from `created` to `expires`.
        window_s: u64,
    },
    /// The holder of a credential that names a key (IDN-26, IDN-27).
    Holder {
        /// The fields that carry the credential.
        credential_fields: &'p [&'static str],
        /// Whether the request has a body.
        has_body: bool,
    },
}

impl Profile<'_> {
    /// Whether a signature with this tag can serve it (IDN-13).
    const fn takes(self, tag: Tag) -> bool {
        match self {
            Self::WebBotAuth { .. } | Self::Crawl { .. } => matches!(tag, Tag::WebBotAuth),
            Self::VisaTap { .. } => matches!(tag, Tag::AgentBrowser | Tag::AgentPayer),
            Self::Holder { .. } => matches!(tag, Tag::Holder),
        }
    }

    const fn window_s(self) -> u64 {
        match self {
            Self::WebBotAuth { window_s, .. } | Self::Crawl { window_s, .. } | Self::VisaTap { window_s } => {
                window_s
            }
            Self::Holder { .. } => HOLDER_WINDOW_S,
        }
    }

    /// Whether each signature needs a nonce. Where one is there it counts once in any case.
    const fn needs_nonce(self) -> bool {
        match self {
            Self::WebBotAuth { needs_nonce, .. } => needs_nonce,
            Self::Crawl { .. } | Self::VisaTap { .. } | Self::Holder { .. } => true,
        }
    }

    /// Checks everything about a signature that can be checked without its key: cheap, and in the order in which
    /// a forger would have to get it right.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn examine(
        self,
        signature: &MessageSignature,
        request: &Request<'_>,
        now_s: u64,
    ) -> Result<Unproven, Refused> {
        let named = Tag::ALL.into_iter().find(|tag| signature.tag.as_deref() == Some(tag.name()));
        let tag = named.filter(|tag| self.takes(*tag)).ok_or(Refused::Tag)?;
        let is_other = signature.alg.as_deref().is_some_and(|alg| alg != ALGORITHM);
        let bytes = <[u8; 64]>::try_from(signature.signature.as_slice());
        let Ok(bytes) = bytes.map_err(|_| ()).and_then(|bytes| if is_other { Err(()) } else { Ok(bytes) })
        else {
            return Err(Refused::Algorithm);
        };
        let (created_s, expires_s) = self.check_times(signature, now_s)?;
        let keyid = signature.keyid.clone().ok_or(Refused::Missing("keyid"))?;
        let fits = |nonce: &String| (1..=NONCE_BYTES_MAX).contains(&nonce.len());
        match &signature.nonce {
            Some(nonce) if fits(nonce) => {}
            None if !self.needs_nonce() => {}
            Some(_) | None => return Err(Refused::Nonce),
        }
        self.check_coverage(signature, request)?;
        let agent = match tag {
            Tag::WebBotAuth => agent::of(signature, request)?,
            // Their keys are in a registry, or in the credential itself.
            Tag::AgentBrowser | Tag::AgentPayer | Tag::Holder => None,
        };
        Ok(Unproven {
            tag,
            keyid,
            agent,
            covers_digest: signature.covers("content-digest"),
            base: signature.base(request)?,
            signature: bytes,
            nonce: signature.nonce.clone(),
            created_s,
            expires_s,
        })
    }

    /// IDN-10
    fn check_times(self, signature: &MessageSignature, now_s: u64) -> Result<(u64, u64), Refused> {
        let created_s = signature.created.ok_or(Refused::Missing("created"))?;
        let expires_s = signature.expires.ok_or(Refused::Missing("expires"))?;
        if created_s > now_s.saturating_add(AHEAD_MAX_S) || expires_s <= created_s {
            return Err(Refused::TooEarly);
        }
        if now_s >= expires_s {
            return Err(Refused::Expired);
        }
        let window_s = self.window_s().min(WINDOW_S_MAX);
        if expires_s - created_s > window_s {
            return Err(Refused::Window(window_s));
        }
        Ok((created_s, expires_s))
    }

    /// What must be signed. A member of a field, or a field in another spelling, does not stand for it.
    fn check_coverage(self, signature: &MessageSignature, request: &Request<'_>) -> Result<(), Refused> {
        let wanted = |name: &'static str| {
            if signature.covers(name) { Ok(()) } else { Err(Refused::Uncovered(name)) }
        };
        let authority = || {
            if signature.covers("@target-uri") { Ok(()) } else { wanted("@authority") }
        };
        match self {
            Self::WebBotAuth { .. } => authority(),
            Self::Crawl { price_field, .. } => {
                authority()?;
                wanted(price_field)
            }
            Self::VisaTap { .. } => ["@authority", "@path"].into_iter().try_for_each(wanted),
            Self::Holder { credential_fields, has_body } => {
                ["@method", "@authority", "@path"].into_iter().try_for_each(wanted)?;
                if request.query.is_some() {
                    wanted("@query")?;
                }
                credential_fields.iter().copied().try_for_each(wanted)?;
                if has_body { wanted("content-digest") } else { Ok(()) }
            }
        }
    }
}
