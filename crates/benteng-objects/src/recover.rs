//! After the loss of a majority for good: one node goes on alone, by an operator's word (S7). Nothing serves
//! meanwhile: log and state are opened, the membership of one is written, and a command tells the rest.

use std::sync::Arc;

use benteng_chunks::Store;
use benteng_consensus::{Group, GroupOptions};
use benteng_meta::{Command, query};
use benteng_rpc::Rpc;

use crate::router::Router;
use crate::{Error, NodeOptions, Result};

/// Makes the node of `options` the only one of its site. Returns the new recovery epoch.
///
/// Errors: `Unavailable` with what to do, if the disks cannot be used or the node is of no site.
/// Cancellation: the node may be alone already; say it again.
pub async fn recover(options: NodeOptions) -> Result<u64> {
    let NodeOptions { host, dir, kv, root, me, secure, mut doors, rpc_listen, .. } = options;
    let failed = |what: &str, e: &dyn std::fmt::Display| Error::Unavailable { why: format!("{what}: {e}") };
    let opened = Store::open(host.clone(), dir.join("chunks"), kv.clone(), options.store_options).await;
    let store = opened.map_err(|e| failed("the chunk store does not open", &e))?;
    // It listens nowhere: whoever is left of the old membership gets no word in.
    let rpc = Rpc::new(host.clone(), me, secure, Arc::new(Router::default()), options.rpc_limits);
    if doors.rpc.is_empty() {
        doors.rpc = rpc_listen;
    }
    let group = GroupOptions::new(host, dir.join("raft"), kv, root, store.id(), rpc);
    let mut group = (options.group_options)(group);
    group.alone = Some(doors.rpc);
    let group = Group::start(group).await?;
    let done = go_on(&group, me).await;
    group.stop().await;
    let closed = store.close().await;
    let epoch = done?;
    closed.map_err(|e| failed("the chunk store does not close", &e))?;
    Ok(epoch)
}

async fn go_on(group: &Group, me: benteng_meta::ids::NodeId) -> Result<u64> {
    group.led().await?;
    group.propose(Command::Recover { node: me }, None).await?;
    let site = query::site(&*group.read().await?)?;
    let site = site.ok_or(benteng_meta::Rejection::Site { formed: false })?;
    Ok(site.recovery_epoch)
}
