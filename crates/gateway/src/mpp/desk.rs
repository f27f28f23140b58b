//! What one configuration makes of `rails.mpp`.

use std::io;

use rails::EvmNode;
use rails::dial::Dialer;

use super::session::Terms;
use crate::config::{Mpp, MppMethod};
use crate::snapshot::origin;

/// The scheme as it is spoken here.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Never the client's `Host`: a challenge for another server's realm would be its to use.
    pub(crate) realm: String,
    pub(crate) rules: Mpp,
    /// Sessions on channels of Tempo.
    pub(crate) tempo: Option<Terms>,
}

impl Desk {
    pub(crate) fn new(rules: &Mpp, public_url: &str, dialer: &Dialer) -> io::Result<Self> {
        let host = public_url.split_once("://").map_or(public_url, |(_, host)| host);
        let realm = rules.realm.as_deref().unwrap_or(host).to_owned();
        if realm.is_empty() || realm.contains('|') {
            return Err(io::Error::other(
                "rails.mpp needs a realm: write rails.mpp.realm or server.public_url",
            ));
        }
        let tempo = rules.tempo.as_ref().map(|rules| {
            let path = if rules.rpc.base_path.is_empty() { "/" } else { &rules.rpc.base_path }.to_owned();
            let node = EvmNode { origin: origin(&rules.rpc), path, dialer: dialer.clone() };
            Terms { rules: rules.clone(), node }
        });
        Ok(Self { realm, rules: rules.clone(), tempo })
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
