//! One connection's view of the lake. Parsing, planning and running happen on the query
//! threads; what leaves them is flat (schemas, batches, errors), so that a statement as
//! deep as it may be is also taken apart there, where stacks are large.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use benteng_identity::Principal;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider,
};
use datafusion::common::ParamValues;
use datafusion::common::config::ConfigOptions;
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::Statement;
use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};

use crate::files::{self, PRIVATE};
use crate::guard::{Stop, guarded};
use crate::store::Registry;
use crate::{CATALOG, Error, Lake, Result, Running, Viewer};

/// Parameters that a statement may have (a PostgreSQL message counts them in 16 bits).
const PARAMETERS_MAX: usize = 65_535;
/// Bytes of Parquet footers that a session keeps.
const FOOTER_CACHE: usize = 4 << 20;

/// One connection's view of the lake. Cheap to clone; clones are the same session.
#[derive(Clone)]
pub struct LakeSession(Arc<Inner>);

struct Inner {
    lake: Lake,
    context: SessionContext,
    runtime_env: Arc<RuntimeEnv>,
    /// Tables made of calls, while their statement is planned.
    calls: Arc<MemorySchemaProvider>,
    next_call: AtomicU64,
}

/// What a statement takes and gives.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Types of its parameters, `$1` first, as far as the statement tells them.
    pub parameters: Vec<Option<DataType>>,
    /// Its columns.
    pub schema: SchemaRef,
}

impl LakeSession {
    pub(crate) fn new(lake: Lake, user: Arc<Principal>, template: &SessionContext) -> Result<LakeSession> {
        let viewer = Viewer(user);
        let registry = Registry { source: Arc::clone(&lake.0.stores), viewer: viewer.clone() };
        let disk = DiskManagerBuilder::default()
            .with_temp_file_factory(lake.0.spill.factory())
            .with_max_spill_merge_fan_in(8);
        let runtime_env = RuntimeEnvBuilder::new()
            .with_object_store_registry(Arc::new(registry))
            .with_disk_manager_builder(disk)
            .with_memory_pool(Arc::new(lake.query_pool()))
            .with_metadata_cache_limit(FOOTER_CACHE)
            .build_arc()?;
        let calls = Arc::new(MemorySchemaProvider::new());
        let private = MemoryCatalogProvider::new();
        private.register_schema(PRIVATE.1, Arc::clone(&calls) as Arc<dyn SchemaProvider>)?;
        let template = template.state();
        let catalogs = Catalogs { shared: Arc::clone(template.catalog_list()), private: Arc::new(private) };
        let config = template.config().clone().with_extension(Arc::new(viewer));
        let state = SessionStateBuilder::new_from_existing(template)
            .with_config(config)
            .with_catalog_list(Arc::new(catalogs))
            .with_runtime_env(Arc::clone(&runtime_env))
            .with_session_id(uuid::Uuid::new_v4().to_string())
            .build();
        let context = SessionContext::new_with_state(state);
        let inner = Inner { lake, context, runtime_env, calls, next_call: AtomicU64::new(0) };
        Ok(LakeSession(Arc::new(inner)))
    }

    /// Changes how the session reads SQL (default schema, time zone). What a client may set
    /// is for the door to say.
    pub fn configure(&self, change: impl FnOnce(&mut ConfigOptions)) {
        change(self.0.context.state_ref().write().config_mut().options_mut());
    }

    /// The session's functions and catalogue, for a door to add to.
    pub fn context(&self) -> &SessionContext {
        &self.0.context
    }

    /// Tells what a statement takes and gives, without running it.
    ///
    /// `parse` runs on the query threads and gives exactly one statement.
    /// Cancellation: if dropped, planning ends at its next `.await`.
    pub async fn describe(
        &self,
        parse: impl FnOnce() -> Result<Statement> + Send + 'static,
    ) -> Result<Shape> {
        let session = self.clone();
        self.0
            .lake
            .runtime()
            .run(async move {
                let plan = session.plan(parse()?).await?;
                let parameters = parameters(&plan)?;
                let null =
                    |kind: &Option<DataType>| ScalarValue::try_from(kind.as_ref().unwrap_or(&DataType::Utf8));
                let values = parameters.iter().map(null).collect::<Result<Vec<_>, _>>()?;
                let plan = with_values(plan, values)?;
                Ok(Shape { parameters, schema: Arc::new(plan.schema().as_arrow().clone()) })
            })
            .await?
    }

