//! `object ls|put|get|rm|stat`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use benteng_http::api::{ObjectInfo, ObjectLine, PutAnswer};
use futures::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Body, Method, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::pages;
use crate::cli::{Global, ObjectVerb, Output};
use crate::client::Client;
use crate::output::{bytes, done, pairs, plain, print, result};
use crate::usage;

/// Bytes of one piece of an upload.
const PIECE: usize = 256 * 1024;

pub(crate) async fn run(global: &Global, verb: ObjectVerb) -> Result<()> {
    let client = Client::find(global)?;
    match verb {
        ObjectVerb::Ls { place, recursive } => list(global, &client, &place, recursive).await,
        ObjectVerb::Put { file, place } => put(global, &client, &file, &place).await,
        ObjectVerb::Get { place, file } => get(global, &client, &place, file).await,
        ObjectVerb::Rm { places } => {
            for place in &places {
                let (bucket, key) = bucket_and_key(place)?;
                client
                    .delete(&["buckets", bucket, "object"], &[("key", key)])
                    .await
                    .with_context(|| place.clone())?;
            }
            done(global.output, &format!("{} objects deleted", places.len()))
        }
        ObjectVerb::Stat { place } => {
            let (bucket, key) = bucket_and_key(&place)?;
            let info: ObjectInfo =
                client.get(&["buckets", bucket, "object", "stat"], &[("key", key)]).await?;
            result(global.output, &info, |info| {
                pairs(&[
                    ("bucket", info.bucket.clone()),
                    ("key", plain(&info.key)),
                    ("size", format!("{} ({} bytes)", bytes(info.bytes), info.bytes)),
                    ("etag", info.etag.clone()),
                    ("modified", info.modified.clone()),
                    ("content type", plain(info.content_type.as_deref().unwrap_or("-"))),
                    ("parts", info.parts.map_or("-".into(), |n| n.to_string())),
                ])
            })
        }
    }
}

/// Splits `BUCKET` or `BUCKET/KEY`. The key is taken as it is: `a//b` is a key of its own.
fn split(place: &str) -> (&str, &str) {
    let bare = place.strip_prefix("s3://").unwrap_or(place);
    bare.split_once('/').unwrap_or((bare, ""))
}

fn bucket_and_key(place: &str) -> Result<(&str, &str)> {
    match split(place) {
        (bucket, key) if !bucket.is_empty() && !key.is_empty() => Ok((bucket, key)),
        _ => Err(usage(&format!("{place:?} does not name an object; write BUCKET/KEY"))),
    }
}

async fn list(global: &Global, client: &Client, place: &str, recursive: bool) -> Result<()> {
    let (bucket, prefix) = split(place);
    if bucket.is_empty() {
        return Err(usage("which bucket? write BUCKET or BUCKET/PREFIX; `benteng bucket list` shows them"));
    }
    let mut query = vec![("prefix", prefix)];
    if !recursive {
        query.push(("delimiter", "/"));
    }
    let path = ["buckets", bucket, "objects"];
    if global.output == Output::Json {
        let mut lines = Vec::new();
        pages::<ObjectLine>(client, &path, &query, |mut page| {
            lines.append(&mut page);
            Ok(())
        })
        .await?;
        return result(global.output, &lines, |_| String::new());
    }
    // Page by page: a listing of millions is not held in memory.
    pages::<ObjectLine>(client, &path, &query, |page| {
        let line = |line: &ObjectLine| {
            let size = line.bytes.map_or("-".into(), |n| n.to_string());
            let modified = line.modified.as_deref().unwrap_or("-");
            format!("{modified:<28} {size:>14}  {}\n", plain(&line.key))
        };
        print(&page.iter().map(line).collect::<String>())
    })
    .await
}

fn bar(total: Option<u64>) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let style = match total {
        Some(_) => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}",
        None => "{spinner} {bytes} {bytes_per_sec}",
    };
    match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        // Only the looks are lost.
        Err(_) => bar,
    }
}

async fn put(global: &Global, client: &Client, file: &Path, place: &str) -> Result<()> {
    let (bucket, key) = split(place);
    let stdin = file == Path::new("-");
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let key = match key {
        "" if stdin => return Err(usage("standard input has no name; write BUCKET/KEY")),
        key if (key.is_empty() || key.ends_with('/')) && !stdin => format!("{key}{name}"),
        key => key.to_owned(),
    };
    if bucket.is_empty() {
        return Err(usage(&format!("{place:?} names no bucket; write BUCKET/KEY")));
    }
    let (source, size): (Box<dyn AsyncRead + Send + Unpin>, Option<u64>) = if stdin {
        (Box::new(tokio::io::stdin()), None)
    } else {
        let opened =
            tokio::fs::File::open(file).await.with_context(|| format!("cannot open {}", file.display()))?;
        let meta = opened.metadata().await.with_context(|| format!("cannot read {}", file.display()))?;
        if meta.is_dir() {
            bail!("{} is a directory; `object put` takes one file", file.display());
        }
        // A pipe has no length that could be declared.
        let size = meta.is_file().then_some(meta.len());
        (Box::new(opened), size)
    };
    let progress = bar(size);
    let request = client.request(Method::PUT, &["buckets", bucket, "object"], &[("key", &key)]);
    let request = match size {
        Some(size) => request.header(header::CONTENT_LENGTH, size),
        None => request,
    };
    let request =
        request.header(header::CONTENT_TYPE, content_type(&key)).body(pieces(source, progress.clone()));
    let response = client.send(request).await;
    progress.finish_and_clear();
    let answer: PutAnswer = response?.json().await.context("the site's answer is not understood")?;
    result(global.output, &answer, |answer| {
        format!("{bucket}/{} stored, etag {}\n", plain(&key), answer.etag)
    })
}

