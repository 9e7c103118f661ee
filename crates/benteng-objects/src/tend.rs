//! What keeps this node in step with the site: peers' addresses, its own row, its gateway's life.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use benteng_meta::ids::*;
use benteng_meta::{Command, Doors, NodeState, query};
use benteng_rpc::Rpc;

use crate::Result;
use crate::core::Core;
use crate::peers::PeerBook;

/// What this node says of itself.
pub(crate) struct Own {
    /// Its doors.
    pub(crate) doors: Doors,
    /// Its disks.
    pub(crate) store: StoreId,
}

/// One round. Returns whether this node is in step with the site.
///
/// Errors: what proposing gives; the next round tries again.
pub(crate) async fn round(core: &Core, rpc: &Rpc, book: &PeerBook, own: &Own) -> Result<bool> {
    let view = core.group.local()?;
    let Some(site) = query::site(&*view)? else { return Ok(false) };
    core.copies.epoch().fetch_max(site.recovery_epoch, Ordering::Relaxed);
    let rows: BTreeMap<_, _> = query::nodes(&*view)?.into_iter().collect();
    drop(view);
    let Some(me) = rows.get(&core.me).cloned() else {
        // A replica that is behind does not know this node yet: the bootstrap list still holds.
        return Ok(false);
    };
    if me.state == NodeState::Removed {
        tracing::error!(node = core.me.0, "this node was removed from the site; stop it and wipe its disks");
        return Ok(false);
    }
    let members = rows.into_iter().filter(|(_, row)| row.state != NodeState::Removed);
    book.follow(rpc, members.map(|(node, row)| (node, row.doors.rpc)).collect()).await;
    if me.doors != own.doors || me.store != own.store {
        let command = Command::UpdateNode { node: core.me, doors: own.doors.clone(), store: own.store };
        core.group.propose(command, None).await?;
    }
    core.gateway.tend(&core.group, &core.floors).await
}
