//! `read_parquet`, `read_csv`, `read_json`: calls in a statement become tables.
//!
//! DataFusion's own table functions are not async and know no named arguments, so calls
//! are taken out of the statement before it is planned: each leaves a reference to a table
//! of the session's private catalogue, whose files and columns are looked up meanwhile.

mod arguments; // what a call says

use std::any::Any;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result as EngineResult;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use datafusion::sql::sqlparser::ast::{
    FunctionArg, Ident, ObjectName, Statement, TableAlias, TableFactor, VisitMut, VisitorMut,
};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::glob::Pattern;
use crate::{Error, Result};

pub(crate) use arguments::Call;

/// Objects that one call may read.
const FILES_MAX: usize = 10_000;

/// The session's private catalogue and its one schema: no listing shows it.
pub(crate) const PRIVATE: (&str, &str) = ("$files", "calls");

/// Takes the calls out of a statement; the n-th becomes table `names(n)` of [`PRIVATE`].
/// Refuses relations that are paths or URLs, with a word on what to write instead.
pub(crate) fn take_calls(statement: &mut Statement, name: impl Fn(usize) -> String) -> Result<Vec<Call>> {
    let mut taker = Taker { calls: Vec::new(), name };
    match VisitMut::visit(statement, &mut taker) {
        ControlFlow::Continue(()) => Ok(taker.calls),
        ControlFlow::Break(e) => Err(e),
    }
}

struct Taker<F> {
    calls: Vec<Call>,
    name: F,
}

impl<F: Fn(usize) -> String> Taker<F> {
    fn take(&mut self, function: &ObjectName, args: &[FunctionArg]) -> Result<Option<ObjectName>> {
        let function = function.to_string().to_ascii_lowercase();
        let Some(call) = Call::parse(&function, args)? else { return Ok(None) };
        let table = (self.name)(self.calls.len());
        self.calls.push(call);
        let part = |text: &str| Ident::with_quote('"', text);
        Ok(Some(ObjectName::from(vec![part(PRIVATE.0), part(PRIVATE.1), part(&table)])))
    }

    fn visit(&mut self, factor: &mut TableFactor) -> Result<()> {
        let (table, function, alias) = match factor {
            TableFactor::Table { name, args: Some(args), alias, .. } => {
                (self.take(name, &args.args)?, name.to_string(), alias.take())
            }
            TableFactor::Function { name, args, alias, .. } => {
                (self.take(name, args)?, name.to_string(), alias.take())
            }
            TableFactor::Table { name, args: None, .. } => {
                let text = name.to_string();
                if text.contains(['/', '\\']) || text.contains("://") {
                    return Err(Error::Refused { what: format!("reading {text}") });
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        let Some(name) = table else {
            // Another function: it keeps its alias.
            if let TableFactor::Table { alias: old, .. } | TableFactor::Function { alias: old, .. } = factor {
                *old = alias;
            }
            return Ok(());
        };
        let alias = alias.or_else(|| {
            let name = Ident::new(function.to_ascii_lowercase());
            Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None })
        });
        *factor = TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints: Vec::new(),
            version: None,
            with_ordinality: false,
            partitions: Vec::new(),
            json_path: None,
            sample: None,
            index_hints: Vec::new(),
        };
        Ok(())
    }
}

impl<F: Fn(usize) -> String> VisitorMut for Taker<F> {
    type Break = Error;

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match self.visit(factor) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(e),
        }
    }
}

/// Looks the files of a call up, infers their columns, and makes a table of them. The set of
/// files is fixed here: an object that comes later is not in it, one that goes is an error.
pub(crate) async fn open(state: &dyn Session, call: Call) -> Result<Arc<dyn TableProvider>> {
    let shown = call.urls.join(", ");
    let store_url = ObjectStoreUrl::parse(format!("s3://{}", call.bucket))?;
    let store = state.runtime_env().object_store(&store_url)?;
    let mut files = Vec::new();
    for pattern in &call.keys {
        find(&store, &call, pattern, &mut files, &shown).await?;
    }
    files.sort_by(|a, b| a.location.cmp(&b.location));
    files.dedup_by(|a, b| a.location == b.location);
    if files.is_empty() {
        return Err(Error::NoSuchFile(shown));
    }
    let (format, schema) = call.format.open(state, &store, &shown, &files).await?;
    Ok(Arc::new(FilesTable { store_url, format, schema, files }))
}

