//! Counts tokens where a provider reported none, beside the threads that answer (MTR-24). The tokenizer's tables
//! take 50 MB and are loaded with the first estimate, so a gateway whose upstreams report never has them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meter::{Counted, OutputText};
use tokio::sync::Semaphore;

use crate::tokens::{self, Asked};

/// Longest wait for a turn. A hold goes back within a second or so of its call's end (MTR-30), and nobody waits
/// longer for a call to begin, however many others want something counted: then bytes decide.
const TURN_MAX: Duration = Duration::from_secs(1);

/// Counts one text after the other: of calls that are to begin, and of calls that have ended, so that whoever asks
/// for much keeps nobody's hold open. More at a time would take the cores from those who answer.
#[derive(Debug)]
pub(crate) struct Estimator {
    asks: Arc<Semaphore>,
    ends: Arc<Semaphore>,
}

impl Default for Estimator {
    fn default() -> Self {
        let one = || Arc::new(Semaphore::new(1));
        Self { asks: one(), ends: one() }
    }
}

impl Estimator {
    /// Tokens of a request and of what an answer said. What cannot be counted is left to its bytes.
    pub(crate) fn count(
        &self,
        request: Bytes,
        said: Option<OutputText>,
        factor_bp: u32,
    ) -> impl Future<Output = Counted> + use<> {
        let count = move || {
            let said = said.as_ref().map(|text| tokens::whole_characters(text.bytes()));
            Counted {
                input: tokens::count_sample(&request),
                output: said.map(|said| (tokens::count(&said), said.len() as u64)),
                factor_bp,
            }
        };
        let counting = beside(&self.ends, TURN_MAX, count);
        async move { counting.await.unwrap_or(Counted::NOTHING) }
    }

    /// Tokens of a request's texts.
    pub(crate) fn count_request(&self, request: Bytes) -> impl Future<Output = Asked> + use<> {
        let counting = beside(&self.asks, TURN_MAX, move || tokens::count_request(&request));
        async move { counting.await.unwrap_or(Asked::Long) }
    }
}

/// Does the work when it is its turn; nothing where that takes too long.
fn beside<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
    turns: &Arc<Semaphore>,
    turn_max: Duration,
    work: W,
) -> impl Future<Output = Option<T>> + use<T, W> {
    let turn = Arc::clone(turns).acquire_owned();
    async move {
        let turn = tokio::time::timeout(turn_max, turn).await.ok()?.ok()?;
        let worked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        match worked.await {
            Ok(counted) => Some(counted),
            Err(error) => {
                tracing::error!(%error, "tokens could not be counted");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::{Estimator, beside};
    use crate::tokens::Asked;

    /// Whoever wants much counted keeps nobody waiting, and no other call's hold open.
    #[tokio::test]
    async fn nobody_waits_long_for_a_turn() {
        let estimator = Estimator::default();
        let body = || Bytes::from_static(br#"{"prompt":"a b"}"#);
        let turn = Arc::clone(&estimator.asks).acquire_owned().await.unwrap();
        assert_eq!(beside(&estimator.asks, Duration::ZERO, || 1).await, None);
        assert_eq!(
            estimator.count(body(), None, 10_000).await.input,
            Some(2),
            "ends have turns of their own"
        );
        drop(turn);
        assert_eq!(estimator.count_request(body()).await, Asked::Tokens(2));
        assert_eq!(beside(&estimator.ends, Duration::ZERO, || 1).await, Some(1), "turns come back");
    }
}
