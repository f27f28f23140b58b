//! The thread that gathers: who wakes it.

use std::sync::Arc;
use std::time::Duration;

use redb::backends::InMemoryBackend;
use tokio::sync::{mpsc, oneshot};

use super::{block_on, capture};
use crate::disk::Disk;
use crate::exposure::AtRisk;
use crate::space::Space;
use crate::writer::intake::Gathering;
use crate::writer::{Intake, Job, Shared, Writer};
use crate::{Durability, Op, schema};

/// LED-25: a writer that gathers for an hour is woken by whoever waits, and by the end of its store. It would be
/// the hour that this test takes.
#[test]
fn a_write_that_is_waited_for_ends_the_gathering() {
    let space = Arc::new(Space::new(None, 0));
    let disk = Disk::open(Arc::new(InMemoryBackend::new()), Arc::clone(&space)).unwrap();
    schema::open(&disk, [1; 16]).unwrap();
    let shared = Shared {
        at_risk: Arc::new(AtRisk::new(Durability::default())),
        failed: Arc::default(),
        bell: Arc::default(),
        recent: Arc::default(),
    };
    let bell = Arc::clone(&shared.bell);
    let mut writer = Writer::new(disk.clone(), None, space, shared).unwrap();
    writer.gathering = Gathering { window: Duration::from_secs(3600) };
    let (queue, jobs) = mpsc::channel(8);
    let thread = std::thread::spawn(move || writer.run(jobs));
    bell.belongs_to(thread.thread());
    let hand_over = |op, answer| {
        queue.try_send(Job { answer, ..Job::new(op) }).unwrap();
    };
    for id in 1..=3 {
        hand_over(capture(id, 1), None);
        bell.tap();
        let (answer, done) = oneshot::channel();
        hand_over(Op::Flush, Some(answer));
        bell.ring();
        block_on(done).unwrap().unwrap();
    }
    hand_over(capture(4, 1), None);
    bell.tap();
    drop(queue);
    bell.ring();
    thread.join().unwrap();
    // Each with the income of its batch.
    assert_eq!(crate::Reader::new(disk).unsigned_head(0).unwrap().size, 8);
}

/// LED-27: a write that is being handed over while the writer ends is answered too.
#[test]
fn nobody_waits_for_a_writer_that_has_ended() {
    let (queue, jobs) = mpsc::channel(8);
    let place = queue.try_reserve().unwrap();
    let ending = std::thread::spawn(move || drop(Intake(jobs)));
    while !queue.is_closed() {
        std::thread::yield_now();
    }
    let (answer, done) = oneshot::channel();
    place.send(Job { answer: Some(answer), ..Job::new(Op::Flush) });
    ending.join().unwrap();
    assert!(block_on(done).is_err());
}