async fn find(
    store: &Arc<dyn ObjectStore>,
    call: &Call,
    pattern: &str,
    files: &mut Vec<ObjectMeta>,
    shown: &str,
) -> Result<()> {
    let compiled = Pattern::new(pattern);
    let directory = pattern.is_empty() || pattern.ends_with('/');
    if let Some(key) = compiled.exact().filter(|_| !directory) {
        let path = Path::parse(key).ok().filter(|path| path.as_ref() == key).ok_or_else(|| {
            Error::BadArgument(format!(
                "key {key:?} cannot be read by SQL: it has an empty, '.' or '..' step; copy it"
            ))
        })?;
        let missing = || Error::NoSuchFile(format!("s3://{}/{key}", call.bucket));
        files.push(store.head(&path).await.map_err(|e| match e {
            // The cause says more (a missing bucket) where the object layer gave one.
            object_store::Error::NotFound { ref source, .. } if !source.is::<Error>() => missing(),
            e => Error::Engine(e.into()),
        })?);
        return Ok(());
    }
    let mut listed = crate::store::list(store, compiled.prefix());
    while let Some(meta) = listed.try_next().await.map_err(|e| Error::Engine(e.into()))? {
        let key = meta.location.as_ref();
        let meant = if directory { call.format.is_meant(key) } else { compiled.matches(key) };
        if !meant || meta.size == 0 {
            continue;
        }
        if files.len() == FILES_MAX {
            return Err(Error::TooManyFiles { url: shown.to_owned(), limit: FILES_MAX });
        }
        files.push(meta);
    }
    Ok(())
}

/// The files of one call.
#[derive(Debug)]
struct FilesTable {
    store_url: ObjectStoreUrl,
    format: Arc<dyn FileFormat>,
    schema: SchemaRef,
    files: Vec<ObjectMeta>,
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        // Parquet skips row groups and pages by them; every row is checked again above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let files = self.files.iter().cloned().map(PartitionedFile::new_from_meta).collect();
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let json = (self.format.as_ref() as &dyn Any).downcast_ref::<JsonFormat>();
        // An array has no line ends to be split at: its reader takes whole files only, and files
        // whose partitioning is declared are not split.
        let whole = json
            .filter(|json| !json.is_newline_delimited())
            .map(|_| Partitioning::UnknownPartitioning(groups.len()));
        let source = self.format.file_source(TableSchema::from(Arc::clone(&self.schema)));
        let config = FileScanConfigBuilder::new(self.store_url.clone(), source)
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit.filter(|_| filters.is_empty()))
            .with_output_partitioning(whole)
            .build();
        self.format.create_physical_plan(state, config).await
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn take(sql: &str) -> Result<(String, Vec<Call>)> {
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).expect("parses").remove(0);
        let calls = take_calls(&mut statement, |n| format!("read_{n}"))?;
        Ok((statement.to_string(), calls))
    }

    #[test]
    fn calls_become_tables_wherever_they_stand() {
        let (sql, calls) = take(
            "WITH a AS (SELECT * FROM read_csv('s3://data/a.csv')) SELECT * FROM a JOIN \
             read_parquet('s3://data/b/*.parquet') p ON true WHERE x IN (SELECT y FROM READ_JSON('s3://data/c/'))",
        )
        .expect("taken");
        assert_eq!(calls.len(), 3);
        assert!(sql.contains(r#""$files"."calls"."read_0" AS read_csv"#), "{sql}");
        assert!(sql.contains(r#""$files"."calls"."read_1" AS p"#) || sql.contains(r#""read_1" p"#), "{sql}");
        assert!(sql.contains(r#""read_2" AS read_json"#), "{sql}");
        let (sql, calls) = take("SELECT * FROM generate_series(1, 3) AS g").expect("left alone");
        assert!(calls.is_empty() && sql.ends_with("generate_series(1, 3) AS g"), "{sql}");
    }

    #[test]
    fn paths_and_urls_as_tables_are_refused() {
        for sql in [
            "SELECT * FROM '/etc/passwd'",
            "SELECT * FROM \"/etc/passwd\"",
            "SELECT * FROM 'http://host/x.csv'",
            "SELECT * FROM 's3://data/x.csv'",
            "SELECT * FROM read_csv('/etc/passwd')",
            "SELECT * FROM read_csv('file:///etc/passwd')",
            "SELECT * FROM read_parquet('https://host/x.parquet')",
            "SELECT * FROM read_json('../x.json')",
        ] {
            assert!(matches!(take(sql), Err(Error::Refused { .. })), "{sql}");
        }
    }
}
