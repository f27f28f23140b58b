//! Counts tokens where a provider reported none, beside the threads that answer (MTR-24). The tokenizer's tables
//! take 50 MB and are loaded with the first estimate, so a gateway whose upstreams report never has them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meter::{Counted, OutputText};
use tokio::sync::{OnceCell, Semaphore};

use crate::tokens::{self, Asked};

/// Longest wait for a turn. A hold goes back within a second or so of its call's end (MTR-30), and nobody waits
/// longer for a call to begin, however many others want something counted.
const TURN_MAX: Duration = Duration::from_secs(1);

/// Counts one text after the other: of calls that are to begin, of calls that have ended, so that whoever asks for much
/// keeps nobody's hold open, and of those that have waited for too long. More at a time would take the cores from those
/// who answer.
#[derive(Debug)]
pub(crate) struct Estimator {
    tables: Arc<OnceCell<()>>,
    asks: Arc<Semaphore>,
    ends: Arc<Semaphore>,
    late: Arc<Semaphore>,
}

impl Default for Estimator {
    fn default() -> Self {
        let one = || Arc::new(Semaphore::new(1));
        Self { tables: Arc::default(), asks: one(), ends: one(), late: one() }
    }
}

/// What is counted when a call has ended.
struct Ended {
    request: Bytes,
    said: Option<OutputText>,
    factor_bp: u32,
}

impl Estimator {
    /// Tokens of a request and of what an answer said. What cannot be counted is left to its bytes.
    ///
    /// What a call costs must not hang on how busy the machine is. So the tables are there before anybody waits for a
    /// turn, because they alone may take longer than that; and whoever gets no turn is counted by less of a long text,
    /// which is soon done: bytes would be a few times too many for a short request, and too few for a dense one.
    pub(crate) fn count(
        &self,
        request: Bytes,
        said: Option<OutputText>,
        factor_bp: u32,
    ) -> impl Future<Output = Counted> + use<> {
        let ended = Arc::new(Ended { request, said, factor_bp });
        let count = |most| {
            let ended = Arc::clone(&ended);
            move || ended.count(most)
        };
        let tables = Arc::clone(&self.tables);
        let whole = beside(&self.ends, TURN_MAX, count(tokens::COUNTED_BYTES_MAX));
        let hurried = beside(&self.late, Duration::MAX, count(tokens::HURRIED_BYTES_MAX));
        async move {
            tables.get_or_init(load).await;
            match whole.await {
                Some(counted) => counted,
                None => hurried.await.unwrap_or(Counted::NOTHING),
            }
        }
    }

    /// Tokens of a request's texts.
    pub(crate) fn count_request(&self, request: Bytes) -> impl Future<Output = Asked> + use<> {
        let counting = beside(&self.asks, TURN_MAX, move || tokens::count_request(&request));
        async move { counting.await.unwrap_or(Asked::Long) }
    }
}

impl Ended {
    fn count(&self, most: usize) -> Counted {
        let output = self.said.as_ref().map(|said| {
            let said = tokens::whole_characters(said.bytes());
            let sample = tokens::beginning(&said, most);
            (tokens::count(sample), sample.len() as u64)
        });
        Counted { input: tokens::count_sample(&self.request, most), output, factor_bp: self.factor_bp }
    }
}

/// Loads the tables. If that fails, so does each count, and bytes decide.
async fn load() {
    if let Err(error) = tokio::task::spawn_blocking(tokens::load).await {
        tracing::error!(%error, "the tokenizer could not be loaded");
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
    use meter::Counted;
    use tokio::sync::oneshot;

    use super::{Estimator, TURN_MAX, beside};
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

    /// A charge does not depend on how long the first estimate takes to load the tables: whoever ends meanwhile is
    /// counted too.
    #[tokio::test(start_paused = true)]
    async fn ends_wait_for_the_tables_however_long() {
        let estimator = Estimator::default();
        let (loaded, loads) = oneshot::channel();
        let tables = Arc::clone(&estimator.tables);
        let loading = tokio::spawn(async move {
            tables.get_or_init(|| async { loads.await.unwrap() }).await;
        });
        tokio::task::yield_now().await;
        let ends: Vec<_> = (0..3).map(|_| tokio::spawn(estimator.count(long(), None, 12_500))).collect();
        tokio::time::sleep(TURN_MAX * 10).await;
        assert!(ends.iter().all(|end| !end.is_finished()));
        loaded.send(()).unwrap();
        loading.await.unwrap();
        for end in ends {
            assert_eq!(end.await.unwrap(), counted(2048 + 1024), "each has had its turn");
        }
    }

    /// Nor on whether there is a turn: what is short is counted whole, and of what is long the beginning.
    #[tokio::test(start_paused = true)]
    async fn whoever_gets_no_turn_is_counted_by_less() {
        let estimator = Estimator::default();
        let _turn = Arc::clone(&estimator.ends).acquire_owned().await.unwrap();
        let short = Bytes::from_static(br#"{"prompt":"a b"}"#);
        assert_eq!(estimator.count(short, None, 12_500).await, counted(2));
        assert_eq!(
            estimator.count(long(), None, 12_500).await,
            counted(2 * 2048),
            "all as dense as its beginning"
        );
    }

    fn counted(input: u64) -> Counted {
        Counted { input: Some(input), output: None, factor_bp: 12_500 }
    }

    /// A token for each two bytes, then for each four.
    fn long() -> Bytes {
        let text = " a".repeat(2048) + &" the".repeat(1024);
        serde_json::json!({"prompt": text}).to_string().into()
    }
}
