//! `bucket list|create|delete`.

use anyhow::Result;
use benteng_http::api::{BucketInfo, BucketRequest};

use super::all;
use crate::cli::{BucketVerb, Global};
use crate::client::Client;
use crate::output::{done, plain, result, table};

pub(crate) async fn run(global: &Global, verb: BucketVerb) -> Result<()> {
    let client = Client::find(global)?;
    match verb {
        BucketVerb::List => {
            let buckets: Vec<BucketInfo> = all(&client, &["buckets"]).await?;
            result(global.output, &buckets, |buckets| {
                let rows = buckets.iter().map(|b| vec![b.name.clone(), plain(&b.owner), b.created.clone()]);
                table(&["name", "owner", "created"], &rows.collect::<Vec<_>>())
            })
        }
        BucketVerb::Create { name, owner } => {
            let bucket: BucketInfo = client.post(&["buckets"], &BucketRequest { name, owner }).await?;
            result(global.output, &bucket, |b| {
                format!("bucket {} created, owned by {}\n", b.name, plain(&b.owner))
            })
        }
        BucketVerb::Delete { name } => {
            client.delete(&["buckets", &name], &[]).await?;
            done(global.output, &format!("bucket {name} deleted"))
        }
    }
}
