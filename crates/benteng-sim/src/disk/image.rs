//! All files and names of a disk, with the errors of Linux.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use benteng_host::{Open, Space};
use bytes::Bytes;

use super::inode::{Change, Inode};
use super::names::{Names, Node};
use super::{Errno, InodeId};
use crate::random::SimRng;

/// What an unlimited disk says of itself.
const UNLIMITED: u64 = 1 << 40;

#[derive(Default)]
pub(super) struct Image {
    inodes: BTreeMap<InodeId, Inode>,
    names: Names,
    next: u64,
    capacity: Option<u64>,
}

impl Image {
    pub(super) fn open(&mut self, path: &Path, how: Open) -> io::Result<InodeId> {
        self.parent(path)?;
        let inode = match (self.names.get(path), how) {
            (Some(Node::File(_)), Open::CreateNew) => return Err(Errno::EEXIST.into()),
            (Some(Node::Dir), Open::CreateNew) => return Err(Errno::EEXIST.into()),
            (Some(Node::Dir), _) => return Err(Errno::EISDIR.into()),
            (None, Open::Read | Open::Write) => return Err(Errno::ENOENT.into()),
            (Some(Node::File(inode)), _) => inode,
            (None, Open::CreateNew) => {
                self.next += 1;
                let inode = InodeId(self.next);
                self.inodes.insert(inode, Inode::default());
                self.names.change(vec![(path.to_owned(), Some(Node::File(inode)))]);
                inode
            }
        };
        self.inode(inode)?.open += 1;
        Ok(inode)
    }

    /// A handle is gone; a file without name or handle goes with it.
    pub(super) fn close(&mut self, inode: InodeId) {
        if let Some(found) = self.inodes.get_mut(&inode) {
            found.open = found.open.saturating_sub(1);
            if found.open == 0 {
                self.collect();
            }
        }
    }

    pub(super) fn close_all(&mut self) {
        self.inodes.values_mut().for_each(|inode| inode.open = 0);
        self.collect();
    }

    fn collect(&mut self) {
        let named = self.names.reachable();
        self.inodes.retain(|id, inode| inode.open > 0 || named.contains(id));
    }

    pub(super) fn make_dirs(&mut self, path: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = Vec::new();
        for dir in path.ancestors() {
            match self.names.get(dir) {
                Some(Node::Dir) => break,
                Some(Node::File(_)) => return Err(Errno::ENOTDIR.into()),
                None => missing.push(dir),
            }
        }
        missing.into_iter().rev().for_each(|dir| self.names.add_durable_dir(dir));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.names.change(vec![(path.to_owned(), None)]);
        self.collect();
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.file(from)?;
        self.parent(to)?;
        match self.names.get(to) {
            Some(Node::Dir) => return Err(Errno::EISDIR.into()),
            Some(Node::File(there)) if there == inode => return Ok(()),
            _ => {}
        }
        self.names.change(vec![(from.to_owned(), None), (to.to_owned(), Some(Node::File(inode)))]);
        self.collect();
        Ok(())
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.dir(dir)?;
        Ok(self.names.list(dir))
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.dir(dir)?;
        self.names.sync(dir);
        Ok(())
    }

    fn dir(&self, path: &Path) -> io::Result<()> {
        match self.names.get(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(Errno::ENOTDIR.into()),
            None => Err(Errno::ENOENT.into()),
        }
    }

    fn parent(&self, path: &Path) -> io::Result<()> {
        self.dir(path.parent().unwrap_or(Path::new("")))
    }

