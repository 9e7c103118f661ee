//! The sample data, and a query over it through the SQL door. Source and licence: `cluster/demo/NOTICE.md`.

use anyhow::{Context, Result};
use benteng_http::api::{BucketInfo, BucketRequest};
use reqwest::Method;

use super::site::{LOCALHOST, Site};
use crate::admin::ADMIN;
use crate::client::Refused;
use crate::commands::sql::{Session, show};

const BUCKET: &str = "demo";

macro_rules! file {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../demo/", $name)).as_slice())
    };
}

const FILES: &[(&str, &[u8])] = &[
    file!("NOTICE.md"),
    file!("idn-area/LICENSE-ODbL.md"),
    file!("idn-area/provinces.csv"),
    file!("idn-area/regencies.csv"),
    file!("idn-area/districts.csv"),
    file!("idn-area/villages.csv"),
    file!("idn-area/islands.csv"),
    file!("laporan-warga.parquet"),
];

/// What is asked: districts and villages of each regency and city, and what citizens of Baubau reported.
const QUESTIONS: &[(&str, &str)] = &[
    (
        "Kecamatan and villages of Sulawesi Tenggara (province 74), by regency and city; Baubau is 74.72:",
        "SELECT r.code, r.name, count(DISTINCT d.code) AS districts, count(v.code) AS villages,
                CASE WHEN r.code = '74.72' THEN '<- Baubau' ELSE '' END AS here
         FROM read_csv('s3://demo/idn-area/regencies.csv', all_varchar => true) AS r
         JOIN read_csv('s3://demo/idn-area/districts.csv', all_varchar => true) AS d ON d.regency_code = r.code
         JOIN read_csv('s3://demo/idn-area/villages.csv', all_varchar => true) AS v ON v.district_code = d.code
         GROUP BY r.code, r.name ORDER BY r.code",
    ),
    (
        "Reports of citizens in Baubau by kecamatan (invented figures):",
        "SELECT d.name AS kecamatan, sum(l.reports) AS reports,
                round(100.0 * sum(l.settled) / sum(l.reports), 1) AS settled_percent
         FROM read_parquet('s3://demo/laporan-warga.parquet') AS l
         JOIN read_csv('s3://demo/idn-area/villages.csv', all_varchar => true) AS v ON v.code = l.village_code
         JOIN read_csv('s3://demo/idn-area/districts.csv', all_varchar => true) AS d ON d.code = v.district_code
         GROUP BY d.name ORDER BY reports DESC",
    ),
];

/// Stores the sample and returns the answers. Running it again stores the same bytes again.
pub(super) async fn run(site: &Site) -> Result<String> {
    let client = site.client(1)?;
    let created: Result<BucketInfo> =
        client.post(&["buckets"], &BucketRequest { name: BUCKET.into(), owner: None }).await;
    if let Err(error) = created {
        // It is there from an earlier run.
        let taken = error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == "bucket_taken");
        if !taken {
            return Err(error.context("cannot create the demo bucket"));
        }
    }
    for (key, bytes) in FILES {
        let request =
            client.request(Method::PUT, &["buckets", BUCKET, "object"], &[("key", key)]).body(*bytes);
        client.send(request).await.with_context(|| format!("cannot store {key}"))?;
    }
    let password = site.root().dev_credential(ADMIN);
    let session =
        Session::connect(LOCALHOST, site.first().sql, ADMIN, &password.password, "benteng", None).await?;
    let mut out = format!("{} sample files stored in s3://{BUCKET}\n\n", FILES.len());
    for (title, query) in QUESTIONS {
        out.push_str(&format!("{title}\n{}\n", show(&session, query).await?));
    }
    Ok(out)
}
