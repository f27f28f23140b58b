//! Keys of agents' directories: whose are fetched here, and the task that does (IDN-15). What is known of them, and how they
//! are fetched: `rails::directory`.

use std::sync::Arc;

use proof::identity::directory::Unsigned;
use rails::dial::Dialer;
use rails::directory::{Allow, Direct, Fetcher, Hosts, Pace, Settings};

use crate::clock::Now;
use crate::config::Config;
use crate::gate::Gate;

/// What a configuration permits to be asked. Agents that it names by their origin are asked, whatever else is allowed.
pub(crate) fn settings(config: &Config) -> Settings {
    let identity = config.identity.as_ref();
    let rules = identity.and_then(|identity| identity.directories.as_ref());
    let named = identity.into_iter().flat_map(|identity| &identity.keyring);
    let of_upstreams = config.upstreams.values().map(|upstream| upstream.url.host.clone());
    Settings {
        hosts: Hosts {
            allow: rules.map_or(Allow::Suffixes(Vec::new()), |rules| rules.allow.clone()),
            named: named
                .filter(|agent| agent.key.is_none())
                .filter_map(|agent| agent.origin.clone())
                .collect(),
            ports: rules.map(|rules| rules.ports.clone()).unwrap_or_default(),
            own: config.server.hosts.iter().cloned().chain(of_upstreams).collect(),
        },
        unsigned: rules.map_or(Unsigned::Refuse, |rules| rules.unsigned),
    }
}

/// Fetches what requests have asked for, for as long as the gateway runs.
pub(crate) async fn fetch(gate: Arc<Gate>) {
    let connect_max = gate.snapshot.load().config.server.timeouts.connect;
    let dialer = match Dialer::new(&[], connect_max) {
        Ok(dialer) => dialer,
        Err(error) => return tracing::error!(%error, "key directories cannot be fetched"),
    };
    let fetcher = Fetcher {
        directories: Arc::clone(&gate.agent_keys),
        network: Arc::new(Direct),
        dialer,
        clock: Arc::new(|| Now::read().seconds()),
        pace: Pace::default(),
    };
    drop(gate);
    fetcher.run().await;
}
