//! Counts tokens where a provider reported none, beside the threads that answer (MTR-24). The tokenizer's tables
//! take 50 MB and are loaded with the first estimate, so a gateway whose upstreams report never has them.

use std::sync::Arc;

use bytes::Bytes;
use meter::{Counted, OutputText};
use tokio::sync::Semaphore;

use crate::tokens;

/// So many texts are counted at a time; more would take the cores from those who answer.
const AT_ONCE: usize = 2;

/// Counts one text after the other.
#[derive(Debug)]
pub(crate) struct Estimator(Arc<Semaphore>);

impl Default for Estimator {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
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
                input: tokens::texts(&request).map(|texts| tokens::count_sample(&texts)),
                output: said.map(|said| (tokens::count(&said), said.len() as u64)),
                factor_bp,
            }
        };
        let counting = self.beside(count);
        async move { counting.await.unwrap_or(Counted::NOTHING) }
    }

    /// Tokens of a request's texts; none for one that has no texts or too many to be counted whole.
    pub(crate) fn count_input(&self, request: Bytes) -> impl Future<Output = Option<u64>> + use<> {
        let counting =
            self.beside(move || tokens::texts(&request).and_then(|texts| tokens::count_whole(&texts)));
        async move { counting.await.flatten() }
    }

    fn beside<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
        &self,
        work: W,
    ) -> impl Future<Output = Option<T>> + use<T, W> {
        let turns = Arc::clone(&self.0);
        async move {
            let turn = turns.acquire_owned().await.ok()?;
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
}
