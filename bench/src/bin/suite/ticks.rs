//! A clock that ticks at the microsecond, where the runtime's own knows milliseconds.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Ticks since it was made, none of them lost.
pub(crate) struct Ticks(AsyncFd<OwnedFd>);

impl Ticks {
    /// The first tick comes after one period.
    pub(crate) fn every(period: Duration) -> Result<Self, String> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC);
        let timer = timer.map_err(|error| error.to_string())?;
        let period = Timespec {
            tv_sec: i64::try_from(period.as_secs()).map_err(|error| error.to_string())?,
            tv_nsec: i64::from(period.subsec_nanos()),
        };
        let times = Itimerspec { it_interval: period, it_value: period };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times).map_err(|error| error.to_string())?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for descriptors that nobody owns: this one is owned"
        )]
        AsyncFd::with_interest(timer, Interest::READABLE).map(Self).map_err(|error| error.to_string())
    }

    /// How many there were since the last look; waits for one.
    pub(crate) async fn next(&self) -> Result<u64, String> {
        let read = |timer: &OwnedFd| {
            let mut count = [0; 8];
            rustix::io::read(timer, &mut count).map_err(std::io::Error::from)?;
            Ok(u64::from_ne_bytes(count))
        };
        loop {
            match self.0.async_io(Interest::READABLE, read).await {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
