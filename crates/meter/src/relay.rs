//! What of a stream the client gets: every byte, but for the one chunk that we asked for and the
//! client did not (MTR-4, MTR-21, MTR-22).

use bytes::Bytes;

/// A usage-only chunk is well below this. An event that grows beyond it is passed on as it comes.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// Holds back the event being read, and nothing else, until it is known not to be that chunk.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    held: Vec<Bytes>,
    held_bytes: usize,
    /// Within the current chunk: where what is neither passed on nor dropped begins ...
    from: usize,
    /// ... and up to where it may go.
    safe: usize,
    /// Whether the current event is too large to be held.
    passing: bool,
    dropped_last: bool,
}

impl Relay {
    #[cfg(test)]
    pub(crate) const fn held_bytes(&self) -> usize {
        self.held_bytes + self.held.capacity() * size_of::<Bytes>()
    }

    /// A new chunk has come.
    pub(crate) const fn begin_chunk(&mut self) {
        self.from = 0;
        self.safe = 0;
    }

    /// Everything before `at` may go.
    pub(crate) fn release(&mut self, at: usize, out: &mut Vec<Bytes>) {
        self.flush(out);
        self.safe = at;
        self.dropped_last = false;
    }

    /// An event ended at `at`.
    pub(crate) fn event_end(&mut self, chunk: &Bytes, at: usize, hide: bool, out: &mut Vec<Bytes>) {
        let event_bytes = self.held_bytes + at.saturating_sub(self.safe);
        if hide && !self.passing && event_bytes <= HELD_BYTES_MAX {
            self.drop_held();
            push(chunk, self.from, self.safe, out);
            self.from = at;
            self.safe = at;
            self.dropped_last = true;
        } else {
            self.release(at, out);
        }
        self.passing = false;
    }

    /// The LF of a CR LF came after its CR had ended an event: it goes the way of that event.
    pub(crate) fn line_feed(&mut self, chunk: &Bytes, at: usize, out: &mut Vec<Bytes>) {
        if self.dropped_last {
            push(chunk, self.from, self.safe, out);
            self.from = at;
            self.safe = at;
        } else {
            self.release(at, out);
        }
    }

    /// The chunk has been read: what may go goes, what is left is held.
    pub(crate) fn end_chunk(&mut self, chunk: &Bytes, out: &mut Vec<Bytes>) {
        if self.passing {
            self.safe = chunk.len();
        }
        push(chunk, self.from, self.safe, out);
        if self.safe < chunk.len() {
            self.held_bytes += chunk.len() - self.safe;
            self.held.push(chunk.slice(self.safe..));
        }
        if self.held_bytes > HELD_BYTES_MAX {
            self.passing = true;
            self.flush(out);
        }
    }

    /// Forgets the event that is open, if the client has nothing of it yet.
    pub(crate) fn forget_open_event(&mut self) -> bool {
        if !self.passing {
            self.drop_held();
        }
        !self.passing
    }

    /// Whether the client has nothing of the event that is open.
    pub(crate) const fn holds_open_event(&self) -> bool {
        !self.passing
    }

    /// Passes on what is held: the stream ended in the middle of an event.
    pub(crate) fn flush(&mut self, out: &mut Vec<Bytes>) {
        out.append(&mut self.held);
        self.held_bytes = 0;
    }

    /// Forgets what is held.
    pub(crate) fn drop_held(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
    }
}

fn push(chunk: &Bytes, from: usize, to: usize, out: &mut Vec<Bytes>) {
    if from < to {
        out.push(chunk.slice(from..to));
    }
}
