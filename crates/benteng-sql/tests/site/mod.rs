//! A door over memory: real sockets, real SCRAM, real DataFusion; objects in `InMemory`
//! stores, system rows in vectors.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use benteng_host::real::host;
use benteng_identity::{Principal, Role, Scram, make_scram};
use benteng_lake::{Lake, LakeOptions, Result, StoreSource, SystemSnapshot, SystemSource, Viewer};
use benteng_meta::ids::*;
use benteng_meta::{BucketRow, Doors, ETag, NodeRow, NodeState, ObjectRow, UsageRow};
use benteng_sql::{Logins, Options, PgDoor};
use bytes::Bytes;
use futures::future::BoxFuture;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

pub(crate) const PASSWORD: &str = "rahasia";
pub(crate) const CONNECTIONS: usize = 8;

pub(crate) struct Site {
    door: PgDoor,
    lake: Lake,
    spill: tempfile::TempDir,
}

impl Site {
    pub(crate) async fn open() -> Site {
        let spill = tempfile::tempdir().expect("temporary directory");
        let options = LakeOptions {
            query_memory: 64 << 20,
            memory: 96 << 20,
            threads: 2,
            ..LakeOptions::small(spill.path())
        };
        let stores = Arc::new(Stores(data().await));
        let lake = Lake::over(&host(), stores, Arc::new(Rows), options).expect("lake");
        let options = Options { max_connections: CONNECTIONS, ..Options::new("127.0.0.1:0") };
        let door = PgDoor::start(host(), Users, lake.clone(), options).await.expect("door");
        Site { door, lake, spill }
    }

    pub(crate) fn config(&self, user: &str, password: &str) -> Config {
        let (host, port) = self.door.local_addr().rsplit_once(':').expect("ip:port");
        let mut config = Config::new();
        config.host(host).port(port.parse().expect("port")).user(user).password(password).dbname("benteng");
        config.connect_timeout(Duration::from_secs(30));
        config
    }

    pub(crate) async fn client(&self) -> Client {
        self.client_of("admin").await
    }

    pub(crate) async fn client_of(&self, user: &str) -> Client {
        let (client, connection) = self.config(user, PASSWORD).connect(NoTls).await.expect("logs in");
        tokio::spawn(connection);
        client
    }

    pub(crate) async fn stop(self) {
        self.door.stop().await;
    }

    /// Waits until no query holds memory or spill files.
    pub(crate) async fn settles(&self) {
        for _ in 0..200 {
            let files = std::fs::read_dir(self.spill.path()).expect("listing").count();
            if self.lake.in_use() == (0, 0) && files == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("I7: queries still hold {:?} (memory, spill)", self.lake.in_use());
    }
}

/// The first value of the first row, as text.
pub(crate) async fn first(client: &Client, sql: &str) -> String {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let row = messages.iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
        _ => None,
    });
    row.unwrap_or_else(|| panic!("no row: {sql}"))
}

/// The SQLSTATE of an error.
pub(crate) fn code(error: Option<tokio_postgres::Error>) -> String {
    let error = error.expect("an error");
    error.code().map_or_else(|| panic!("no SQLSTATE: {error:?}"), |code| code.code().to_owned())
}

/// Users: `admin` (admin), `ana` (sistem), `auditor`.
struct Users;

impl Logins for Users {
    fn scram(
        &self,
        user: &str,
    ) -> BoxFuture<'static, std::result::Result<Option<(Principal, Scram)>, benteng_identity::Error>> {
        let role = match user {
            "admin" => Some(Role::Admin),
            "ana" => Some(Role::Produsen),
            "auditor" => Some(Role::Auditor),
            _ => None,
        };
        let user = user.to_owned();
        Box::pin(async move {
            let principal = |role| Principal { name: user, roles: vec![role], opd: None };
            Ok(role.map(|role| (principal(role), make_scram(PASSWORD, [7; 16], 4096))))
        })
    }
}

/// One bucket, `data`, for everybody.
#[derive(Debug)]
struct Stores(Arc<dyn ObjectStore>);

