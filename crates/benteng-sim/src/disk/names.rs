//! Directories and names, as processes see them and as the device holds them.
//!
//! Changes of names wait in order until a directory that they touch is synced. Each is
//! atomic, a rename too, and none lasts without an earlier one of the same name: that is
//! what journaling file systems give. Which of the others last over a power cut is open.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::InodeId;
use crate::random::{SimRng, coin};

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(InodeId),
}

/// One atomic change: each name and what stands there after it.
type Change = Vec<(PathBuf, Option<Node>)>;

#[derive(Default)]
pub(super) struct Names {
    now: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        // The root, and the working directory, are always there.
        if path.parent().is_none() {
            return Some(Node::Dir);
        }
        self.now.get(path).copied()
    }

    pub(super) fn change(&mut self, change: Change) {
        set(&mut self.now, &change);
        self.pending.push(change);
    }

    /// Makes a directory and what it needs durable at once.
    pub(super) fn add_durable_dir(&mut self, path: &Path) {
        self.change(vec![(path.to_owned(), Some(Node::Dir))]);
        self.sync(path.parent().unwrap_or(Path::new("")));
    }

    /// Names directly below `dir`, in order of their bytes.
    pub(super) fn list(&self, dir: &Path) -> Vec<String> {
        let below = self.now.range(dir.to_owned()..).take_while(|(path, _)| path.starts_with(dir));
        let direct = below.filter(|(path, _)| path.parent() == Some(dir));
        let mut names: Vec<String> =
            direct.filter_map(|(path, _)| Some(path.file_name()?.to_str()?.to_owned())).collect();
        names.sort_unstable();
        names
    }

    /// All files, with their paths.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, InodeId)> {
        self.now.iter().filter_map(|(path, node)| match node {
            Node::File(inode) => Some((path.as_path(), *inode)),
            Node::Dir => None,
        })
    }

    /// Files that a power cut may leave under some name.
    pub(super) fn reachable(&self) -> BTreeSet<InodeId> {
        let pending = self.pending.iter().flatten().filter_map(|(_, node)| *node);
        let nodes = self.now.values().chain(self.durable.values()).copied().chain(pending);
        nodes.filter_map(|node| if let Node::File(inode) = node { Some(inode) } else { None }).collect()
    }

    /// Makes the names in `dir` durable, and what they rest on.
    pub(super) fn sync(&mut self, dir: &Path) {
        let mut names: BTreeSet<PathBuf> = BTreeSet::new();
        let mut lasting = vec![false; self.pending.len()];
        // Backwards, since a change needs earlier ones of its names.
        for (change, lasts) in self.pending.iter().zip(&mut lasting).rev() {
            if change.iter().any(|(path, _)| path.parent() == Some(dir) || names.contains(path)) {
                *lasts = true;
                names.extend(change.iter().map(|(path, _)| path.clone()));
            }
        }
        let mut lasting = lasting.into_iter();
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let lasts = lasting.next() == Some(true);
            if lasts {
                set(durable, change);
            }
            !lasts
        });
    }

    /// Of the unsynced changes some last; the rest never was.
    pub(super) fn power_loss(&mut self, rng: &mut SimRng) {
        let mut lost: BTreeSet<PathBuf> = BTreeSet::new();
        let (all, none) = (coin(rng) && coin(rng), coin(rng) && coin(rng));
        for change in std::mem::take(&mut self.pending) {
            let lasts = all || (!none && coin(rng));
            // One whose names stand on a lost change, or whose directory is lost, is lost too.
            let stands = |(path, _): &(PathBuf, _)| !path.ancestors().any(|path| lost.contains(path));
            if lasts && change.iter().all(stands) {
                set(&mut self.durable, &change);
            } else {
                lost.extend(change.into_iter().map(|(path, _)| path));
            }
        }
        self.now = self.durable.clone();
    }
}

fn set(names: &mut BTreeMap<PathBuf, Node>, change: &Change) {
    for (path, node) in change {
        match node {
            Some(node) => drop(names.insert(path.clone(), *node)),
            None => drop(names.remove(path)),
        }
    }
}
