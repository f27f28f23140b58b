//! What one configuration makes of `rails.mpp`.

use std::io;

use crate::config::{Mpp, MppMethod};

/// The scheme as it is spoken here.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Never the client's `Host`: a challenge for another server's realm would be its to use.
    pub(crate) realm: String,
    pub(crate) rules: Mpp,
}

impl Desk {
    pub(crate) fn new(rules: &Mpp, public_url: &str) -> io::Result<Self> {
        let host = public_url.split_once("://").map_or(public_url, |(_, host)| host);
        let realm = rules.realm.as_deref().unwrap_or(host).to_owned();
        if realm.is_empty() || realm.contains('|') {
            return Err(io::Error::other(
                "rails.mpp needs a realm: write rails.mpp.realm or server.public_url",
            ));
        }
        Ok(Self { realm, rules: rules.clone() })
    }

    /// Whether this method is taken here.
    pub(crate) fn takes(&self, method: MppMethod) -> bool {
        self.rules.methods.contains(&method)
    }

    /// The method of this name, if it is taken here.
    pub(crate) fn method(&self, name: &str) -> Option<MppMethod> {
        self.rules.methods.iter().copied().find(|method| method.name() == name)
    }
}
