//! What can go wrong in a query, and what to do about it.

use benteng_identity::Denied;
use datafusion::error::DataFusionError;

/// Result of work on the lake.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A statement failed. Nothing has changed: this step of the lake reads only.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQL that this site does not run.
    #[error("{what} is not supported; {instead}")]
    NotSupported {
        /// What was asked for.
        what: String,
        /// What to use instead.
        instead: &'static str,
    },
    /// SQL that reaches for the node's own files, for other hosts or for other sessions.
    #[error(
        "{what} is refused: SQL reads objects of this site only; use read_parquet, read_csv or read_json on 's3://bucket/key'"
    )]
    Refused {
        /// What was reached for.
        what: String,
    },
    /// The user may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The bucket is not there.
    #[error("bucket {0:?} does not exist")]
    NoSuchBucket(String),
    /// No object matches.
    #[error("no object matches {0}")]
    NoSuchFile(String),
    /// More objects match than one statement may read.
    #[error("more than {limit} objects match {url}; narrow the pattern")]
    TooManyFiles {
        /// The pattern.
        url: String,
        /// How many a statement may read.
        limit: usize,
    },
    /// An argument of a function is not usable.
    #[error("{0}")]
    BadArgument(String),
    /// A file is not what the function reads.
    #[error("{url} cannot be read as {format}: {why}")]
    BadFile {
        /// The object.
        url: String,
        /// Parquet, CSV or JSON.
        format: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The statement is nested or chained too deep.
    #[error(
        "the statement has more than {limit} operators and keywords; split it, or use IN and UNNEST lists"
    )]
    TooComplex {
        /// How many it may have.
        limit: usize,
    },
    /// Memory of the query or of all queries together is used up.
    #[error("the query needs more memory: {0}")]
    Memory(String),
    /// Temporary files have reached their bound.
    #[error(
        "temporary files of queries would exceed {limit} bytes; narrow the query or raise sql.spill_quota"
    )]
    SpillFull {
        /// The bound.
        limit: u64,
    },
    /// A temporary file cannot be written or read.
    #[error("temporary file {file}: {source}")]
    SpillIo {
        /// Its number.
        file: u64,
        /// The machine's answer.
        source: std::io::Error,
    },
    /// A temporary file is not what was written (I4).
    #[error("temporary file {file} was changed or cut on disk; run the query again, then check the disk")]
    SpillDamaged {
        /// Its number.
        file: u64,
    },
    /// The spill directory cannot be prepared.
    #[error("spill directory {dir}: {source}")]
    SpillDir {
        /// Where.
        dir: String,
        /// The machine's answer.
        source: std::io::Error,
    },
    /// The threads for queries cannot be started.
    #[error("threads for queries cannot be started: {0}")]
    Threads(#[source] std::io::Error),
    /// The query was told to end.
    #[error("the query was cancelled")]
    Cancelled,
    /// A panic inside of the query; the log holds it.
    #[error("the query failed by an internal error; the node's log says where")]
    Panicked,
    /// The object layer failed.
    #[error(transparent)]
    Objects(#[from] benteng_objects::Error),
    /// The site's state could not be asked.
    #[error(transparent)]
    Site(#[from] benteng_consensus::Error),
    /// The local state cannot be read.
    #[error(transparent)]
    State(#[from] benteng_meta::Error),
    /// The query engine says no.
    #[error(transparent)]
    Engine(#[from] DataFusionError),
}

impl From<Error> for DataFusionError {
    fn from(e: Error) -> DataFusionError {
        match e {
            Error::Engine(e) => e,
            e => DataFusionError::External(Box::new(e)),
        }
    }
}

impl From<Error> for object_store::Error {
    /// The kind that DataFusion understands; the cause stays inside.
    fn from(e: Error) -> object_store::Error {
        let path = String::new();
        match e {
            Error::Denied(_) => object_store::Error::PermissionDenied { path, source: Box::new(e) },
            Error::NoSuchBucket(_) | Error::NoSuchFile(_) => {
                object_store::Error::NotFound { path, source: Box::new(e) }
            }
            e => object_store::Error::Generic { store: "benteng", source: Box::new(e) },
        }
    }
}

/// The first cause of type `T` in a chain of errors, however often DataFusion wrapped it.
pub fn find_cause<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    // A chain is as long as the wraps are; the bound only stops a cycle.
    for _ in 0..64 {
        let e = next?;
        if let Some(found) = e.downcast_ref::<T>() {
            return Some(found);
        }
        next = match e.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Collection(all)) => all.first().map(|e| e as _),
            Some(DataFusionError::External(inner)) => Some(inner.as_ref() as _),
            _ => match e.downcast_ref::<object_store::Error>() {
                Some(inner) => std::error::Error::source(inner),
                None => e.source(),
            },
        };
    }
    None
}