impl StoreSource for Stores {
    fn store(&self, _viewer: &Viewer, bucket: &str) -> Arc<dyn ObjectStore> {
        if bucket == "data" { Arc::clone(&self.0) } else { Arc::new(InMemory::new()) }
    }
}

async fn data() -> Arc<dyn ObjectStore> {
    let store = InMemory::new();
    let areas = "nama,warga\nWolio,100\nMurhum,200\nBetoambari,300\n";
    let numbers = |from: i64| {
        let column = Arc::new(Int64Array::from_iter_values(from..from + 1000));
        let batch = RecordBatch::try_from_iter([("n", column as _)]).expect("batch");
        let mut out = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut out, batch.schema(), None).expect("writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        out
    };
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("areas.csv", areas.into()),
        ("more/areas.csv", areas.into()),
        ("semi.tsv", b"id;nama\n1;a\n2;\"b;c\"\n".to_vec()),
        ("ragged.csv", b"a,b\n1,2\n3,4,5\n".to_vec()),
        ("lines.ndjson", b"{\"x\":1}\n{\"x\":2}\n".to_vec()),
        ("array.json", b"[{\"x\":3},\n {\"x\":4}]".to_vec()),
        ("broken.json", b"{\"x\":1}\n{\"x\":\n".to_vec()),
        ("p/0.parquet", numbers(0)),
        ("p/1.parquet", numbers(1000)),
        ("p/_SUCCESS", b"x".to_vec()),
    ];
    for (key, body) in files {
        store.put(&Path::from(key), body.into()).await.expect("stored");
    }
    Arc::new(store)
}

/// Buckets `ana-1` (of ana: a, b), `big` (of admin: 2,500 objects), `empty` (of admin).
#[derive(Debug)]
struct Rows;

impl SystemSource for Rows {
    fn snapshot(&self) -> BoxFuture<'static, Result<Arc<dyn SystemSnapshot>>> {
        Box::pin(async { Ok(Arc::new(Rows) as Arc<dyn SystemSnapshot>) })
    }
}

fn bucket(name: &str) -> Option<BucketRow> {
    let (id, owner) = match name {
        "ana-1" => (1, "ana"),
        "big" => (2, "admin"),
        "empty" => (3, "admin"),
        _ => return None,
    };
    let id = BucketId::from_random([id; 16]);
    Some(BucketRow { id, owner: owner.into(), created: SiteTime(0), key: Bytes::new(), kek: KekVersion(1) })
}

impl SystemSnapshot for Rows {
    fn nodes(&self) -> Result<Vec<(NodeId, NodeRow)>> {
        let row = NodeRow {
            name: "node-1".into(),
            zone: "a".into(),
            doors: Doors::default(),
            store: StoreId::from_random([9; 16]),
            state: NodeState::Active,
            joined: SiteTime(0),
        };
        Ok(vec![(NodeId(1), row)])
    }

    fn buckets(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, BucketRow, UsageRow)>> {
        let names =
            ["ana-1", "big", "empty"].into_iter().filter(|name| after.is_none_or(|after| *name > after));
        let row = |name: &str| Some((name.to_owned(), bucket(name)?, UsageRow::default()));
        Ok(names.take(limit).filter_map(row).collect())
    }

    fn bucket(&self, name: &str) -> Result<Option<BucketRow>> {
        Ok(bucket(name))
    }

    fn objects(&self, id: BucketId, after: Option<&str>, limit: usize) -> Result<Vec<(String, ObjectRow)>> {
        let of = |name| bucket(name).is_some_and(|row| row.id == id);
        let keys: Vec<String> = match () {
            () if of("ana-1") => vec!["a".into(), "b".into()],
            () if of("big") => (0..2500).map(|n| format!("key-{n:05}")).collect(),
            () => Vec::new(),
        };
        let row = ObjectRow {
            blob: BlobId::from_random([1; 16]),
            size: 3,
            etag: ETag { md5: [0; 16], parts: None },
            modified: SiteTime(0),
            seq: StateSeq(1),
            checksum: None,
        };
        let keys = keys.into_iter().filter(|key| after.is_none_or(|after| key.as_str() > after));
        Ok(keys.take(limit).map(|key| (key, row.clone())).collect())
    }
}
