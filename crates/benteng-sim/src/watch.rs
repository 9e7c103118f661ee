//! What must hold at every moment of a run: no panic, no node that ends or refuses to start without a fault
//! that makes it, no fact that contradicts another, no removal of what lives (I8), and books that agree with
//! the disks (I1, O3).

use std::collections::BTreeSet;
use std::time::Duration;

use benteng_meta::ids::{Attempt, BlobId, ChunkId, PartNumber, StateSeq};
use benteng_meta::{RepairRow, key, query};
use benteng_objects::Node;

use crate::probes::Probes;
use crate::site::{Site, name};
use crate::witness::{Facts, Removed};
use crate::{Ending, SimHost};

/// Between two looks at the books.
const BOOKS: Duration = Duration::from_secs(1);

/// Watches a site.
pub(crate) struct Watch {
    probes: Probes,
    books: Duration,
    /// The newest state that any node was seen to have.
    newest: StateSeq,
    /// Nodes whose end is the script's business.
    pub(crate) expected: BTreeSet<u64>,
    /// Nodes whose copies the script takes away behind their backs: their books are wrong until they notice.
    pub(crate) robbed: BTreeSet<u64>,
    /// What was broken.
    pub(crate) violations: Vec<String>,
}

impl Watch {
    /// Hears what `probes` hear.
    pub(crate) fn new(probes: Probes) -> Watch {
        Watch {
            probes,
            books: Duration::ZERO,
            newest: StateSeq(0),
            expected: BTreeSet::new(),
            robbed: BTreeSet::new(),
            violations: Vec::new(),
        }
    }

    /// A look after a step, before anybody revives who has ended.
    pub(crate) fn look(&mut self, site: &Site, now: Duration) {
        for node in site.members() {
            let Some(host) = site.machine(node) else { continue };
            let panicked = host.tasks.panicked();
            if !panicked.is_empty() {
                self.violations.push(format!("{}: tasks panicked: {panicked:?}", name(node)));
            }
            if let Some(ending) = host.ending().filter(|_| !self.expected.contains(&node))
                && !is_excused(host, &ending)
            {
                self.violations.push(format!("{} ended, and no fault made it: {ending:?}", name(node)));
            }
        }
        let (removed, broken) = self.probes.facts(|facts| (facts.take_removed(), facts.take_broken()));
        self.violations.extend(broken);
        if !removed.is_empty() {
            self.hold_removals(site, &removed);
        }
        if now >= self.books {
            self.books = now + BOOKS;
            site.running().iter().for_each(|node| self.hold_books(site, node));
            // A state that is still being replayed names chunks that its store has removed long ago.
            let seen = site.running().into_iter().map(|node| node.group().applied()).max();
            self.newest = self.newest.max(seen.unwrap_or_default());
        }
    }

    /// No node removes a chunk that the newest state names (I8): a state that is older than the
    /// remover's cannot name what died, one that is newer neither.
    fn hold_removals(&mut self, site: &Site, removed: &[Removed]) {
        let views = site.running().into_iter().filter_map(|node| {
            let view = node.group().local().ok()?;
            Some((query::clock(&*view).ok()?.seq, view))
        });
        let Some((_, view)) = views.max_by_key(|(seq, _)| *seq) else { return };
        for (blob, attempt) in removed {
            let blob = BlobId(uuid::Uuid::from_u128(*blob));
            let part = PartNumber((attempt & 0xffff) as u16);
            let attempt = Attempt((attempt >> 16) as u64);
            if matches!(query::names_attempt(&*view, blob, part, attempt), Ok(true)) {
                let what = format!("attempt {:016x} of blob {blob}, part {}", attempt.0, part.0);
                self.violations.push(format!("I8: a node removed {what}, which a live row names"));
            }
        }
    }

    /// All removals of the run against the state at its end.
    pub(crate) fn hold_all_removals(&mut self, site: &Site) {
        let removed = self.probes.facts(|facts: &mut Facts| facts.removed());
        self.hold_removals(site, &removed);
    }

    /// What a node's own state says it holds is on its disks, or stands in the repair queue (I1, O3).
    fn hold_books(&mut self, site: &Site, node: &Node) {
        let damaged = |host: &std::sync::Arc<SimHost>| host.disk.flips() > 0 || host.kv.flips() > 0;
        let excused = self.robbed.contains(&node.me().0) || site.machine(node.me().0).is_none_or(damaged);
        if excused || node.group().applied() < self.newest {
            return;
        }
        let (Ok(missing), Ok(view)) = (node.missing(), node.group().local()) else { return };
        let uncounted = |chunk: &ChunkId| {
            let row = query::get::<RepairRow>(&*view, &key::repair(*chunk));
            // Died in the meantime, or stands in the queue.
            let named = query::names_attempt(&*view, chunk.blob, chunk.part, chunk.attempt);
            matches!(&row, Ok(row) if row.as_ref().is_none_or(|row| !row.missing.contains(&node.me())))
                && matches!(named, Ok(true))
        };
        let uncounted: Vec<ChunkId> = missing.into_iter().filter(uncounted).collect();
        if let Some(first) = uncounted.first() {
            self.violations.push(format!(
                "I1: {} lacks {} chunks that rows name in its groups, and nobody counts them: {first}",
                name(node.me().0),
                uncounted.len()
            ));
        }
    }
}

/// Whether a fault accounts for the end of this boot.
fn is_excused(host: &SimHost, ending: &Ending) -> bool {
    let failed = host.disk.failures() > 0 || host.kv.failures() > 0;
    let damaged = host.disk.flips() > 0 || host.kv.flips() > 0;
    match ending {
        Ending::Panicked | Ending::Returned(Ok(())) => false,
        Ending::Returned(Err(_)) => failed || damaged || host.disk.is_limited(),
        Ending::Stopped(why) => {
            (why.contains("J6") && failed)
                || (why.contains("S6") && (damaged || host.kv.failures() > 0))
                || why.contains("disk operation")
        }
    }
}
