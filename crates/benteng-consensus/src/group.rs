//! The handle that the floors above use.

use std::sync::Arc;

use benteng_host::KvView;
use benteng_meta::ids::*;
use benteng_meta::{Answer, Command};

use crate::{Error, Result};

/// A consistent state of the group's rows, unsealed: what `benteng_meta::query` asks.
pub type View = Arc<dyn KvView>;

/// One Raft group as seen from this node. Cheap to clone.
#[derive(Clone)]
pub struct Group {
}

impl Group {
    /// Proposes a command, through any node, and returns its answer once it is applied *here*
    /// or known. Idempotency id, stamp, deadline and settling (C1, C3) are handled inside.
    ///
    /// `gateway`: the fence of this gateway's life; `None` for commands that no life bounds.
    /// Errors: `Rejected` as `apply` decided; `Unavailable` and `Unknown` within 5 s.
    pub async fn propose(&self, command: Command, gateway: Option<(NodeId, Incarnation)>) -> Result<Answer> {
        let _ = (command, gateway);
        Err(Error::Stopped("not wired".into()))
    }

    /// A state at or after every command that was answered before this call (ReadIndex, I2).
    pub async fn read(&self) -> Result<View> {
        Err(Error::Stopped("not wired".into()))
    }

    /// The local replica's state as it is now: possibly old, never wrong.
    pub fn local(&self) -> Result<View> {
        Err(Error::Stopped("not wired".into()))
    }
}
