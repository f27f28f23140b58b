//! Clients that work without end, and can be stopped between two steps: what was told and what is written can
//! then be compared, with nothing on its way.

use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

/// Who may take the next step.
#[derive(Debug, Default)]
pub struct Turns {
    over: RwLock<bool>,
}

/// Nobody takes a step while this is there. Dropped in a panic, it ends all work.
#[derive(Debug)]
pub struct Pause<'t>(RwLockWriteGuard<'t, bool>);

impl Turns {
    /// Takes steps until the work is over.
    pub fn work(&self, mut step: impl FnMut()) {
        loop {
            let over = self.over.read().unwrap_or_else(PoisonError::into_inner);
            if *over {
                return;
            }
            step();
        }
    }

    /// Waits until every step that was begun has ended.
    pub fn pause(&self) -> Pause<'_> {
        Pause(self.over.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets everybody go home when what it returns is dropped, also when a test fails.
    pub fn home_at_the_end(&self) -> impl Drop + '_ {
        struct Home<'t>(&'t Turns);
        impl Drop for Home<'_> {
            fn drop(&mut self) {
                *self.0.pause().0 = true;
            }
        }
        Home(self)
    }
}
