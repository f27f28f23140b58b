//! What payers sign their transactions over, asked for behind the requests: no challenge waits for a node.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rails::{Recent, SolanaNode};

use crate::clock::Now;
use crate::config::{MppMethod, SolanaNetwork};
use crate::gate::Gate;
use crate::mpp::session::Chain;

/// How often a node is asked. What it says counts for about a minute, and what is left of that is the payers' to sign and
/// send in.
const ASKED_EVERY_S: u64 = 10;
/// Older is told to nobody.
const TOLD_S: u64 = 30;
/// How often it is looked whether it is time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What was last told, of which chain, and when (Unix seconds). It outlives a reload, which asks nobody.
#[derive(Debug, Default)]
pub(in crate::mpp::session) struct Latest(Mutex<Option<(SolanaNetwork, Recent, u64)>>);

impl Latest {
    /// None: nobody has said for too long.
    pub(super) fn get(&self, network: SolanaNetwork, now_s: u64) -> Option<Recent> {
        let (recent, at_s) = self.known(network)?;
        (now_s.saturating_sub(at_s) <= TOLD_S).then_some(recent)
    }

    fn known(&self, network: SolanaNetwork) -> Option<(Recent, u64)> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.filter(|(of, ..)| *of == network).map(|(_, recent, at_s)| (recent, at_s))
    }

    /// Asks for it, where the one that is known grows old.
    async fn refresh(&self, network: SolanaNetwork, node: &SolanaNode) {
        let now_s = Now::read().seconds();
        if self.known(network).is_some_and(|(_, at_s)| now_s.saturating_sub(at_s) < ASKED_EVERY_S) {
            return;
        }
        match node.recent().await {
            Some(recent) => {
                let told = Some((network, recent, now_s));
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = told;
            }
            None => tracing::debug!("the node does not say what a transaction is signed over"),
        }
    }
}

/// Works for as long as the process lives.
pub(crate) async fn keep_recent(gate: Arc<Gate>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let snapshot = gate.snapshot.load_full();
        let terms = snapshot.mpp.as_ref().and_then(|desk| desk.session(MppMethod::Solana));
        if let Some(Chain::Solana(solana)) = terms.map(|terms| &terms.chain) {
            gate.sessions.latest.refresh(solana.rules.network, &solana.node).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rails::Recent;

    use super::{Latest, SolanaNetwork, TOLD_S};

    #[test]
    fn what_is_too_old_is_told_to_nobody() {
        const ON: SolanaNetwork = SolanaNetwork::Devnet;
        assert_eq!(Latest::default().get(ON, 100), None);
        let recent = Recent { blockhash: [8; 32], last_height: 150, slot: 9 };
        let latest = Latest(Mutex::new(Some((ON, recent, 100))));
        assert_eq!(latest.get(ON, 100 + TOLD_S), Some(recent));
        assert_eq!(latest.get(ON, 101 + TOLD_S), None);
        assert_eq!(latest.get(SolanaNetwork::Mainnet, 100), None, "what is signed over is of one chain");
    }
}