fn pieces(source: Box<dyn AsyncRead + Send + Unpin>, progress: ProgressBar) -> Body {
    Body::wrap_stream(futures::stream::try_unfold(source, move |mut source| {
        let progress = progress.clone();
        async move {
            let mut piece = bytes::BytesMut::with_capacity(PIECE);
            let n = source.read_buf(&mut piece).await?;
            progress.inc(n as u64);
            Ok::<_, std::io::Error>((n > 0).then(|| (piece.freeze(), source)))
        }
    }))
}

/// The media type by the key's ending, for the few kinds that this system is made for.
fn content_type(key: &str) -> &'static str {
    match key.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).as_deref() {
        Some("csv") => "text/csv",
        Some("txt" | "log") => "text/plain",
        Some("json" | "geojson") => "application/json",
        Some("parquet") => "application/vnd.apache.parquet",
        Some("pdf") => "application/pdf",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("html") => "text/html",
        _ => "application/octet-stream",
    }
}

async fn get(global: &Global, client: &Client, place: &str, file: Option<PathBuf>) -> Result<()> {
    let (bucket, key) = bucket_and_key(place)?;
    let target = match file {
        Some(file) => file,
        // Only the last part, and never one that leaves this directory.
        None => match key.rsplit('/').next().filter(|name| !matches!(*name, "" | "." | "..")) {
            Some(name) => PathBuf::from(name),
            None => return Err(usage(&format!("{place:?} ends in no file name; say where to write it"))),
        },
    };
    let request = client.request(Method::GET, &["buckets", bucket, "object"], &[("key", key)]);
    let response = client.send(request).await?;
    let size = response.content_length();
    let progress = bar(size);
    let shown = progress.clone();
    let body = response.bytes_stream().inspect_ok(move |piece| shown.inc(piece.len() as u64)).boxed();
    if target == Path::new("-") {
        let outcome = to_stdout(body).await;
        progress.finish_and_clear();
        return outcome;
    }
    // Beside the target and renamed at the end: whoever sees the name sees all of the bytes (I3).
    let part = part_name(&target);
    let outcome = to_file(body, &part, size).await;
    progress.finish_and_clear();
    if let Err(e) = outcome {
        let _ = tokio::fs::remove_file(&part).await;
        return Err(e);
    }
    tokio::fs::rename(&part, &target).await.with_context(|| format!("cannot write {}", target.display()))?;
    done(global.output, &format!("{} written", target.display()))
}

fn part_name(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".part-{}", std::process::id()));
    target.with_file_name(name)
}

type Pieces = futures::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>;

async fn to_file(mut body: Pieces, path: &Path, size: Option<u64>) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut file = tokio::fs::File::create(path).await.with_context(cannot)?;
    let mut written = 0_u64;
    while let Some(piece) = body.next().await {
        let piece = piece.context("the object broke off; nothing was kept")?;
        file.write_all(&piece).await.with_context(cannot)?;
        written += piece.len() as u64;
    }
    if size.is_some_and(|size| size != written) {
        bail!("the object has {} bytes, {written} came; nothing was kept", size.unwrap_or(0));
    }
    file.sync_all().await.with_context(cannot)
}

async fn to_stdout(mut body: Pieces) -> Result<()> {
    while let Some(piece) = body.next().await {
        let piece = piece.context("the object broke off; what was printed is a part of it")?;
        std::io::stdout().lock().write_all(&piece).context("cannot write to standard output")?;
    }
    std::io::stdout().lock().flush().context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_name_bucket_and_key_as_they_are() {
        let check = |place: &str, expected: Option<(&str, &str)>| {
            assert_eq!(bucket_and_key(place).ok(), expected, "{place}");
        };
        check("b/k", Some(("b", "k")));
        check("s3://b/k/l", Some(("b", "k/l")));
        check("b//k", Some(("b", "/k")));
        check("b/../k", Some(("b", "../k")));
        check("b/", None);
        check("b", None);
        check("/k", None);
        check("", None);
    }
}
