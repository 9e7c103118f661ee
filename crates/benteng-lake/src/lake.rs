//! What all sessions of a node share: threads, memory, spill directory, catalogue.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use benteng_consensus::Group;
use benteng_host::Host;
use benteng_identity::{Action, Principal, Resource, authorize};
use benteng_objects::Objects;
use datafusion::catalog::{CatalogProvider, MemorySchemaProvider, SchemaProvider};
use datafusion::config::ConfigNonZeroUsize;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionContext;
use datafusion::prelude::SessionConfig;

use crate::memory::{NodeMemory, QueryPool};
use crate::spill::Spill;
use crate::system::SystemSchema;
use crate::{GroupSource, LakeSession, ObjectLayer, QueryRuntime, Result, StoreSource, SystemSource};

/// The one catalogue: what clients call the database.
pub const CATALOG: &str = "benteng";

/// Bounds of the lake on this node.
#[derive(Clone, Debug)]
pub struct LakeOptions {
    /// Where queries spill, sealed; emptied at start.
    pub spill_dir: PathBuf,
    /// Bytes that spill files may take.
    pub spill_quota: u64,
    /// Bytes of memory for all queries together.
    pub memory: usize,
    /// Bytes of memory for one query; it spills beyond.
    pub query_memory: usize,
    /// Threads for queries, and partitions of a query.
    pub threads: usize,
}

impl LakeOptions {
    /// Bounds of a dev node (128 MiB for SQL), spilling below `dir`.
    pub fn small(dir: impl Into<PathBuf>) -> LakeOptions {
        LakeOptions {
            spill_dir: dir.into(),
            spill_quota: 10 << 30,
            memory: 128 << 20,
            query_memory: 64 << 20,
            threads: std::thread::available_parallelism().map_or(2, usize::from),
        }
    }
}

/// The lake of this node. Cheap to clone.
#[derive(Clone)]
pub struct Lake(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) runtime: QueryRuntime,
    pub(crate) memory: Arc<NodeMemory>,
    pub(crate) spill: Spill,
    pub(crate) stores: Arc<dyn StoreSource>,
    pub(crate) options: LakeOptions,
    catalog: Arc<SiteCatalog>,
}

impl Lake {
    /// Opens the lake over the object layer and the site's state.
    ///
    /// Errors: the spill directory cannot be prepared, threads cannot be started.
    pub fn open(host: &Host, objects: Objects, group: Group, options: LakeOptions) -> Result<Lake> {
        Lake::over(host, Arc::new(ObjectLayer(objects)), Arc::new(GroupSource(group)), options)
    }

    /// As [`Lake::open`], over any source of objects and of system rows.
    pub fn over(
        host: &Host,
        stores: Arc<dyn StoreSource>,
        system: Arc<dyn SystemSource>,
        options: LakeOptions,
    ) -> Result<Lake> {
        let spill = Spill::open(&options.spill_dir, options.spill_quota, host.random.as_ref())?;
        let catalog = Arc::new(SiteCatalog::default());
        catalog.register_schema("system", Arc::new(SystemSchema(system)))?;
        catalog.register_schema("public", Arc::new(MemorySchemaProvider::new()))?;
        let runtime = QueryRuntime::start(options.threads)?;
        let memory = NodeMemory::new(options.memory);
        Ok(Lake(Arc::new(Shared { runtime, memory, spill, stores, options, catalog })))
    }

    /// A context that knows the lake's catalogue and DataFusion's functions, but no file and
    /// no user. Doors add to it what their clients expect and give it to [`Lake::session`].
    ///
    /// Errors: a setting of ours that this DataFusion does not take.
    pub fn template(&self) -> datafusion::error::Result<SessionContext> {
        let memory = self.0.options.query_memory;
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, "public")
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true)
            // Measured at 50 MB: with batches of 8192 rows and an unbounded merge, sorts fail
            // where these pass; larger batches are faster where memory allows them.
            .with_batch_size(if memory < 256 << 20 { 1024 } else { 8192 })
            .with_target_partitions(self.0.options.threads.max(1));
        let options = config.options_mut();
        options.execution.sort_spill_reservation_bytes = (memory / 16).clamp(1 << 20, 10 << 20);
        // One batch a file. With files that stay open a repartition of DataFusion 55 that spills may wait for
        // ever for a batch that lies in the file behind the one that it reads (apache/datafusion#24883).
        options.execution.max_spill_file_size_bytes = ConfigNonZeroUsize::try_new(1)?;
        // Plain strings rather than views where that can be chosen: see `compact`.
        options.sql_parser.map_string_types_to_utf8view = false;
        options.execution.parquet.schema_force_view_types = false;
        // Decimal literals are numeric, as in PostgreSQL: 1.1 * 1.1 is 1.21.
        options.sql_parser.parse_float_as_decimal = true;
        let context = SessionContext::new_with_config(config);
        context.register_catalog(CATALOG, Arc::clone(&self.0.catalog) as Arc<dyn CatalogProvider>);
        Ok(context)
    }

    /// Opens a session for a user. Nothing of it is shared with another session.
    ///
    /// `template`: made by [`Lake::template`]. Errors: `Denied` without `RunSql`.
    pub fn session(&self, user: Arc<Principal>, template: &SessionContext) -> Result<LakeSession> {
        authorize(&user, Action::RunSql, Resource::Site)?;
        LakeSession::new(self.clone(), user, template)
    }

    /// The threads for queries; parsing and planning belong there too.
    pub fn runtime(&self) -> &QueryRuntime {
        &self.0.runtime
    }

    /// Bytes of memory and of spill files that queries hold now.
    pub fn in_use(&self) -> (usize, u64) {
        (self.0.memory.used(), self.0.spill.used())
    }

    pub(crate) fn query_pool(&self) -> QueryPool {
        QueryPool::new(self.0.options.query_memory, Arc::clone(&self.0.memory))
    }
}

/// The schemas by name, in order: object ids that a door deals out in this order are the
/// same on each node and after each start.
#[derive(Debug, Default)]
struct SiteCatalog(RwLock<BTreeMap<String, Arc<dyn SchemaProvider>>>);

impl CatalogProvider for SiteCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn register_schema(
        &self,
        name: &str,
        schema: Arc<dyn SchemaProvider>,
    ) -> Result<Option<Arc<dyn SchemaProvider>>, DataFusionError> {
        Ok(self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), schema))
    }
}

impl std::fmt::Debug for Lake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lake").field("options", &self.0.options).finish_non_exhaustive()
    }
}
