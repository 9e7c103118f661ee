//! The disk of the test machine: inodes with a volatile and a durable image.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use benteng_host::{Disk, File, Fut, Open, Result, Space};
use bytes::Bytes;

use super::{Inode, NameChange, SECTOR, State, World};

impl Inode {
    pub(super) fn keep(&mut self, sector: usize) {
        let (from, to) = (sector * SECTOR, ((sector + 1) * SECTOR).min(self.now.len()));
        if from >= to {
            return;
        }
        if self.durable.len() < to {
            self.durable.resize(to, 0);
        }
        self.durable[from..to].copy_from_slice(&self.now[from..to]);
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[at..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty.extend(at / SECTOR..=(end - 1) / SECTOR);
        }
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for World {
    fn open(&self, path: &Path, how: Open) -> Fut<Result<Arc<dyn File>>> {
        let (world, target) = (self.clone(), path.to_owned());
        self.io("open", path, move |state| {
            let id = match (how, state.names.get(&target).copied()) {
                (Open::CreateNew, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
                (Open::CreateNew, None) => {
                    state.next += 1;
                    let id = state.next;
                    state.inodes.insert(id, Inode::default());
                    state.change(NameChange::Link(target.clone(), id));
                    id
                }
                (_, id) => id.ok_or_else(missing)?,
            };
            let file: Arc<dyn File> = Arc::new(OpenFile { world, id, path: target });
            Ok(file)
        })
    }

    fn create_dir_all(&self, path: &Path) -> Fut<Result<()>> {
        self.io("create", path, |_| Ok(()))
    }

    fn remove(&self, path: &Path) -> Fut<Result<()>> {
        let target = path.to_owned();
        self.io("remove", path, move |state| {
            if !state.names.contains_key(&target) {
                state.removed_in_vain.push(target);
                return Err(missing());
            }
            state.change(NameChange::Unlink(target));
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Fut<Result<()>> {
        let (source, target) = (from.to_owned(), to.to_owned());
        self.io("rename", from, move |state| {
            state.names.get(&source).ok_or_else(missing)?;
            state.change(NameChange::Move(source, target));
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> Fut<Result<Vec<String>>> {
        let target = dir.to_owned();
        self.io("list", dir, move |state| {
            let inside = state.names.keys().filter(|path| path.parent() == Some(&target));
            let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
            Ok(inside.filter_map(name).collect())
        })
    }

    fn sync_dir(&self, dir: &Path) -> Fut<Result<()>> {
        self.io("fsync", dir, |state| {
            state.durable_names = state.names.clone();
            state.changes.clear();
            Ok(())
        })
    }

    fn space(&self, path: &Path) -> Fut<Result<Space>> {
        self.io("statfs", path, |state| {
            let total = state.capacity.unwrap_or(1 << 40);
            Ok(Space { total, free: total.saturating_sub(state.used()) })
        })
    }
}

struct OpenFile {
    world: World,
    id: u64,
    path: PathBuf,
}

impl OpenFile {
    fn io<T: Send + 'static>(
        &self,
        what: &'static str,
        run: impl FnOnce(&mut State, u64) -> io::Result<T> + Send + 'static,
    ) -> Fut<Result<T>> {
        let id = self.id;
        self.world.io(what, &self.path, move |state| {
            state.inodes.entry(id).or_default();
            run(state, id)
        })
    }

    fn grow(state: &mut State, id: u64, to: u64) -> io::Result<()> {
        let len = state.inodes[&id].now.len() as u64;
        state.room_for(to.saturating_sub(len))
    }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("test files are small")
}

impl File for OpenFile {
    fn len(&self) -> Fut<Result<u64>> {
        self.io("stat", |state, id| Ok(state.inodes[&id].now.len() as u64))
    }

    fn read_at(&self, offset: u64, n: usize) -> Fut<Result<Bytes>> {
        self.io("read", move |state, id| {
            let bytes = &state.inodes[&id].now;
            let from = at(offset).min(bytes.len());
            Ok(Bytes::copy_from_slice(&bytes[from..from.saturating_add(n).min(bytes.len())]))
        })
    }

    fn write_at(&self, offset: u64, parts: Vec<Bytes>) -> Fut<Result<()>> {
        self.io("write", move |state, id| {
            let n: u64 = parts.iter().map(|part| part.len() as u64).sum();
            OpenFile::grow(state, id, offset + n)?;
            let failing = match &mut state.fail_write_after {
                Some(left) => {
                    *left -= 1;
                    *left == 0
                }
                None => false,
            };
            if failing {
                state.fail_write_after = None;
                return Err(io::Error::from_raw_os_error(5));
            }
            let inode = state.inodes.get_mut(&id).expect("made by io");
            let mut to = at(offset);
            for part in &parts {
                inode.write(to, part);
                to += part.len();
            }
            Ok(())
        })
    }

    fn zero(&self, offset: u64, n: u64) -> Fut<Result<()>> {
        self.io("zero", move |state, id| {
            OpenFile::grow(state, id, offset + n)?;
            state.inodes.get_mut(&id).expect("made by io").write(at(offset), &vec![0; at(n)]);
            Ok(())
        })
    }

    fn allocate(&self, offset: u64, n: u64) -> Fut<Result<()>> {
        self.zero(offset, n)
    }

    fn set_len(&self, n: u64) -> Fut<Result<()>> {
        self.io("truncate", move |state, id| {
            let inode = state.inodes.get_mut(&id).expect("made by io");
            inode.now.resize(at(n), 0);
            inode.durable.resize(at(n), 0);
            Ok(())
        })
    }

    fn sync_data(&self) -> Fut<Result<()>> {
        self.io("fsync", move |state, id| {
            let failing = match &mut state.fail_sync_after {
                Some(left) => {
                    *left -= 1;
                    *left == 0
                }
                None => false,
            };
            let inode = state.inodes.get_mut(&id).expect("made by io");
            if failing {
                // As Linux does: the pages are clean now, and the disk has not got them.
                inode.dirty.clear();
                state.fail_sync_after = None;
                return Err(io::Error::from_raw_os_error(5));
            }
            for sector in std::mem::take(&mut inode.dirty) {
                inode.keep(sector);
            }
            Ok(())
        })
    }
}
