//! Nodes that come and go by an operator's hand while faults strike: a small site grows to three, or a fourth node
//! joins, another one is drained, and removed when it holds nothing any more.

use std::time::Duration;

use benteng_meta::ids::NodeId;
use benteng_meta::{Command, NodeState, query};
use rand::RngExt;
use turmoil::Sim;

use crate::SimRng;
use crate::jobs::{Jobs, Ticket};
use crate::plan::Plan;
use crate::probes::Probes;
use crate::site::{Site, name};

/// Seats of a site that does not grow any more.
const SEATS: usize = 3;
/// Between two nodes that join a small site.
const GROWTH: Duration = Duration::from_secs(5);
/// Between two looks, and two tries.
const LOOK: Duration = Duration::from_millis(500);

/// What came of a proposal.
type Told = Ticket<Result<(), String>>;

enum Drain {
    /// None, or it is over.
    None,
    Due(Duration),
    /// A fourth node joins.
    Joining(u64),
    /// The site is asked to drain this one.
    Asking(u64, Told),
    /// It hands over what it holds.
    Draining(u64),
    /// The site is asked to remove it.
    Removing(u64, Told),
}

/// The operator of one run.
pub(super) struct Members {
    jobs: Jobs,
    grow: Option<Duration>,
    drain: Drain,
    look: Duration,
}

/// What the nemesis must know of it.
#[derive(Default)]
pub(super) struct Changed {
    /// This machine is to boot.
    pub(super) joins: Option<u64>,
    /// This node is no member any more.
    pub(super) left: Option<u64>,
}

impl Members {
    pub(super) fn new(jobs: Jobs) -> Members {
        Members { jobs, grow: None, drain: Drain::None, look: Duration::ZERO }
    }

    /// Work begins now.
    pub(super) fn begin(&mut self, now: Duration, plan: &Plan) {
        self.grow = (plan.founders < SEATS as u64).then(|| now + plan.grow_after);
        self.drain = plan.drain_after.map_or(Drain::None, |after| Drain::Due(now + after));
    }

    /// Whether the site is not yet as it is to be in the end.
    pub(super) fn is_busy(&self, site: &Site) -> bool {
        (self.grow.is_some() && site.members().len() < SEATS) || !matches!(self.drain, Drain::None)
    }

    /// One turn. `calm`: no machine is without power.
    pub(super) fn turn(
        &mut self,
        sim: &mut Sim<'_>,
        site: &Site,
        now: Duration,
        calm: bool,
        (rng, probes): (&mut SimRng, &Probes),
    ) -> Changed {
        let mut changed = Changed::default();
        if now < self.look || (self.grow.is_none() && matches!(self.drain, Drain::None)) {
            return changed;
        }
        self.look = now + LOOK;
        if self.grow.is_some_and(|at| at <= now) && calm && site.formed() {
            changed.joins = if site.members().len() < SEATS { site.join() } else { None };
            self.grow = changed.joins.map(|_| now + GROWTH);
        }
        self.drain = match std::mem::replace(&mut self.drain, Drain::None) {
            Drain::Due(at) if at <= now && calm && site.formed() => {
                changed.joins = site.join();
                changed.joins.map_or(Drain::None, Drain::Joining)
            }
            Drain::Joining(fresh) if site.node(fresh).is_some() => {
                let others: Vec<u64> = site.members().into_iter().filter(|node| *node != fresh).collect();
                let drained = others[rng.random_range(0..others.len())];
                self.ask_to_drain(site, drained, rng)
            }
            Drain::Asking(drained, told) => match told.take() {
                Some(Ok(())) => {
                    probes.note(&format!("{} is being drained", name(drained)));
                    Drain::Draining(drained)
                }
                Some(Err(_)) => self.ask_to_drain(site, drained, rng),
                None => Drain::Asking(drained, told),
            },
            Drain::Draining(drained) if is_drained(site, drained) => self.ask_to_remove(site, drained, rng),
            Drain::Removing(drained, told) => match told.take() {
                Some(Ok(())) => {
                    probes.note(&format!("{} is removed", name(drained)));
                    site.leave(sim, drained);
                    changed.left = Some(drained);
                    Drain::None
                }
                // Refused, or unknown: it is looked at again.
                Some(Err(_)) => Drain::Draining(drained),
                None => Drain::Removing(drained, told),
            },
            same => same,
        };
        changed
    }

    fn ask_to_drain(&self, site: &Site, drained: u64, rng: &mut SimRng) -> Drain {
        let command = Command::SetNodeState { node: NodeId(drained), state: NodeState::Draining };
        Drain::Asking(drained, self.propose(site, command, drained, rng))
    }

    fn ask_to_remove(&self, site: &Site, drained: u64, rng: &mut SimRng) -> Drain {
        let command = Command::RemoveNode { node: NodeId(drained), lost: false, accept_one_voter: false };
        Drain::Removing(drained, self.propose(site, command, drained, rng))
    }

    /// Proposes through any running node but `drained`.
    fn propose(&self, site: &Site, command: Command, drained: u64, rng: &mut SimRng) -> Told {
        let running = site.running();
        let others: Vec<_> = running.into_iter().filter(|node| node.me() != NodeId(drained)).collect();
        let by =
            if others.is_empty() { None } else { Some(others[rng.random_range(0..others.len())].clone()) };
        self.jobs.begin(async move {
            let Some(by) = by else { return Err("no node runs".to_owned()) };
            by.group().propose(command, None).await.map(drop).map_err(|e| e.to_string())
        })
    }
}

/// Whether another node says that `drained` holds no group and has no vote.
fn is_drained(site: &Site, drained: u64) -> bool {
    let drained = NodeId(drained);
    site.running().iter().filter(|node| node.me() != drained).any(|node| {
        let Ok(view) = node.group().local() else { return false };
        let Ok(rows) = query::placements(&*view) else { return false };
        let holds = rows.iter().any(|(_, row)| row.writable().contains(&drained));
        !holds && !node.group().status().voters.contains(&drained)
    })
}
