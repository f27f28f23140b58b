//! What nobody waits for any more: calls go on, and answers are read on for a while in the background, so that the
//! provider's own report decides.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use http_body::Frame;
use http_body_util::BodyExt;
use meter::{Counted, End};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::charge::{Charge, Stop};
use crate::outliving::{Outliving, Rest};
use crate::upstream::UpstreamBody;

/// Calls whose client has gone, or does not read, on their way to the task that lets them go on (section 7 of
/// metering.md).
pub(crate) struct Aftercare {
    abandoned: mpsc::UnboundedSender<Rest>,
    /// Answers that have not ended.
    seats: RefCell<Vec<Rc<Seat>>>,
}

/// An answer that is being passed on, and its charge.
type Going = (UpstreamBody, Box<Charge>);

/// Where an answer waits for its client. HTTP/2 lets a client close its window and keep the connection
/// alive for ever; then nothing asks for the next piece, and only this shows it.
pub(crate) struct Seat {
    pub(crate) going: RefCell<Option<Going>>,
    /// Which of the seats it is.
    place: Cell<usize>,
    /// Since when a piece has been out and the next was not asked for.
    unread_since: Cell<Option<Instant>>,
    /// When the hold expires.
    deadline: Instant,
    /// Who waits for the next piece: what ends the call from aside must tell them.
    waiting: Cell<Option<Waker>>,
}

/// How often seats are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Aftercare {
    /// Starts this thread's tasks. Reading on is bounded by the policy of the route; a client that does not read
    /// for `patience` is taken for gone.
    pub(crate) fn start(patience: impl Fn() -> Duration + 'static) -> Rc<Self> {
        let (abandoned, mut arrivals) = mpsc::unbounded_channel::<Rest>();
        tokio::task::spawn_local(async move {
            while let Some(rest) = arrivals.recv().await {
                tokio::task::spawn_local(rest);
            }
        });
        let aftercare = Rc::new(Self { abandoned, seats: RefCell::default() });
        let watched = Rc::downgrade(&aftercare);
        tokio::task::spawn_local(async move {
            let mut tick = tokio::time::interval(LOOK_EVERY);
            loop {
                tick.tick().await;
                let Some(aftercare) = watched.upgrade() else { return };
                aftercare.look(patience());
            }
        });
        aftercare
    }

    /// A call that outlives its client, who waits for it here.
    pub(crate) fn outliving<T>(&self, call: Pin<Box<dyn Future<Output = T>>>) -> Outliving<T> {
        Outliving::new(call, self.abandoned.clone())
    }

    /// Where an answer sits until it has ended.
    pub(crate) fn seat(&self, upstream: UpstreamBody, charge: Box<Charge>) -> Rc<Seat> {
        let deadline = charge.deadline;
        let going = RefCell::new(Some((upstream, charge)));
        let mut seats = self.seats.borrow_mut();
        let (unread_since, waiting, place) = (Cell::new(None), Cell::default(), Cell::new(seats.len()));
        let seat = Rc::new(Seat { going, place, unread_since, deadline, waiting });
        seats.push(Rc::clone(&seat));
        seat
    }

    /// The answer has ended, or its client has gone. The last seat takes the place of this one.
    pub(crate) fn take_over(&self, seat: &Seat) {
        let mut seats = self.seats.borrow_mut();
        let place = seat.place.get();
        seats.swap_remove(place);
        if let Some(moved) = seats.get(place) {
            moved.place.set(place);
        }
        drop(seats);
        seat.give_up(&self.abandoned);
    }

    fn look(&self, patience: Duration) {
        // What ends here may end others' waiting, and so free their seats.
        let seats = self.seats.borrow().clone();
        for seat in seats {
            if seat.deadline <= Instant::now() {
                seat.expire();
            } else if seat.unread_since.get().is_some_and(|since| since.elapsed() > patience) {
                seat.give_up(&self.abandoned);
            }
        }
    }
}

impl Seat {
    /// The client has asked for the next piece: whether it is out, or who waits for it. Behind the last piece there is
    /// nobody to be given up.
    pub(crate) fn asked(&self, is_out: bool, waiting: Option<Waker>) {
        let is_waited_for = is_out && self.going.borrow().is_some();
        self.unread_since.set(is_waited_for.then(Instant::now));
        self.waiting.set(waiting);
    }

    /// Ends the call where it is: what was metered until now is charged, the rest of its hold goes back.
    fn expire(&self) {
        if let Some((_, mut charge)) = self.going.borrow_mut().take() {
            charge.expire();
            if let Some(waker) = self.waiting.take() {
                waker.wake();
            }
        }
    }

    fn give_up(&self, abandoned: &mpsc::UnboundedSender<Rest>) {
        if let Some((body, charge)) = self.going.borrow_mut().take() {
            // If the task is gone, so is the process: dropping the charge settles it.
            let _ = abandoned.send(Box::pin(read_out(body, charge)));
        }
    }
}

/// Reads the rest of an answer nobody waits for, so that the provider's own report decides.
async fn read_out(mut body: UpstreamBody, mut charge: Box<Charge>) {
    let drain = if charge.quote.grows_by_reading() { Duration::ZERO } else { charge.policy.drain };
    // Whoever leaves gets no longer a call than whoever stays.
    let left = charge.deadline.saturating_duration_since(Instant::now());
    let drain = charge.client.left_of(drain).min(left);
    let mut discarded = Vec::new();
    if charge.meter.progress().terminal.is_some() || charge.ended {
        // The whole answer was passed on, and what holds it open now counts for nothing (MTR-13).
        charge.stop(End::Eof, &mut discarded);
        return count_and_finish(charge).await;
    }
    if charge.waits.is_some() {
        // Who has left pays for no more of it.
        drop(body);
        charge.stop(End::ClientGone, &mut discarded);
        return count_and_finish(charge).await;
    }
    let reading = async {
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(chunk)) => match charge.feed(chunk, &mut discarded) {
                    Ok(()) => {}
                    Err(Stop::KeySeen) => return End::Reset,
                    Err(Stop::Exhausted | Stop::Unpaid) => return End::CutShort,
                    Err(Stop::Waits) => return End::ClientGone,
                },
                Ok(Err(frame)) => {
                    if charge.take_trailers(frame).is_err() {
                        return End::Reset;
                    }
                }
                Err(_) => return charge.broken_end(),
            }
            discarded.clear();
            // Nothing counts after the end mark (MTR-13), and an upstream may keep the connection open.
            if charge.meter.progress().terminal.is_some() {
                break;
            }
        }
        End::Eof
    };
    let end = tokio::time::timeout(drain, reading).await.unwrap_or(End::ClientGone);
    charge.stop(end, &mut discarded);
    // Nothing more is wanted of the upstream while tokens are counted.
    drop(body);
    count_and_finish(charge).await;
}

/// Charges a call whose answer nobody waits for any more.
async fn count_and_finish(mut charge: Box<Charge>) {
    let counted = match charge.begin_count() {
        Some(counting) => counting.await,
        None => Counted::NOTHING,
    };
    charge.finish(counted, &mut Vec::new());
}