    fn file(&self, path: &Path) -> io::Result<InodeId> {
        self.parent(path)?;
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Dir) => Err(Errno::EISDIR.into()),
            None => Err(Errno::ENOENT.into()),
        }
    }

    pub(super) fn inode(&mut self, inode: InodeId) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| Errno::ESTALE.into())
    }

    /// Files that exist, under a name or not.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.inodes.len()
    }

    /// Bytes that may still be added; files without a name count while they are open.
    fn free(&self) -> u64 {
        let Some(capacity) = self.capacity else { return u64::MAX };
        let named: BTreeSet<InodeId> = self.names.files().map(|(_, inode)| inode).collect();
        let counts = |(id, inode): &(&InodeId, &Inode)| inode.open > 0 || named.contains(id);
        let used: u64 = self.inodes.iter().filter(counts).map(|(_, inode)| inode.cache().len()).sum();
        capacity.saturating_sub(used)
    }

    pub(super) fn space(&self, path: &Path) -> io::Result<Space> {
        if self.names.get(path).is_none() {
            return Err(Errno::ENOENT.into());
        }
        Ok(Space { total: self.capacity.unwrap_or(UNLIMITED), free: self.free().min(UNLIMITED) })
    }

    pub(super) fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes;
    }

    /// How far a file may reach that is to reach `end`: ENOSPC beyond.
    fn limit(&mut self, inode: InodeId, end: u64) -> io::Result<u64> {
        let len = self.inode(inode)?.cache().len();
        Ok(if end <= len { end } else { end.min(len.saturating_add(self.free())) })
    }

    /// Writes `parts`, or only their first `most` bytes.
    pub(super) fn write(
        &mut self,
        inode: InodeId,
        offset: u64,
        parts: &[Bytes],
        most: u64,
    ) -> io::Result<()> {
        let n = parts.iter().map(|part| part.len() as u64).sum();
        let end = end(offset, n)?;
        let limit = self.limit(inode, end)?;
        let mut room = limit.saturating_sub(offset).min(most);
        let mut at = offset;
        let file = self.inode(inode)?;
        for part in parts {
            let piece = part.slice(..part.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            let n = piece.len() as u64;
            if n > 0 {
                file.change(Change::Write { offset: at, bytes: piece });
            }
            at += n;
            room -= n;
        }
        if limit < end { Err(Errno::ENOSPC.into()) } else { Ok(()) }
    }

    pub(super) fn zero(&mut self, inode: InodeId, offset: u64, n: u64) -> io::Result<()> {
        let end = end(offset, n)?;
        let limit = self.limit(inode, end)?;
        if limit > offset {
            self.inode(inode)?.change(Change::Zero { offset, n: limit - offset });
        }
        if limit < end { Err(Errno::ENOSPC.into()) } else { Ok(()) }
    }

    pub(super) fn allocate(&mut self, inode: InodeId, offset: u64, n: u64) -> io::Result<()> {
        let end = end(offset, n)?;
        if self.limit(inode, end)? < end {
            return Err(Errno::ENOSPC.into());
        }
        if n > 0 {
            self.inode(inode)?.change(Change::Extend { len: end });
        }
        Ok(())
    }

    pub(super) fn set_len(&mut self, inode: InodeId, n: u64) -> io::Result<()> {
        let end = end(n, 0)?;
        if self.limit(inode, end)? < end {
            return Err(Errno::ENOSPC.into());
        }
        self.inode(inode)?.change(Change::Cut { len: n });
        Ok(())
    }

    /// All files with their lengths.
    pub(super) fn sizes(&self) -> impl Iterator<Item = (PathBuf, u64)> {
        let len = |inode| self.inodes.get(&inode).map_or(0, |inode: &Inode| inode.cache().len());
        self.names.files().map(move |(path, inode)| (path.to_owned(), len(inode)))
    }

    pub(super) fn is_limited(&self) -> bool {
        self.capacity.is_some()
    }

    /// All files with the end of the last byte that is not zero, to a page.
    pub(super) fn ends(&self) -> impl Iterator<Item = (PathBuf, u64)> {
        let end = |inode| self.inodes.get(&inode).map_or(0, |inode: &Inode| inode.cache().written());
        self.names.files().map(move |(path, inode)| (path.to_owned(), end(inode)))
    }

    pub(super) fn flip(&mut self, path: &Path, offset: u64, mask: u8) -> bool {
        let Ok(inode) = self.file(path).and_then(|inode| self.inode(inode)) else { return false };
        inode.flip(offset, mask);
        offset < inode.cache().len()
    }

    pub(super) fn evict(&mut self) {
        self.inodes.values_mut().for_each(Inode::evict);
    }

    pub(super) fn power_loss(&mut self, rng: &mut SimRng) {
        self.names.power_loss(rng);
        self.inodes.values_mut().for_each(|inode| inode.power_loss(rng));
        self.collect();
    }
}

/// `offset + n`, where a file can reach.
fn end(offset: u64, n: u64) -> io::Result<u64> {
    let end = offset.checked_add(n).filter(|end| i64::try_from(*end).is_ok());
    end.ok_or_else(|| Errno::EFBIG.into())
}
