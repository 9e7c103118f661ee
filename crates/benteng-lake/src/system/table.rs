//! The tables of schema `system`, and what a user sees of them: nodes with `ReadStatus`;
//! a bucket and its objects with `ReadSystemTables` on that bucket.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use benteng_identity::{Action, Principal, Resource, authorize};
use benteng_meta::ids::{BucketId, SiteTime};
use benteng_meta::{BucketRow, ChecksumKind, NodeState, ObjectRow};
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::scalar::ScalarValue;

use crate::{Error, SystemSnapshot, SystemSource, Viewer};

/// Rows of a batch, and of a page of the state.
const PAGE: usize = 1024;

/// Schema `system`.
#[derive(Debug)]
pub(crate) struct SystemSchema(pub(crate) Arc<dyn SystemSource>);

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        Kind::ALL.iter().map(|kind| kind.name().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        Ok(kind.map(|kind| Arc::new(SystemTable { kind, source: Arc::clone(&self.0) }) as _))
    }

    fn table_exist(&self, name: &str) -> bool {
        Kind::ALL.iter().any(|kind| kind.name() == name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nodes,
    Buckets,
    Objects,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Nodes, Kind::Buckets, Kind::Objects];

    fn name(self) -> &'static str {
        match self {
            Kind::Nodes => "nodes",
            Kind::Buckets => "buckets",
            Kind::Objects => "objects",
        }
    }

    fn schema(self) -> SchemaRef {
        const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
        let columns: &[(&str, DataType, bool, &str)] = match self {
            Kind::Nodes => &[
                ("id", DataType::Int64, false, "number of the node, never used again"),
                ("name", DataType::Utf8, false, "name for people"),
                ("zone", DataType::Utf8, false, "failure domain"),
                ("state", DataType::Utf8, false, "active, draining or removed"),
                ("rpc", DataType::Utf8, false, "address for other nodes, host:port"),
                ("s3", DataType::Utf8, false, "address of the S3 door"),
                ("http", DataType::Utf8, false, "address of the HTTP door"),
                ("sql", DataType::Utf8, false, "address of the SQL door"),
                ("flight", DataType::Utf8, false, "address of the Flight SQL door"),
                ("store", DataType::Utf8, false, "id of its disks"),
                ("joined", TIME, false, "when it joined"),
            ],
            Kind::Buckets => &[
                ("name", DataType::Utf8, false, "name of the bucket"),
                ("id", DataType::Utf8, false, "id of the bucket, for ever"),
                ("owner", DataType::Utf8, false, "user that created it"),
                ("created", TIME, false, "when it was created"),
                ("objects", DataType::Int64, false, "number of objects, exact"),
                ("bytes", DataType::Int64, false, "sum of their sizes in bytes, exact"),
                ("uploads", DataType::Int64, false, "uploads under way"),
            ],
            Kind::Objects => &[
                ("bucket", DataType::Utf8, false, "name of the bucket"),
                ("key", DataType::Utf8, false, "key of the object"),
                ("size", DataType::Int64, false, "length in bytes"),
                ("etag", DataType::Utf8, false, "entity tag, without quotes"),
                ("modified", TIME, false, "when it was committed"),
                ("checksum", DataType::Utf8, true, "algorithm of its checksum"),
                ("blob", DataType::Utf8, false, "id of its bytes"),
            ],
        };
        let field = |(name, kind, nullable, doc): &(&str, DataType, bool, &str)| {
            // Site time is UTC; clients see it in their own zone.
            let kind = if *kind == TIME {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            } else {
                kind.clone()
            };
            Field::new(*name, kind, *nullable)
                .with_metadata([("comment".to_owned(), (*doc).to_owned())].into())
        };
        Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
    }
}

