//! `system.nodes`, `system.buckets`, `system.objects`: the site's own state as tables.
//! A scan takes one view at a read index (I2) and pages through it; nobody sees a row
//! that `authorize` would not show.

mod table; // the tables, and what a user sees of them

use std::fmt;
use std::sync::Arc;

use benteng_consensus::{Group, View};
use benteng_meta::ids::{BucketId, NodeId};
use benteng_meta::query::{self, After, Listed};
use benteng_meta::{BucketRow, NodeRow, ObjectRow, UsageRow, key};
use futures::future::BoxFuture;

use crate::Result;

pub(crate) use table::SystemSchema;

/// Where the rows of `system.*` come from: the site's state, or memory in tests.
pub trait SystemSource: fmt::Debug + Send + Sync + 'static {
    /// A state at or after everything that was acknowledged before the call (I2).
    fn snapshot(&self) -> BoxFuture<'static, Result<Arc<dyn SystemSnapshot>>>;
}

/// One consistent state of the site. Each call costs what its answer holds.
pub trait SystemSnapshot: Send + Sync {
    /// All nodes ever.
    fn nodes(&self) -> Result<Vec<(NodeId, NodeRow)>>;
    /// Buckets by name, after `after`, at most `limit`, with their counters.
    fn buckets(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, BucketRow, UsageRow)>>;
    /// One bucket.
    fn bucket(&self, name: &str) -> Result<Option<BucketRow>>;
    /// Objects of a bucket by key, after `after`, at most `limit`.
    fn objects(
        &self,
        bucket: BucketId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, ObjectRow)>>;
}

/// The site's state, asked through this node's replica.
#[derive(Clone)]
pub struct GroupSource(pub Group);

impl fmt::Debug for GroupSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupSource")
    }
}

impl SystemSource for GroupSource {
    fn snapshot(&self) -> BoxFuture<'static, Result<Arc<dyn SystemSnapshot>>> {
        let group = self.0.clone();
        Box::pin(async move { Ok(Arc::new(Snapshot(group.read().await?)) as Arc<dyn SystemSnapshot>) })
    }
}

struct Snapshot(View);

impl SystemSnapshot for Snapshot {
    fn nodes(&self) -> Result<Vec<(NodeId, NodeRow)>> {
        Ok(query::nodes(self.0.as_ref())?)
    }

    fn buckets(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, BucketRow, UsageRow)>> {
        let mut out = Vec::new();
        for (name, row) in query::buckets(self.0.as_ref(), "", after, limit)? {
            let usage = query::get(self.0.as_ref(), &key::usage(row.id))?.unwrap_or_default();
            out.push((name, row, usage));
        }
        Ok(out)
    }

    fn bucket(&self, name: &str) -> Result<Option<BucketRow>> {
        Ok(query::bucket(self.0.as_ref(), name)?)
    }

    fn objects(
        &self,
        bucket: BucketId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, ObjectRow)>> {
        let after = after.map_or(After::Start, After::Key);
        let (lines, _) = query::list_objects(self.0.as_ref(), bucket, "", "", after, limit)?;
        let row = |line| match line {
            Listed::Row(key, row) => Some((key, row)),
            Listed::Common(_) => None,
        };
        Ok(lines.into_iter().filter_map(row).collect())
    }
}
