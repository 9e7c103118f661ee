//! The clock by which this node judges what others show it: signatures of requests and
//! certificates (C4). Its own wall clock, unless a majority's clocks say another hour.

use std::sync::{Arc, OnceLock};

use benteng_consensus::Group;
use benteng_host::{Clock, Fut, Mono, Wall};

/// A clock whose wall time is checked against the site's. Cheap to clone.
#[derive(Clone)]
pub(crate) struct JudgesClock {
    own: Arc<dyn Clock>,
    /// There once the node has started; until then its own clock is all that there is.
    group: Arc<OnceLock<Group>>,
}

impl JudgesClock {
    /// Over the machine's own clock.
    pub(crate) fn new(own: Arc<dyn Clock>) -> JudgesClock {
        JudgesClock { own, group: Arc::default() }
    }

    /// From now on the group's clocks are listened to.
    pub(crate) fn listen_to(&self, group: Group) {
        // Only the start of the node calls this, once.
        let _ = self.group.set(group);
    }
}

impl Clock for JudgesClock {
    fn now(&self) -> Mono {
        self.own.now()
    }

    fn wall(&self) -> Wall {
        self.group.get().map_or_else(|| self.own.wall(), Group::wall)
    }

    fn sleep_until(&self, at: Mono) -> Fut<()> {
        self.own.sleep_until(at)
    }
}
