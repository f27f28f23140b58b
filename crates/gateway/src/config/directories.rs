//! `identity.directories`: whose key directories are fetched (`specs/identity.md`). None, unless it says so: a name in a
//! request makes us ask somebody.

use proof::identity::directory::Unsigned;
use rails::directory::Allow;

use super::section::{Keys, Section};
use super::value;

/// Directories that may be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// Whose.
    pub allow: Allow,
    /// On which ports, default 443.
    pub ports: Vec<u16>,
    /// What becomes of keys that have not signed their directory, default refused.
    pub unsigned: Unsigned,
}

const KEYS: Keys = Keys::new(&["allow", "per_hour", "ports", "unsigned"], &[]);
/// New origins in an hour, where anybody's directory is fetched.
const PER_HOUR: u32 = 60;
const HTTPS: u16 = 443;

pub(super) fn read(identity: &Section<'_>) -> Option<Directories> {
    let section = identity.section("directories", KEYS)?;
    let named = section.values("allow", suffix);
    if named.is_none() {
        section.missing("identity.directories needs \"allow\": names, or any".to_owned());
    }
    let named: Vec<Option<String>> = named.unwrap_or_default().into_iter().map(|(_, name)| name).collect();
    let per_hour = section.value("per_hour", value::count);
    let suffixes: Option<Vec<String>> = named.iter().cloned().collect();
    let allow = match suffixes {
        Some(suffixes) => {
            if per_hour.is_some() {
                let message = "identity.directories.per_hour counts new origins, and these are named";
                section.complain("per_hour", message.to_owned());
            }
            Allow::Suffixes(suffixes)
        }
        None => {
            if named.len() > 1 {
                section.complain("allow", "identity.directories.allow: any is everybody already".to_owned());
            }
            Allow::Any { per_hour: per_hour.unwrap_or(PER_HOUR) as usize }
        }
    };
    let ports = section.values("ports", port).map(|ports| ports.into_iter().map(|(_, port)| port).collect());
    let unsigned = section.value("unsigned", |text| match text {
        "refuse" => Ok(Unsigned::Refuse),
        "accept" => Ok(Unsigned::Accept),
        _ => Err(format!("\"{text}\" is neither refuse nor accept")),
    });
    Some(Directories {
        allow,
        ports: ports.unwrap_or_else(|| vec![HTTPS]),
        unsigned: unsigned.unwrap_or(Unsigned::Refuse),
    })
}

/// The end of a host's name; none for `any`.
fn suffix(text: &str) -> Result<Option<String>, String> {
    if text == "any" {
        return Ok(None);
    }
    let is_name = proof::identity::Origin::parse(&format!("https://{text}"))
        .is_some_and(|origin| origin.host() == text && text.contains('.'));
    if is_name {
        Ok(Some(text.to_owned()))
    } else {
        Err(format!("\"{text}\" is no host name; write it like agents.example"))
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("\"{text}\" is no port"))
}