/// One table of schema `system`.
#[derive(Debug)]
struct SystemTable {
    kind: Kind,
    source: Arc<dyn SystemSource>,
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        self.kind.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Used to choose the bucket to read; the filter itself is applied above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let viewer = state.config().get_extension::<Viewer>();
        let viewer = viewer.ok_or_else(|| DataFusionError::Internal("the session has no user".into()))?;
        let may = match self.kind {
            Kind::Nodes => Action::ReadStatus,
            Kind::Buckets | Kind::Objects => Action::ReadSystemTables,
        };
        authorize(&viewer.0, may, Resource::Site).map_err(Error::from)?;
        let bucket = filters.iter().find_map(|filter| equals(filter, "bucket"));
        let schema = self.kind.schema();
        let rows = Rows {
            kind: self.kind,
            source: Arc::clone(&self.source),
            viewer: Arc::clone(&viewer.0),
            bucket,
            schema: Arc::clone(&schema),
        };
        // Filters stay above, so only a scan without any may end early.
        let limit = limit.filter(|_| filters.is_empty());
        let exec = StreamingTableExec::try_new(schema, vec![Arc::new(rows)], projection, [], false, limit)?;
        Ok(Arc::new(exec))
    }
}

/// The text that `filter` compares `column` with, if it is `column = 'text'`.
fn equals(filter: &Expr, column: &str) -> Option<String> {
    let Expr::BinaryExpr(binary) = filter else { return None };
    if binary.op != Operator::Eq {
        return None;
    }
    let text = |value: &Expr| match value {
        Expr::Literal(ScalarValue::Utf8(s) | ScalarValue::Utf8View(s) | ScalarValue::LargeUtf8(s), _) => {
            s.clone()
        }
        _ => None,
    };
    match (binary.left.as_ref(), binary.right.as_ref()) {
        (Expr::Column(c), value) | (value, Expr::Column(c)) if c.name == column => text(value),
        _ => None,
    }
}

