//! Contents of one file: what the page cache shows, what the device holds, and the
//! unsynced changes in between.

use bytes::Bytes;

use super::pages::Pages;
use crate::random::{SimRng, below, coin};

/// The unit that a device writes whole or not at all.
const SECTOR: u64 = 512;

#[derive(Clone)]
pub(super) enum Change {
    Write { offset: u64, bytes: Bytes },
    Zero { offset: u64, n: u64 },
    Extend { len: u64 },
    Cut { len: u64 },
}

impl Change {
    fn apply(&self, pages: &mut Pages) {
        match self {
            Change::Write { offset, bytes } => pages.write(*offset, bytes),
            Change::Zero { offset, n } => pages.zero(*offset, *n),
            Change::Extend { len } => pages.extend(*len),
            Change::Cut { len } => pages.set_len(*len),
        }
    }

    /// Applies some of its sectors.
    fn tear(&self, pages: &mut Pages, rng: &mut SimRng) {
        match self {
            Change::Write { offset, bytes } => {
                let mut done = 0;
                while done < bytes.len() {
                    let at = offset + done as u64;
                    let piece = ((SECTOR - at % SECTOR) as usize).min(bytes.len() - done);
                    if coin(rng) {
                        pages.write(at, &bytes[done..done + piece]);
                    }
                    done += piece;
                }
            }
            Change::Zero { offset, n } => {
                let end = (offset + below(rng, *n)) / SECTOR * SECTOR;
                pages.zero(*offset, end.saturating_sub(*offset));
            }
            Change::Extend { .. } | Change::Cut { .. } => self.apply(pages),
        }
    }
}

/// What a power cut leaves of an unsynced change.
#[derive(Clone, Copy)]
enum Fate {
    Lost,
    Whole,
    Torn,
}

#[derive(Default)]
pub(super) struct Inode {
    cache: Pages,
    durable: Pages,
    /// In order of their making, numbered from 1.
    dirty: Vec<(u64, Change)>,
    last: u64,
    /// Handles that are open.
    pub(super) open: u32,
}

impl Inode {
    pub(super) fn cache(&self) -> &Pages {
        &self.cache
    }

    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.cache);
        self.last += 1;
        self.dirty.push((self.last, change));
    }

    /// The newest change so far: what a sync that begins now covers.
    pub(super) fn mark(&self) -> u64 {
        self.last
    }

    /// Makes the changes up to `mark` durable.
    pub(super) fn commit(&mut self, mark: u64) {
        let end = self.dirty.partition_point(|(number, _)| *number <= mark);
        for (_, change) in self.dirty.drain(..end) {
            match &change {
                Change::Write { offset, bytes } => self.durable.write_like(&self.cache, *offset, bytes),
                other => other.apply(&mut self.durable),
            }
        }
    }

    /// A failed sync: the kernel calls the pages clean, though the device has only some.
    /// No later sync writes them; the page cache goes on showing them.
    pub(super) fn commit_fails(&mut self, mark: u64, rng: &mut SimRng) {
        let end = self.dirty.partition_point(|(number, _)| *number <= mark);
        for (_, change) in self.dirty.drain(..end) {
            if coin(rng) {
                change.tear(&mut self.durable, rng);
            }
        }
    }

    /// Drops clean pages, so that reads show what the device holds.
    pub(super) fn evict(&mut self) {
        self.cache = self.durable.clone();
        for (_, change) in &self.dirty {
            change.apply(&mut self.cache);
        }
    }

    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        self.cache.flip(offset, mask);
        self.durable.flip(offset, mask);
    }

    /// Of the unsynced changes some last whole, some in part, some not.
    pub(super) fn power_loss(&mut self, rng: &mut SimRng) {
        let count = self.dirty.len() as u64;
        // Independent fates seldom give the plain cases, so these are drawn by themselves.
        let (kind, until) = (below(rng, 4), below(rng, count + 1));
        for (i, (_, change)) in (0..).zip(std::mem::take(&mut self.dirty)) {
            let fate = match kind {
                0 => Fate::Lost,
                1 => Fate::Whole,
                2 if i < until => Fate::Whole,
                2 if i > until => Fate::Lost,
                2 => Fate::Torn,
                _ => [Fate::Lost, Fate::Whole, Fate::Torn][below(rng, 3) as usize],
            };
            match fate {
                Fate::Whole => change.apply(&mut self.durable),
                Fate::Torn => change.tear(&mut self.durable, rng),
                // Lengths go through the file system's journal, and what was written after a
                // cut lies in new blocks: it does not last without it.
                Fate::Lost if matches!(change, Change::Cut { .. }) => break,
                Fate::Lost => {}
            }
        }
        self.cache = self.durable.clone();
    }
}
