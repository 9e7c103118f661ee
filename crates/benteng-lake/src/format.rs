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
        if files.iter().all(|file| file.size == 0) {
            return Err(bad("it is empty".to_owned()));
        }
        let (format, schema): (Arc<dyn FileFormat>, _) = match self {
            Format::Parquet => {
                let format = ParquetFormat::default();
                let files = &files[..files.len().min(FOOTERS)];
                let schema = format.infer_schema(state, store, files).await?;
                (Arc::new(format), schema)
            }
            Format::Csv(options) => {
                let format = CsvFormat::default().with_options(options.clone());
                let cut =
                    |head: &[u8], whole| if whole { Ok(head.to_vec()) } else { after_last_line(head, url) };
                let (heads, metas) = heads(store, files, &cut).await?;
                let schema = format.infer_schema(state, &heads, &metas).await?;
                (Arc::new(format), schema)
            }
            Format::Json { lines, sample } => {
                let first =
                    store.get_range(&files[0].location, 0..files[0].size.min(1024)).await.map_err(engine)?;
                let array = first.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
                let lines = lines.unwrap_or(!array);
                let format = JsonFormat::default().with_newline_delimited(lines);
                // Columns are inferred line by line, whatever the shape: heads become lines first.
                let split_from = state.config_options().optimizer.repartition_file_min_size as u64;
                let cut = |head: &[u8], whole: bool| {
                    let records = records(head, if lines { 0 } else { 1 }, whole);
                    if records.lines.is_empty() && !whole {
                        return Err(bad(format!("its first object is longer than {HEAD} bytes")));
                    }
                    // Large files are split at line ends, which would cut such objects apart.
                    let large = files.iter().any(|file| file.size >= split_from);
                    if lines && records.span_lines && large {
                        return Err(bad(
                            "its objects span lines; put each on one line, or all into one array".into(),
                        ));
                    }
                    Ok(records.lines)
                };
                let (heads, metas) = heads(store, files, &cut).await?;
                let by_line = JsonFormat::default().with_schema_infer_max_rec(*sample);
                let schema = by_line.infer_schema(state, &heads, &metas).await?;
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

/// Cuts the first bytes of a file to whole records; told whether they are the whole file.
type Cut<'a> = dyn Fn(&[u8], bool) -> Result<Vec<u8>> + Send + Sync + 'a;

/// The first bytes of the first files, cut to whole records, as a store of their own.
async fn heads(
    store: &Arc<dyn ObjectStore>,
    files: &[ObjectMeta],
    cut: &Cut<'_>,
) -> Result<(Arc<dyn ObjectStore>, Vec<ObjectMeta>)> {
    let memory = InMemory::new();
    let mut metas = Vec::new();
    for file in files.iter().filter(|file| file.size > 0).take(HEADS) {
        let head = store.get_range(&file.location, 0..file.size.min(HEAD)).await.map_err(engine)?;
        let head = cut(&head, file.size <= HEAD)?;
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

/// JSON objects, one a line.
struct Records {
    lines: Vec<u8>,
    /// Whether an object spanned lines.
    span_lines: bool,
}

/// The objects at the start of a file, one a line. `base`: 0 for objects one after another,
/// 1 for those in an array. What is behind the last whole object is kept only if it belongs
/// to the file's end: then it is for the parser to say what is wrong with it.
fn records(head: &[u8], base: u32, whole: bool) -> Records {
    let mut out = Records { lines: Vec::with_capacity(head.len()), span_lines: false };
    let (mut depth, mut quoted, mut escaped, mut ended) = (0_u32, false, false, 0);
    for byte in head {
        let outside = !quoted && depth <= base;
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => quoted = false,
            (true, _) => {}
            (false, b'"') => quoted = true,
            (false, b'[' | b'{') => {
                depth += 1;
                if depth <= base {
                    continue;
                }
            }
            (false, b']' | b'}') => {
                if depth <= base {
                    depth = depth.saturating_sub(1);
                    continue;
                }
                depth -= 1;
                if depth == base {
                    out.lines.extend_from_slice(&[*byte, b'\n']);
                    ended = out.lines.len();
                    continue;
                }
            }
            // Line ends within an object are blanks; strings cannot hold them.
            (false, b'\n' | b'\r') => {
                out.span_lines |= !outside;
                out.lines.push(b' ');
                continue;
            }
            (false, b',') if outside && base > 0 => continue,
            (false, _) => {}
        }
        out.lines.push(*byte);
    }
    if !whole || out.lines[ended..].iter().all(u8::is_ascii_whitespace) {
        out.lines.truncate(ended);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_cut_to_whole_records() {
        assert_eq!(after_last_line(b"a,b\n1,2\n3,", "u").expect("cut"), b"a,b\n1,2\n");
        assert!(after_last_line(b"no end", "u").is_err());
    }

    #[test]
    fn json_of_any_shape_becomes_lines() {
        let check = |head: &[u8], base, whole, expected: &[u8], span| {
            let records = records(head, base, whole);
            let shown = String::from_utf8_lossy(&records.lines).into_owned();
            assert_eq!((records.lines.as_slice(), records.span_lines), (expected, span), "{shown}");
        };
        let array = br#" [{"a":"]}\""}, {"b":[1,{"c":2}]}, {"d":"#;
        check(array, 1, false, b" {\"a\":\"]}\\\"\"}\n {\"b\":[1,{\"c\":2}]}\n", false);
        check(b"[\n{\"a\":\n1},{\"a\":2}\n]\n", 1, true, b" {\"a\": 1}\n{\"a\":2}\n", true);
        check(b"{\"a\":1}\n{\"a\":2}\n{\"a\"", 0, false, b"{\"a\":1}\n {\"a\":2}\n", false);
        check(b"{\"a\":1}\n{\"a\":", 0, true, b"{\"a\":1}\n {\"a\":", false);
        check(b"[{\"a\":1", 1, false, b"", false);
        check(b"]]}}", 1, true, b"", false);
        check(b"", 0, true, b"", false);
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(head in "[\\[\\]{},\"a\\\\\n ]{0,40}", base in 0_u32..2, whole: bool) {
            let _ = records(head.as_bytes(), base, whole);
        }
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
