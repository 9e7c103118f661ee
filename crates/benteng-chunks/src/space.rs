//! The reserve of the device (O6): chunks stop at 5 % free and resume at 6 %, so that
//! journal, state and cleaning always find room, and the store does not flap.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use benteng_host::{Host, Mono, Space, probe};

use crate::error::Error;

/// A look at the device serves appends for so long, or for so many bytes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOK_EVERY_BYTES: u64 = 64 << 20;

pub(crate) struct Reserve {
    host: Host,
    dir: PathBuf,
    /// Of 1000.
    stop: u64,
    resume: u64,
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    at: Option<Mono>,
    free: u64,
    total: u64,
    appended: u64,
    full: bool,
}

impl Reserve {
    pub(crate) fn new(host: Host, dir: PathBuf, stop: u64, resume: u64) -> Reserve {
        Reserve { host, dir, stop, resume: resume.max(stop), seen: Mutex::default() }
    }

    fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the device now; returns what is free.
    pub(crate) async fn look(&self) -> Result<Space, Error> {
        let space = self.host.disk.space(&self.dir).await?;
        let now = self.host.clock.now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let share = (u128::from(space.free) * 1000).checked_div(u128::from(space.total)).unwrap_or(0);
        let bound = if seen.full { self.resume } else { self.stop };
        let full = share < u128::from(bound);
        if full != seen.full {
            probe(if full { "chunk_store_stops_at_reserve" } else { "chunk_store_resumes" });
        }
        *seen = Seen { at: Some(now), free: space.free, total: space.total, appended: 0, full };
        Ok(space)
    }

    /// Refuses `bytes` more if the device is under its reserve.
    pub(crate) async fn admit(&self, bytes: u64) -> Result<(), Error> {
        let seen = self.seen();
        let fresh = seen.at.is_some_and(|at| self.host.clock.now().since(at) < LOOK_EVERY);
        if !fresh || seen.appended + bytes > LOOK_EVERY_BYTES {
            self.look().await?;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.full {
            return Err(Error::Full { free: seen.free, total: seen.total });
        }
        seen.appended += bytes;
        Ok(())
    }

    /// Free and total bytes as last seen, and whether chunks are refused.
    pub(crate) fn last(&self) -> (u64, u64, bool) {
        let seen = self.seen();
        (seen.free, seen.total, seen.full)
    }
}
