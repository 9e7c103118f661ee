//! Contents of a file, sparse, in pages that two images of it share until one changes.

use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE: u64 = 4096;

/// The bytes of a file; missing pages are zeros.
#[derive(Clone, Default)]
pub(super) struct Pages {
    len: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE as usize]>>,
}

impl Pages {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Behind the last byte that is not zero.
    pub(super) fn written(&self) -> u64 {
        let last = |page: &[u8; PAGE as usize]| page.iter().rposition(|byte| *byte != 0);
        let end =
            |(number, page): (&u64, &Arc<[u8; PAGE as usize]>)| Some(number * PAGE + last(page)? as u64 + 1);
        self.pages.iter().rev().find_map(end).unwrap_or(0)
    }

    pub(super) fn read(&self, offset: u64, n: usize) -> Vec<u8> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut out = vec![0; n.min(left)];
        let mut done = 0;
        while done < out.len() {
            let (page, at) = place(offset + done as u64);
            let piece = (PAGE as usize - at).min(out.len() - done);
            if let Some(bytes) = self.pages.get(&page) {
                out[done..done + piece].copy_from_slice(&bytes[at..at + piece]);
            }
            done += piece;
        }
        out
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (page, at) = place(offset + done as u64);
            let piece = (PAGE as usize - at).min(bytes.len() - done);
            let new = &bytes[done..done + piece];
            if let Ok(whole) = <&[u8; PAGE as usize]>::try_from(new) {
                // What was there, and may be shared, is not copied first.
                self.pages.insert(page, Arc::new(*whole));
            } else {
                let target = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE as usize]));
                Arc::make_mut(target)[at..at + piece].copy_from_slice(new);
            }
            done += piece;
        }
        if !bytes.is_empty() {
            self.extend(offset + bytes.len() as u64);
        }
    }

    /// As [`Pages::write`], of bytes that `other` holds at the same place: whole pages are shared with it.
    pub(super) fn write_like(&mut self, other: &Pages, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let (first, behind) = (offset.div_ceil(PAGE), end / PAGE);
        if first >= behind {
            return self.write(offset, bytes);
        }
        let (from, to) = ((first * PAGE - offset) as usize, (behind * PAGE - offset) as usize);
        self.write(offset, &bytes[..from]);
        for page in first..behind {
            let at = (page * PAGE - offset) as usize;
            match other.pages.get(&page).filter(|held| held[..] == bytes[at..at + PAGE as usize]) {
                Some(held) => drop(self.pages.insert(page, held.clone())),
                // Written to again since.
                None => self.write(page * PAGE, &bytes[at..at + PAGE as usize]),
            }
        }
        self.write(behind * PAGE, &bytes[to..]);
        self.extend(end);
    }

    /// Zeroes `offset..offset + n` and extends the file to its end.
    pub(super) fn zero(&mut self, offset: u64, n: u64) {
        self.erase(offset, offset + n);
        if n > 0 {
            self.extend(offset + n);
        }
    }

    pub(super) fn extend(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            // What was cut off must not come back when the file grows again.
            self.erase(len, self.len);
        }
        self.len = len;
    }

    /// Flips the bits of `mask` in a byte inside the file.
    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        if offset < self.len {
            let (page, at) = place(offset);
            let target = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE as usize]));
            Arc::make_mut(target)[at] ^= mask;
        }
    }

    fn erase(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let touched: Vec<u64> =
            self.pages.range(from / PAGE..=(to - 1) / PAGE).map(|(page, _)| *page).collect();
        for page in touched {
            let start = from.max(page * PAGE) - page * PAGE;
            let end = to.min((page + 1) * PAGE) - page * PAGE;
            if end - start == PAGE {
                self.pages.remove(&page);
            } else if let Some(bytes) = self.pages.get_mut(&page) {
                Arc::make_mut(bytes)[start as usize..end as usize].fill(0);
            }
        }
    }
}

fn place(offset: u64) -> (u64, usize) {
    (offset / PAGE, (offset % PAGE) as usize)
}
