//! A node runs once (I9): on disks that are a copy of another machine's, a process does not take part in
//! anything while the node answers at the address that the site knows. Two processes that are one member
//! could vote twice in a term.

use std::time::Duration;

use benteng_consensus::Group;
use benteng_host::{Host, timeout};
use benteng_meta::ids::NodeId;
use benteng_meta::{NodeRow, NodeState, key, query};
use benteng_rpc::Secure;

use crate::{Error, Result};

/// How long the other process may take to show who it is.
const ANSWER: Duration = Duration::from_secs(2);

/// Looks whether another process is this node, at the address of its row, if that is not the own one.
///
/// Errors: `Unavailable`, there is one. The local state cannot be read.
pub(crate) async fn look(
    host: &Host,
    group: &Group,
    me: NodeId,
    own: &str,
    secure: &dyn Secure,
) -> Result<()> {
    let row: Option<NodeRow> = query::get(&*group.local()?, &key::node(me))?;
    let Some(row) = row.filter(|row| row.state != NodeState::Removed) else { return Ok(()) };
    let address = row.doors.rpc;
    if address.is_empty() || address == own {
        return Ok(());
    }
    let met = async {
        let stream = host.net.connect(&address).await.ok()?;
        // Only who holds this node's certificate gets through.
        secure.connect(stream, me).await.ok()
    };
    match timeout(&*host.clock, ANSWER, met).await {
        Ok(Some(_)) => {
            let why = format!(
                "node {me} runs already, at {address}; these disks are a copy of its own. Wipe them and let the machine \
                 join as a node of its own (`benteng node add`), or stop the other process for good and start this one"
            );
            Err(Error::Unavailable { why })
        }
        Ok(None) | Err(_) => {
            tracing::info!(%address, "this node has moved: nobody answers for it where it was");
            Ok(())
        }
    }
}