/// One scan.
#[derive(Clone)]
struct Rows {
    kind: Kind,
    source: Arc<dyn SystemSource>,
    viewer: Arc<Principal>,
    bucket: Option<String>,
    schema: SchemaRef,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "system.{}", self.kind.name())
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let start = Some((self.clone(), Cursor::default()));
        let batches = futures::stream::try_unfold(start, |state| async move {
            let Some((rows, mut cursor)) = state else { return Ok(None) };
            let snapshot = match cursor.snapshot.take() {
                Some(snapshot) => snapshot,
                None => rows.source.snapshot().await?,
            };
            let batch = rows.page(snapshot.as_ref(), &mut cursor)?;
            cursor.snapshot = Some(snapshot);
            let next = (!cursor.done).then_some((rows, cursor));
            Ok::<_, DataFusionError>(Some((batch, next)))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// How far a scan has come.
#[derive(Default)]
struct Cursor {
    snapshot: Option<Arc<dyn SystemSnapshot>>,
    /// Last bucket that was looked at.
    bucket_after: Option<String>,
    /// The bucket whose objects are being read, and the last key of it.
    within: Option<(String, BucketId, Option<String>)>,
    done: bool,
}

impl Rows {
    fn sees(&self, name: &str, row: &BucketRow) -> bool {
        let on = Resource::Bucket { name, owner: &row.owner };
        authorize(&self.viewer, Action::ReadSystemTables, on).is_ok()
    }

    /// The next batch, possibly empty; sets `done` with the last one.
    fn page(&self, snapshot: &dyn SystemSnapshot, cursor: &mut Cursor) -> Result<RecordBatch> {
        match self.kind {
            Kind::Nodes => {
                cursor.done = true;
                self.nodes(snapshot)
            }
            Kind::Buckets => self.buckets(snapshot, cursor),
            Kind::Objects => self.objects(snapshot, cursor),
        }
    }

    fn nodes(&self, snapshot: &dyn SystemSnapshot) -> Result<RecordBatch> {
        let rows = snapshot.nodes()?;
        let state = |state| match state {
            NodeState::Active => "active",
            NodeState::Draining => "draining",
            NodeState::Removed => "removed",
        };
        self.batch(vec![
            integers(rows.iter().map(|(id, _)| id.0)),
            texts(rows.iter().map(|(_, row)| row.name.clone())),
            texts(rows.iter().map(|(_, row)| row.zone.clone())),
            texts(rows.iter().map(|(_, row)| state(row.state).to_owned())),
            texts(rows.iter().map(|(_, row)| row.doors.rpc.clone())),
            texts(rows.iter().map(|(_, row)| row.doors.s3.clone())),
            texts(rows.iter().map(|(_, row)| row.doors.http.clone())),
            texts(rows.iter().map(|(_, row)| row.doors.sql.clone())),
            texts(rows.iter().map(|(_, row)| row.doors.flight.clone())),
            texts(rows.iter().map(|(_, row)| row.store.to_string())),
            times(rows.iter().map(|(_, row)| row.joined)),
        ])
    }

    fn buckets(&self, snapshot: &dyn SystemSnapshot, cursor: &mut Cursor) -> Result<RecordBatch> {
        let mut rows = snapshot.buckets(cursor.bucket_after.as_deref(), PAGE)?;
        cursor.done = rows.len() < PAGE;
        cursor.bucket_after = rows.last().map(|(name, ..)| name.clone());
        rows.retain(|(name, row, _)| self.sees(name, row));
        self.batch(vec![
            texts(rows.iter().map(|(name, ..)| name.clone())),
            texts(rows.iter().map(|(_, row, _)| row.id.to_string())),
            texts(rows.iter().map(|(_, row, _)| row.owner.clone())),
            times(rows.iter().map(|(_, row, _)| row.created)),
            integers(rows.iter().map(|(.., usage)| usage.objects)),
            integers(rows.iter().map(|(.., usage)| usage.bytes)),
            integers(rows.iter().map(|(.., usage)| usage.uploads)),
        ])
    }

    fn objects(&self, snapshot: &dyn SystemSnapshot, cursor: &mut Cursor) -> Result<RecordBatch> {
        let Some((name, id, after)) = self.bucket_to_read(snapshot, cursor)? else {
            return self.objects_of("", &[]);
        };
        let rows = snapshot.objects(id, after.as_deref(), PAGE)?;
        match rows.last() {
            Some((last, _)) if rows.len() == PAGE => {
                cursor.within = Some((name.clone(), id, Some(last.clone())));
            }
            _ => {
                cursor.within = None;
                cursor.done = self.bucket.is_some();
            }
        }
        self.objects_of(&name, &rows)
    }

    /// The bucket whose objects come next; `None` if this page has none.
    fn bucket_to_read(
        &self,
        snapshot: &dyn SystemSnapshot,
        cursor: &mut Cursor,
    ) -> Result<Option<(String, BucketId, Option<String>)>> {
        if let Some(within) = cursor.within.take() {
            return Ok(Some(within));
        }
        let (name, row) = match &self.bucket {
            Some(name) => match snapshot.bucket(name)? {
                Some(row) => (name.clone(), row),
                None => {
                    cursor.done = true;
                    return Ok(None);
                }
            },
            None => match snapshot.buckets(cursor.bucket_after.as_deref(), 1)?.pop() {
                Some((name, row, _)) => (name, row),
                None => {
                    cursor.done = true;
                    return Ok(None);
                }
            },
        };
        cursor.bucket_after = Some(name.clone());
        if !self.sees(&name, &row) {
            cursor.done = self.bucket.is_some();
            return Ok(None);
        }
        Ok(Some((name, row.id, None)))
    }

    fn objects_of(&self, bucket: &str, rows: &[(String, ObjectRow)]) -> Result<RecordBatch> {
        let checksum = |row: &ObjectRow| {
            row.checksum.map(|(kind, _)| match kind {
                ChecksumKind::Crc32 => "CRC32",
                ChecksumKind::Crc32c => "CRC32C",
                ChecksumKind::Crc64Nvme => "CRC64NVME",
                ChecksumKind::Sha1 => "SHA1",
                ChecksumKind::Sha256 => "SHA256",
            })
        };
        self.batch(vec![
            texts(rows.iter().map(|_| bucket.to_owned())),
            texts(rows.iter().map(|(key, _)| key.clone())),
            integers(rows.iter().map(|(_, row)| row.size)),
            texts(rows.iter().map(|(_, row)| row.etag.to_string())),
            times(rows.iter().map(|(_, row)| row.modified)),
            Arc::new(rows.iter().map(|(_, row)| checksum(row)).collect::<StringArray>()),
            texts(rows.iter().map(|(_, row)| row.blob.to_string())),
        ])
    }

    fn batch(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

fn texts(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// Counts and sizes; beyond i64 they are shown as its greatest number.
fn integers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(|n| i64::try_from(n).unwrap_or(i64::MAX))))
}

fn times(values: impl Iterator<Item = SiteTime>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values.map(|t| t.0)).with_timezone("UTC"))
}
