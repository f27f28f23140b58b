//! Whose key a `keyid` means: the operator's own list first, then directories that were fetched (section 5 of the rules).

use std::collections::HashMap;
use std::num::NonZeroU32;

use ledger::AccountId;
use proof::identity::{AgentKey, Origin, SignatureAgent, Tag};

use rails::directory::{Directories, Found};

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
        now_s: u64,
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
        let key = match directories.find(origin, keyid, now_s) {
            Found::Key(key) => AgentKey::clone(&key),
            Found::Coming => return Err(NoKey { retry_after_s: Some(FETCHED_IN_S) }),
            Found::Absent { until_s } => {
                return Err(NoKey { retry_after_s: u32::try_from(until_s.saturating_sub(now_s)).ok() });
            }
            Found::Barred => return Err(NoKey { retry_after_s: None }),
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use proof::SigningKey;
    use proof::identity::directory::Unsigned;
    use proof::identity::{AgentKey, Origin, SignatureAgent, Tag};
    use rails::directory::{Allow, Directories, Hosts, Settings};

    use super::{Keyring, NoKey};
    use crate::config::{Identity, KnownAgent, Profiles};

    const ALL: Profiles = Profiles { web_bot_auth: true, visa_tap: true };

    fn key(seed: u8) -> AgentKey {
        AgentKey::new(&SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes()).unwrap()
    }

    fn origin(name: &str) -> Origin {
        Origin::parse(&format!("https://{name}.test")).unwrap()
    }

    fn known(name: &str, key: Option<AgentKey>, origin: Option<Origin>, profiles: Profiles) -> KnownAgent {
        let (per_minute, concurrent) = (None, None);
        KnownAgent { name: name.into(), key, origin, profiles, account: None, per_minute, concurrent }
    }

    fn keyring(agents: Vec<KnownAgent>) -> Keyring {
        let window = Duration::from_secs(480);
        let (blocked, directories) = (HashSet::new(), None);
        Keyring::new(&Identity { keyring: agents, window, needs_nonce: true, directories, blocked })
    }

    /// Of these names, and none is fetched yet.
    fn directories(allowed: &str) -> Directories {
        let hosts = Hosts {
            allow: Allow::Suffixes(vec![allowed.into()]),
            named: Vec::new(),
            ports: vec![443],
            own: Vec::new(),
        };
        Directories::new(Settings { hosts, unsigned: Unsigned::Refuse })
    }

    /// IDN-14, IDN-15: the list first, then directories; a key under another origin is another agent.
    #[test]
    fn idn_14_whose_key_it_is() {
        let (tap, wba) = (
            Profiles { web_bot_auth: false, visa_tap: true },
            Profiles { web_bot_auth: true, visa_tap: false },
        );
        let ring = keyring(vec![
            known("anywhere", Some(key(1)), None, ALL),
            known("here", Some(key(2)), Some(origin("here")), ALL),
            known("tap", Some(key(3).registered_as("tap-3".into())), None, tap),
            known("wba", Some(key(4)), None, wba),
            known("fleet", None, Some(origin("fleet")), ALL),
        ]);
        let directories = directories("test");
        let name = |tag: Tag, keyid: &str, agent: Option<&str>| {
            let agent = agent.map(|name| SignatureAgent::Directory(origin(name)));
            let found = ring.find(tag, keyid, agent.as_ref(), &directories, 1_800_000_000);
            found.map(|signer| (signer.name, signer.origin)).map_err(|NoKey { retry_after_s }| retry_after_s)
        };
        let is = |name: &str, at: Option<&str>| Ok((Some(name.to_owned()), at.map(origin)));
        let thumbprint = |seed: u8| key(seed).thumbprint().to_owned();
        for (what, tag, keyid, agent, expected) in [
            ("by its key alone", Tag::WebBotAuth, thumbprint(1), None, is("anywhere", None)),
            ("wherever it says it is", Tag::WebBotAuth, thumbprint(1), Some("x"), is("anywhere", None)),
            ("under its origin", Tag::WebBotAuth, thumbprint(2), Some("here"), is("here", Some("here"))),
            ("without a word", Tag::AgentPayer, thumbprint(2), None, is("here", Some("here"))),
            ("elsewhere", Tag::WebBotAuth, thumbprint(2), Some("x"), Err(Some(2))),
            ("by its registered name", Tag::AgentBrowser, "tap-3".into(), None, is("tap", None)),
            ("by its thumbprint too", Tag::AgentPayer, thumbprint(3), None, is("tap", None)),
            ("for what it is not listed", Tag::WebBotAuth, thumbprint(3), None, Err(None)),
            ("for what it is not listed", Tag::AgentPayer, thumbprint(4), None, Err(None)),
            ("one of a fleet, not fetched yet", Tag::WebBotAuth, thumbprint(5), Some("fleet"), Err(Some(2))),
            ("a directory is none of TAP's", Tag::AgentPayer, thumbprint(5), Some("fleet"), Err(None)),
            ("a holder's key is in no list", Tag::Holder, thumbprint(1), None, Err(None)),
        ] {
            assert_eq!(name(tag, &keyid, agent), expected, "{what}");
        }
        let unfetched = ring.find(
            Tag::WebBotAuth,
            &thumbprint(6),
            Some(&SignatureAgent::Unfetched),
            &directories,
            1_800_000_000,
        );
        assert_eq!(unfetched.err(), Some(NoKey { retry_after_s: None }), "IDN-19");
    }

    /// IDN-3, IDN-15: a request learns when to come again, and waits for nobody.
    #[test]
    fn idn_15_an_unknown_key_is_asked_for_where_that_is_allowed() {
        let (directories, keyring) = (directories("agents.example"), Keyring::default());
        for (what, tag, origin, retry_after_s) in [
            ("allowed", Tag::WebBotAuth, Some("https://a.agents.example"), Some(2)),
            ("again", Tag::WebBotAuth, Some("https://a.agents.example"), Some(2)),
            ("not allowed", Tag::WebBotAuth, Some("https://a.other.example"), None),
            ("nowhere to ask", Tag::WebBotAuth, None, None),
            ("keys of a registry", Tag::AgentPayer, Some("https://a.agents.example"), None),
        ] {
            let agent = origin.map(|text| SignatureAgent::Directory(Origin::parse(text).unwrap()));
            let found = keyring.find(tag, "some-key", agent.as_ref(), &directories, 1_800_000_000);
            assert_eq!(found.err(), Some(NoKey { retry_after_s }), "{what}");
        }
    }
}
