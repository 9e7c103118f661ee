//! How the bytes of a file become columns, and what its first bytes say about them.
//! Columns are inferred from bounded heads of a few files (I7): never from a whole object.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::config::CsvOptions;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use object_store::memory::InMemory;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::{Error, Result};

/// Bytes of a file that are looked at to infer its columns.
const HEAD: u64 = 1 << 20;
/// Text files whose heads are looked at.
const HEADS: usize = 10;
/// Parquet files whose footers are read to know the columns; the others must not have more.
const FOOTERS: usize = 32;
/// Rows that types are inferred from unless the statement says otherwise.
pub(crate) const SAMPLE: usize = 10_000;

/// What a function reads, with its options.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    Parquet,
    Csv(CsvOptions),
    Json {
        /// One object per line, or one array of objects; `None`: the first byte decides.
        lines: Option<bool>,
        /// Rows that types are inferred from.
        sample: usize,
    },
}

impl Format {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Format::Parquet => "Parquet",
            Format::Csv(_) => "CSV",
            Format::Json { .. } => "JSON",
        }
    }

    /// Whether a file of a directory is meant, by the end of its key.
    pub(crate) fn is_meant(&self, key: &str) -> bool {
        let endings: &[&str] = match self {
            Format::Parquet => &[".parquet", ".parq", ".pq"],
            Format::Csv(_) => &[".csv", ".tsv", ".txt"],
            Format::Json { .. } => &[".json", ".ndjson", ".jsonl", ".geojson"],
        };
        let key = key.to_ascii_lowercase();
        let name = key.rsplit('/').next().unwrap_or(&key);
        // Marker files of other engines (_SUCCESS, .crc) are no data.
        !name.starts_with(['_', '.']) && endings.iter().any(|ending| key.ends_with(ending))
    }

    /// The reader and the columns of `files`, which are not empty and in order of their keys.
    pub(crate) async fn open(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        url: &str,
        files: &[ObjectMeta],
    ) -> Result<(Arc<dyn FileFormat>, SchemaRef)> {
        let bad = |why: String| Error::BadFile { url: url.to_owned(), format: self.name(), why };
        let (format, schema): (Arc<dyn FileFormat>, _) = match self {
            Format::Parquet => {
                let format = ParquetFormat::default();
                let files = &files[..files.len().min(FOOTERS)];
                let schema = format.infer_schema(state, store, files).await?;
                (Arc::new(format), schema)
            }
            Format::Csv(options) => {
                let format = CsvFormat::default().with_options(options.clone());
                let (heads, metas) = heads(store, files, &|head| after_last_line(head, url)).await?;
                let schema = format.infer_schema(state, &heads, &metas).await?;
                (Arc::new(format), schema)
            }
            Format::Json { lines, sample } => {
                let first =
                    store.get_range(&files[0].location, 0..files[0].size.min(1024)).await.map_err(engine)?;
                let array = first.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
                let lines = lines.unwrap_or(!array);
                let format =
                    JsonFormat::default().with_schema_infer_max_rec(*sample).with_newline_delimited(lines);
                let cut =
                    |head: &[u8]| if lines { after_last_line(head, url) } else { closed_array(head, url) };
                let (heads, metas) = heads(store, files, &cut).await?;
                let schema = format.infer_schema(state, &heads, &metas).await?;
                (Arc::new(format), schema)
            }
        };
        if schema.fields().is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        Ok((format, schema))
    }
}

fn engine(e: object_store::Error) -> Error {
    Error::Engine(e.into())
}

type Cut<'a> = dyn Fn(&[u8]) -> Result<Vec<u8>> + Send + Sync + 'a;

/// The first bytes of the first files, cut to whole records, as a store of their own.
async fn heads(
    store: &Arc<dyn ObjectStore>,
    files: &[ObjectMeta],
    cut: &Cut<'_>,
) -> Result<(Arc<dyn ObjectStore>, Vec<ObjectMeta>)> {
    let memory = InMemory::new();
    let mut metas = Vec::new();
    for file in files.iter().take(HEADS) {
        let mut head =
            store.get_range(&file.location, 0..file.size.min(HEAD)).await.map_err(engine)?.to_vec();
        if file.size > HEAD {
            head = cut(&head)?;
        }
        metas.push(ObjectMeta { size: head.len() as u64, ..file.clone() });
        memory.put(&file.location, head.into()).await.map_err(engine)?;
    }
    Ok((Arc::new(memory), metas))
}

fn after_last_line(head: &[u8], url: &str) -> Result<Vec<u8>> {
    match head.iter().rposition(|b| *b == b'\n') {
        Some(end) => Ok(head[..=end].to_vec()),
        None => Err(Error::BadFile {
            url: url.to_owned(),
            format: "text",
            why: format!("its first line is longer than {HEAD} bytes"),
        }),
    }
}

/// Cuts the start of a JSON array behind its last whole element, and closes it.
fn closed_array(head: &[u8], url: &str) -> Result<Vec<u8>> {
    let (mut depth, mut quoted, mut escaped, mut end) = (0_u32, false, false, None);
    for (at, byte) in head.iter().enumerate() {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => quoted = false,
            (true, _) => {}
            (false, b'"') => quoted = true,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => {
                depth = depth.saturating_sub(1);
                if depth == 1 {
                    end = Some(at + 1);
                }
            }
            (false, _) => {}
        }
    }
    match end {
        Some(end) => Ok([&head[..end], b"]"].concat()),
        None => Err(Error::BadFile {
            url: url.to_owned(),
            format: "JSON",
            why: format!("its first element is longer than {HEAD} bytes"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_cut_to_whole_records() {
        assert_eq!(after_last_line(b"a,b\n1,2\n3,", "u").expect("cut"), b"a,b\n1,2\n");
        assert!(after_last_line(b"no end", "u").is_err());
        let array = br#" [{"a":"]}\""}, {"b":[1,{"c":2}]}, {"d":"#;
        assert_eq!(closed_array(array, "u").expect("cut"), br#" [{"a":"]}\""}, {"b":[1,{"c":2}]}]"#);
        assert!(closed_array(b"[{\"a\":1", "u").is_err());
    }

    #[test]
    fn directories_leave_marker_files_out() {
        let parquet = Format::Parquet;
        assert!(parquet.is_meant("a/b/x.PARQUET"));
        for other in ["a/_SUCCESS", "a/.x.parquet", "a/_x.parquet", "a/x.csv", "a/x.parquet.crc"] {
            assert!(!parquet.is_meant(other), "{other}");
        }
    }
}