    /// Runs a statement; its rows follow batch by batch.
    ///
    /// `parse` as for [`LakeSession::describe`]; `bind` gives the values of the parameters,
    /// knowing the types that the statement tells.
    /// Returns once the plan stands: errors in the statement are told here.
    /// Cancellation: dropping the future or the [`Rows`] ends the query.
    pub async fn execute(
        &self,
        parse: impl FnOnce() -> Result<Statement> + Send + 'static,
        bind: impl FnOnce(&[Option<DataType>]) -> Result<Vec<ScalarValue>> + Send + 'static,
    ) -> Result<Rows> {
        let session = self.clone();
        let (ready, began) = oneshot::channel();
        // One batch under way: the reader's pace is the query's (I7).
        let (batches, rows) = mpsc::channel(1);
        let stop = StopOnDrop(Stop::default());
        let flag = stop.0.clone();
        let task = self.0.lake.runtime().run(async move {
            let started = async {
                let plan = session.plan(parse()?).await?;
                let values = bind(&parameters(&plan)?)?;
                session.start(with_values(plan, values)?, &flag).await
            };
            let mut stream = match started.await {
                Ok(stream) => stream,
                Err(e) => {
                    // The asker may be gone: then nobody wants the answer.
                    let _ = ready.send(Err(e));
                    return;
                }
            };
            if ready.send(Ok(stream.schema())).is_err() {
                return;
            }
            while let Some(batch) = stream.next().await {
                let failed = batch.is_err();
                if batches.send(batch.map_err(Error::from)).await.is_err() || failed {
                    return;
                }
            }
        });
        match began.await {
            Ok(Ok(schema)) => Ok(Rows { schema, batches: rows, task: Some(task), _stop: stop }),
            Ok(Err(e)) => Err(e),
            // The sender is gone without a word: the task panicked or its threads end.
            Err(_) => Err(task.await.err().unwrap_or(Error::Cancelled)),
        }
    }

    async fn plan(&self, mut statement: Statement) -> Result<LogicalPlan> {
        let first = self.0.next_call.load(Ordering::Relaxed);
        let name = |n: usize| format!("read_{}", first + n as u64);
        let calls = files::take_calls(&mut statement, name)?;
        self.0.next_call.fetch_add(calls.len() as u64, Ordering::Relaxed);
        let state = self.0.context.state();
        let mut made = MadeTables { schema: &self.0.calls, names: Vec::new() };
        for (n, call) in calls.into_iter().enumerate() {
            let table = files::open(&state, call).await?;
            self.0.calls.register_table(name(n), table)?;
            made.names.push(name(n));
        }
        let plan = state.statement_to_plan(EngineStatement::Statement(Box::new(statement))).await?;
        // The door has refused what it knows by name; this refuses by what the plan would do.
        let reading =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reading.verify_plan(&plan).map_err(|e| Error::NotSupported {
            what: e.strip_backtrace(),
            instead: "this step of the SQL door reads only: write objects over S3",
        })?;
        Ok(plan)
    }

    async fn start(&self, plan: LogicalPlan, stop: &Stop) -> Result<SendableRecordBatchStream> {
        let state = self.0.context.state();
        let plan = guarded(state.create_physical_plan(&plan).await?, stop)?;
        let env = RuntimeEnv {
            memory_pool: Arc::new(self.0.lake.query_pool()),
            ..RuntimeEnv::clone(&self.0.runtime_env)
        };
        let task = TaskContext::from(&state).with_runtime(Arc::new(env));
        Ok(execute_stream(plan, Arc::new(task))?)
    }
}

/// Removes the tables of a statement's calls, whether planning ends, fails or is dropped.
struct MadeTables<'a> {
    schema: &'a MemorySchemaProvider,
    names: Vec<String>,
}

impl Drop for MadeTables<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = self.schema.deregister_table(name);
        }
    }
}

/// Types of a plan's parameters, by number.
fn parameters(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>> {
    let mut out = Vec::new();
    for (name, kind) in plan.get_parameter_types()? {
        let number = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
        let number = number.filter(|n| (1..=PARAMETERS_MAX).contains(n));
        let number = number.ok_or_else(|| Error::BadArgument(format!("there is no parameter {name}")))?;
        if out.len() < number {
            out.resize(number, None);
        }
        out[number - 1] = kind.filter(|kind| *kind != DataType::Null);
    }
    Ok(out)
}

fn with_values(plan: LogicalPlan, values: Vec<ScalarValue>) -> Result<LogicalPlan> {
    if values.is_empty() {
        return Ok(plan);
    }
    Ok(plan.with_param_values(ParamValues::from(values))?)
}

/// The site's catalogue, and beside it the session's private one, which no listing shows.
#[derive(Debug)]
struct Catalogs {
    shared: Arc<dyn CatalogProviderList>,
    private: Arc<dyn CatalogProvider>,
}

impl CatalogProviderList for Catalogs {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        // The catalogue is the site's; a session adds nothing to it.
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        if name == PRIVATE.0 { Some(Arc::clone(&self.private)) } else { self.shared.catalog(name) }
    }
}

/// Sets the flag when the query is given up, at whatever point.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// The rows of a running query. Dropping them ends it.
pub struct Rows {
    schema: SchemaRef,
    batches: mpsc::Receiver<Result<RecordBatch>>,
    task: Option<Running<()>>,
    _stop: StopOnDrop,
}

impl Rows {
    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next batch; `None` at the end, and after an error.
    /// Cancellation: safe, no batch is lost.
    pub async fn next(&mut self) -> Option<Result<RecordBatch>> {
        if let Some(batch) = self.batches.recv().await {
            return Some(batch);
        }
        // No more batches: did the task end, or did it die?
        let ended = self.task.as_mut()?.await;
        self.task = None;
        ended.err().map(Err)
    }
}
