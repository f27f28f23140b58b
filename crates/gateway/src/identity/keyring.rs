//! Whose key a `keyid` means: the operator's own list first, then directories that were fetched (section 5 of the rules).

use std::collections::HashMap;
use std::num::NonZeroU32;

use ledger::AccountId;
use proof::identity::{AgentKey, Origin, SignatureAgent, Tag};

use super::Directories;
use crate::config::{Identity, KnownAgent, Profiles};

/// Seconds after which a directory may have been fetched.
const FETCHED_IN_S: u32 = 2;

/// The operator's list, indexed. Swapped as a whole with its configuration.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    by_keyid: HashMap<String, Vec<KnownAgent>>,
    by_origin: HashMap<Origin, KnownAgent>,
}

/// A key, and what the operator says of who has it.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    pub(super) key: AgentKey,
    /// None for an agent that nobody named.
    pub(super) name: Option<String>,
    /// None for a key that the operator has listed without one: where else it is does not matter.
    pub(super) origin: Option<Origin>,
    pub(super) account: Option<AccountId>,
    pub(super) per_minute: Option<NonZeroU32>,
    pub(super) concurrent: Option<NonZeroU32>,
}

/// Why there is no key to verify with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoKey {
    /// When it may be there.
    pub(super) retry_after_s: Option<u32>,
}

impl Keyring {
    pub(crate) fn new(identity: &Identity) -> Self {
        let mut keyring = Self::default();
        for agent in &identity.keyring {
            match (&agent.key, &agent.origin) {
                (Some(key), _) => {
                    for name in key.names() {
                        keyring.by_keyid.entry(name.to_owned()).or_default().push(agent.clone());
                    }
                }
                (None, Some(origin)) => {
                    keyring.by_origin.insert(origin.clone(), agent.clone());
                }
                (None, None) => {}
            }
        }
        keyring
    }

    /// The key that a signature names. Keys of Visa TAP have no directories that we know.
    pub(super) fn find(
        &self,
        tag: Tag,
        keyid: &str,
        agent: Option<&SignatureAgent>,
        directories: &Directories,
    ) -> Result<Signer, NoKey> {
        let origin = match agent {
            Some(SignatureAgent::Directory(origin)) => Some(origin),
            Some(SignatureAgent::Unfetched) | None => None,
        };
        // A key with an origin is that agent's under it only; who names none may be it (IDN-14).
        let is_its = |known: &&KnownAgent| match (&known.origin, origin) {
            (Some(own), Some(named)) => own == named,
            (None, _) | (Some(_), None) => true,
        };
        let listed =
            self.by_keyid.get(keyid).into_iter().flatten().filter(|known| counts(known.profiles, tag));
        if let Some(known) = listed.into_iter().find(is_its)
            && let Some(key) = known.key.clone()
        {
            return Ok(Signer::of(known, key, known.origin.clone()));
        }
        let (Tag::WebBotAuth, Some(origin)) = (tag, origin) else {
            return Err(NoKey { retry_after_s: None });
        };
        let Some(key) = directories.key(origin, keyid) else {
            let is_asked = directories.ask(origin);
            return Err(NoKey { retry_after_s: is_asked.then_some(FETCHED_IN_S) });
        };
        Ok(match self.by_origin.get(origin).filter(|known| counts(known.profiles, tag)) {
            Some(known) => Signer::of(known, key, Some(origin.clone())),
            None => Signer {
                key,
                name: None,
                origin: Some(origin.clone()),
                account: None,
                per_minute: None,
                concurrent: None,
            },
        })
    }
}

impl Signer {
    fn of(known: &KnownAgent, key: AgentKey, origin: Option<Origin>) -> Self {
        Self {
            key,
            name: Some(known.name.clone()),
            origin,
            account: known.account,
            per_minute: known.per_minute,
            concurrent: known.concurrent,
        }
    }
}

const fn counts(profiles: Profiles, tag: Tag) -> bool {
    match tag {
        Tag::WebBotAuth => profiles.web_bot_auth,
        Tag::AgentBrowser | Tag::AgentPayer => profiles.visa_tap,
        // Its key is in the credential.
        Tag::Holder => false,
    }
}
