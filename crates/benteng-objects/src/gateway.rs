//! The life of this gateway process: a committed incarnation that every chunk carries (O1).
//! A superseded one never completes a write (I9).

use std::sync::{Mutex, PoisonError};

use benteng_consensus::Group;
use benteng_host::probe;
use benteng_meta::ids::*;
use benteng_meta::{Answer, Command, FloorRow, GatewayRow, key, query};

use crate::floors::Floors;
use crate::{Error, Result};

#[derive(Clone, Copy)]
enum Life {
    /// Not committed yet.
    Unborn,
    /// Committed.
    Alive(Origin),
    /// A newer process runs as this node: this one may not write or read chunks any more.
    Superseded,
}

/// The incarnation of this process.
pub(crate) struct Gateway {
    me: NodeId,
    life: Mutex<Life>,
}

impl Gateway {
    /// Of a process that has not begun yet.
    pub(crate) fn new(me: NodeId) -> Gateway {
        Gateway { me, life: Mutex::new(Life::Unborn) }
    }

    fn life(&self) -> Life {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, life: Life) {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = life;
    }

    /// What chunks and reads of now carry.
    ///
    /// Errors: `Unavailable` before the incarnation is committed and after it is superseded.
    pub(crate) fn origin(&self) -> Result<Origin> {
        match self.life() {
            Life::Alive(origin) => Ok(origin),
            Life::Unborn => Err(Error::Unavailable { why: format!("node {} is starting", self.me) }),
            Life::Superseded => {
                let why = format!("node {} was started again elsewhere; stop this process", self.me);
                Err(Error::Unavailable { why })
            }
        }
    }

    /// Who is superseded must not go on voting either: two processes that are one member of the group may
    /// vote twice in a term. Says why this one ends.
    pub(crate) fn superseded(&self) -> Option<String> {
        matches!(self.life(), Life::Superseded).then(|| {
            format!(
                "another process was started as node {}, this one ends (I9); if its disks were copied, keep one copy \
                 and wipe the other: a node runs once",
                self.me
            )
        })
    }

    /// Begins the life, or a new one when the floor of the old one was voided, and notices when
    /// another process runs as this node. Called again and again by the node's loop.
    ///
    /// Returns whether the gateway lives. Errors: what proposing gives; nothing has changed.
    pub(crate) async fn tend(&self, group: &Group, floors: &Floors) -> Result<bool> {
        match self.life() {
            Life::Superseded => Ok(false),
            Life::Unborn => self.begin(group, floors).await.map(|()| true),
            Life::Alive(origin) => {
                let view = group.local()?;
                let row: Option<GatewayRow> = query::get(&*view, &key::gateway(self.me))?;
                if row.is_some_and(|row| row.incarnation > origin.incarnation) {
                    probe("gateway_superseded");
                    tracing::error!(
                        node = self.me.0,
                        incarnation = origin.incarnation.0,
                        "another process runs as this node; this one writes no more, stop it"
                    );
                    self.set(Life::Superseded);
                    return Ok(false);
                }
                let floor: Option<FloorRow> = query::get(&*view, &key::floor(self.me))?;
                if floor.is_some_and(|row| row.void && row.incarnation == origin.incarnation) {
                    // Stores refuse this life's reads: what it reads may be gone (O5).
                    probe("gateway_voided");
                    tracing::warn!(node = self.me.0, "the read floor was voided; a new incarnation begins");
                    // Should the outcome stay unknown, a newer row is our own and no other process's.
                    self.set(Life::Unborn);
                    self.begin(group, floors).await?;
                }
                Ok(true)
            }
        }
    }

    async fn begin(&self, group: &Group, floors: &Floors) -> Result<()> {
        let answer = group.propose(Command::StartGateway { node: self.me }, None).await?;
        let Answer::Gateway(incarnation, began) = answer else {
            return Err(Error::Unavailable { why: format!("StartGateway answered {answer:?}") });
        };
        floors.begin(began);
        self.set(Life::Alive(Origin { node: self.me, incarnation, began }));
        tracing::info!(node = self.me.0, incarnation = incarnation.0, "gateway began");
        Ok(())
    }
}
