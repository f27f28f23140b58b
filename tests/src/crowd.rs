//! Many clients at the same moment.

use std::sync::Barrier;
use std::thread;

/// Runs `each` on so many threads, begun together.
pub fn at_once<T: Send>(clients: usize, each: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let gate = Barrier::new(clients);
    thread::scope(|scope| {
        let (gate, each) = (&gate, &each);
        let start = |at| {
            scope.spawn(move || {
                gate.wait();
                each(at)
            })
        };
        let running: Vec<_> = (0..clients).map(start).collect();
        running.into_iter().map(|client| client.join().unwrap()).collect()
    })
}
