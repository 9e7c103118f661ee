//! The whole door with a real client (tokio-postgres), over objects and system rows in memory.

mod site; // a door over memory

use std::time::Duration;

use futures::StreamExt;
use site::{Site, code};
use tokio_postgres::{NoTls, SimpleQueryMessage};

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_checked_and_refused_alike() {
    let site = Site::open().await;
    site.client().await;
    for config in [site.config("admin", "wrong"), site.config("nobody", "rahasia")] {
        let error = config.connect(NoTls).await.err().expect("refused");
        let db = error.as_db_error().expect("told why");
        assert_eq!(db.code().code(), "28P01");
        assert!(db.message().starts_with("password authentication failed for user"), "{db:?}");
    }
    let mut other = site.config("admin", site::PASSWORD);
    assert_eq!(code(other.dbname("postgres").connect(NoTls).await.err()), "3D000");
    // An auditor may log in nowhere near data.
    assert_eq!(code(site.config("auditor", site::PASSWORD).connect(NoTls).await.err()), "42501");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_carry_their_sqlstate_and_the_session_goes_on() {
    let site = Site::open().await;
    let client = site.client().await;
    for (sql, expected) in [
        ("SELEC 1", "42601"),
        ("SELECT * FROM no_such_table", "42P01"),
        ("SELECT * FROM no_such_schema.t", "42P01"),
        ("SELECT nope FROM system.nodes", "42703"),
        ("SELECT no_such_function(1)", "42883"),
        ("SELECT * FROM no_such_table_function(1)", "42883"),
        ("SELECT 1 / 0", "22012"),
        ("SELECT 'x'::int", "22P02"),
        ("SELECT CAST(99999999999 AS int)", "22003"),
        ("SELECT name, count(*) FROM system.nodes", "42803"),
        ("SELECT $1", "42P02"),
        ("SELECT * FROM read_csv('s3://data/none.csv')", "58P01"),
        ("SELECT * FROM read_csv('s3://data/none/*.csv')", "58P01"),
        ("SELECT * FROM read_csv('s3://data/ragged.csv')", "22P04"),
        ("SELECT * FROM read_parquet('s3://data/areas.csv')", "22P04"),
        ("SELECT * FROM read_json('s3://data/broken.json')", "22P04"),
        ("SELECT * FROM read_csv('s3://data/areas.csv', colour => 1)", "22023"),
        ("SELECT * FROM read_csv('/etc/passwd')", "42501"),
        ("SELECT * FROM '/etc/passwd'", "42501"),
        ("COPY (SELECT 1) TO '/tmp/x'", "42501"),
        ("CREATE TABLE t (x int)", "0A000"),
        ("INSERT INTO system.nodes VALUES (1)", "0A000"),
        ("SET datafusion.execution.batch_size = 1", "42501"),
        ("SET nope = 1", "42704"),
        ("SET client_encoding = 'x'", "22023"),
        ("SHOW nope", "42704"),
        ("FETCH 1 FROM c", "34000"),
        ("DECLARE c CURSOR FOR SELECT 1", "25P01"),
        ("SAVEPOINT a", "25P01"),
    ] {
        assert_eq!(code(client.simple_query(sql).await.err()), expected, "{sql}");
    }
    assert_eq!(site::first(&client, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_in_every_format() {
    let site = Site::open().await;
    let client = site.client().await;
    for (sql, expected) in [
        ("SELECT sum(warga) FROM read_csv('s3://data/areas.csv')", "600"),
        ("SELECT max(nama) FROM read_csv('s3://data/semi.tsv', delimiter => ';', header => true)", "b;c"),
        ("SELECT count(*) FROM read_csv(['s3://data/areas.csv', 's3://data/more/areas.csv'])", "6"),
        ("SELECT count(*) FROM read_csv('s3://data/**/areas.csv') AS a", "6"),
        ("SELECT sum(x) FROM read_json('s3://data/lines.ndjson')", "3"),
        ("SELECT sum(x) FROM read_json('s3://data/array.json')", "7"),
        ("SELECT count(*) FROM read_parquet('s3://data/p/')", "2000"),
        ("SELECT max(n) FROM read_parquet('s3://data/p/*.parquet') WHERE n < 1500", "1499"),
        ("SELECT read_csv.nama FROM read_csv('s3://data/areas.csv') ORDER BY 1 LIMIT 1", "Betoambari"),
        (
            "WITH a AS (SELECT * FROM read_csv('s3://data/areas.csv')) SELECT count(*) FROM a JOIN a b USING (nama)",
            "3",
        ),
    ] {
        assert_eq!(site::first(&client, sql).await, expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_take_parameters_in_text_and_binary() {
    let site = Site::open().await;
    let client = site.client().await;
    let row = client
        .query_one(
            "SELECT $1::int4, $2::text || 'x', $3::float8, $4::bool, $5::int8",
            &[&41_i32, &"a", &1.5_f64, &true, &(1_i64 << 40)],
        )
        .await
        .expect("runs");
    assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (41, "ax"));
    assert_eq!((row.get::<_, f64>(2), row.get::<_, bool>(3), row.get::<_, i64>(4)), (1.5, true, 1 << 40));
    let statement =
        client.prepare("SELECT nama FROM read_csv('s3://data/areas.csv') WHERE warga > $1 ORDER BY 1").await;
    let statement = statement.expect("prepares");
    assert_eq!(statement.params()[0].name(), "int8");
    for (least, expected) in [(0_i64, 3), (150, 2), (1000, 0)] {
        assert_eq!(client.query(&statement, &[&least]).await.expect("runs").len(), expected);
    }
    let null: Option<i64> = None;
    assert_eq!(client.query(&statement, &[&null]).await.expect("runs").len(), 0);
    let statement = client.prepare("SELECT 1 AS a, count(*), 2").await.expect("prepares");
    let names: Vec<&str> = statement.columns().iter().map(tokio_postgres::Column::name).collect();
    assert_eq!(names, ["a", "count", "?column?"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_are_suspended_and_resumed() {
    let site = Site::open().await;
    let mut client = site.client().await;
    let transaction = client.transaction().await.expect("begins");
    let statement =
        transaction.prepare("SELECT n FROM generate_series(1, 2500) AS g(n)").await.expect("prepares");
    let portal = transaction.bind(&statement, &[]).await.expect("binds");
    let mut seen = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 1000).await.expect("fetches");
        if rows.is_empty() {
            break;
        }
        seen.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
    }
    assert_eq!(seen, (1..=2500).collect::<Vec<i64>>());
    transaction.commit().await.expect("commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_run_forward_and_end_with_their_block() {
    let site = Site::open().await;
    let client = site.client().await;
    let count = |messages: &[SimpleQueryMessage]| {
        messages.iter().filter(|m| matches!(m, SimpleQueryMessage::Row(_))).count()
    };
    client
        .batch_execute("BEGIN; DECLARE c CURSOR FOR SELECT n FROM generate_series(1, 10) AS g(n)")
        .await
        .expect("declares");
    assert_eq!(count(&client.simple_query("FETCH 4 FROM c").await.expect("fetches")), 4);
    client.batch_execute("MOVE 3 IN c").await.expect("moves");
    assert_eq!(site::first(&client, "FETCH NEXT FROM c").await, "8");
    assert_eq!(count(&client.simple_query("FETCH ALL FROM c").await.expect("fetches")), 2);
    assert_eq!(count(&client.simple_query("FETCH ALL FROM c").await.expect("fetches")), 0);
    client.batch_execute("COMMIT").await.expect("commits");
    assert_eq!(code(client.simple_query("FETCH 1 FROM c").await.err()), "34000");
    client.batch_execute("DECLARE h CURSOR WITH HOLD FOR SELECT 1").await.expect("declares");
    assert_eq!(site::first(&client, "FETCH 1 FROM h").await, "1");
    client.batch_execute("CLOSE ALL").await.expect("closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_honest() {
    let site = Site::open().await;
    let client = site.client().await;
    client.batch_execute("BEGIN; SET timezone = 'Asia/Makassar'").await.expect("begins");
    assert_eq!(site::first(&client, "SHOW TimeZone").await, "Asia/Makassar");
    client.simple_query("SELECT nope").await.expect_err("fails");
    assert_eq!(code(client.simple_query("SELECT 1").await.err()), "25P02");
    client.batch_execute("COMMIT").await.expect("rolls back");
    assert_eq!(site::first(&client, "SHOW TimeZone").await, "UTC");
    client.batch_execute("BEGIN; SAVEPOINT a").await.expect("begins");
    client.simple_query("SELECT nope").await.expect_err("fails");
    client.batch_execute("ROLLBACK TO a").await.expect("goes on");
    assert_eq!(site::first(&client, "SELECT 1").await, "1");
    client.batch_execute("SET LOCAL timezone = '+08:00'; COMMIT").await.expect("commits");
    assert_eq!(site::first(&client, "SHOW timezone").await, "UTC");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_share_nothing_and_times_follow_the_zone() {
    let site = Site::open().await;
    let (one, other) = (site.client().await, site.client().await);
    one.batch_execute("SET timezone = 'Asia/Makassar'; SET search_path = system").await.expect("sets");
    assert_eq!(
        site::first(&one, "SELECT '1970-01-01T00:00:00Z'::timestamptz").await,
        "1970-01-01 08:00:00+08"
    );
    assert_eq!(site::first(&one, "SELECT count(*) FROM nodes").await, "1");
    assert_eq!(site::first(&other, "SHOW timezone").await, "UTC");
    assert_eq!(code(other.simple_query("SELECT count(*) FROM nodes").await.err()), "42P01");
    one.batch_execute("DISCARD ALL").await.expect("discards");
    assert_eq!(site::first(&one, "SHOW timezone").await, "UTC");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_see_what_is_theirs() {
    let site = Site::open().await;
    let (admin, ana) = (site.client().await, site.client_of("ana").await);
    assert_eq!(site::first(&admin, "SELECT count(*) FROM system.buckets").await, "3");
    assert_eq!(site::first(&admin, "SELECT count(*) FROM system.objects").await, "2502");
    assert_eq!(site::first(&admin, "SELECT count(*) FROM system.objects WHERE bucket = 'big'").await, "2500");
    assert_eq!(site::first(&admin, "SELECT state FROM system.nodes").await, "active");
    assert_eq!(site::first(&ana, "SELECT string_agg(name, ',') FROM system.buckets").await, "ana-1");
    assert_eq!(site::first(&ana, "SELECT string_agg(key, ',') FROM system.objects").await, "a,b");
    assert_eq!(site::first(&ana, "SELECT count(*) FROM system.objects WHERE bucket = 'big'").await, "0");
    assert_eq!(code(ana.simple_query("SELECT * FROM system.nodes").await.err()), "42501");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_the_query_itself_and_frees_its_threads() {
    let site = Site::open().await;
    for sql in [
        "SELECT count(*) FROM generate_series(1, 2000000) AS g(n) JOIN generate_series(1, 2000000) AS h(m) ON n + m < 0",
        "SELECT count(*) FROM generate_series(1, 2000000) CROSS JOIN generate_series(1, 2000000) b",
        "SELECT * FROM generate_series(1, 4000000000)",
        "SELECT sum(n) FROM generate_series(1, 4000000000000) AS g(n)",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n FROM t) SELECT count(*) FROM t",
    ] {
        let client = site.client().await;
        let token = client.cancel_token();
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            token.cancel_query(NoTls).await.expect("asks");
        };
        let query = async {
            client.simple_query_raw(sql).await?.for_each(|row| async { drop(row) }).await;
            client.simple_query("SELECT 1").await
        };
        let both = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(query, cancel) }).await;
        let (after, ()) = both.unwrap_or_else(|_| panic!("still running: {sql}"));
        after.unwrap_or_else(|e| panic!("the session goes on after {sql}: {e}"));
        let free = tokio::time::timeout(
            Duration::from_secs(10),
            site::first(&client, "SELECT count(*) FROM generate_series(1, 1000)"),
        );
        assert_eq!(free.await.unwrap_or_else(|_| panic!("threads still held by {sql}")), "1000");
    }
    site.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_ends_when_its_time_is_over() {
    let site = Site::open().await;
    let client = site.client().await;
    client.batch_execute("SET statement_timeout = 300").await.expect("sets");
    let long = "SELECT sum(n) FROM generate_series(1, 4000000000000) AS g(n)";
    assert_eq!(code(client.simple_query(long).await.err()), "57014");
    assert_eq!(code(client.query(long, &[]).await.err()), "57014");
    site.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_what_does_not_fit_spills_sealed_or_fails_alone() {
    let site = Site::open().await;
    let client = site.client().await;
    let sorted = "SELECT max(k) FROM (SELECT md5(n::text) || repeat('rahasia', 20) AS k \
                  FROM generate_series(1, 700000) AS g(n) ORDER BY k OFFSET 1)";
    assert!(site::first(&client, sorted).await.ends_with("rahasia"));
    let grouped = "SELECT count(*) FROM (SELECT md5(n::text) AS k, count(*) FROM generate_series(1, 400000) AS g(n) GROUP BY 1)";
    assert_eq!(site::first(&client, grouped).await, "400000");
    let joined = "SELECT count(*) FROM (SELECT repeat(md5(n::text), 8) AS k FROM generate_series(1, 300000) AS g(n)) a \
                  JOIN (SELECT repeat(md5(n::text), 8) AS k FROM generate_series(1, 300000) AS g(n)) b ON a.k = b.k";
    assert_eq!(code(client.simple_query(joined).await.err()), "53200");
    assert_eq!(site::first(&client, "SELECT 1").await, "1");
    site.settles().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_stop_says_goodbye() {
    let site = Site::open().await;
    let mut clients = Vec::new();
    for _ in 0..site::CONNECTIONS {
        clients.push(site.client().await);
    }
    assert_eq!(code(site.config("admin", site::PASSWORD).connect(NoTls).await.err()), "53300");
    let client = clients.pop().expect("one");
    let running = tokio::spawn(async move {
        client.simple_query("SELECT sum(n) FROM generate_series(1, 4000000000000) AS g(n)").await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    tokio::time::timeout(Duration::from_secs(5), site.stop()).await.expect("stops in time");
    assert_eq!(code(running.await.expect("joins").err()), "57P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_psql_asks_is_answered() {
    let site = Site::open().await;
    let client = site.client().await;
    // `\dt system.*`, `\d system.nodes` (first of its queries), `\l` and `\dn` of psql 15.
    for sql in [
        "SELECT n.nspname as \"Schema\", c.relname as \"Name\", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' END as \"Type\", pg_catalog.pg_get_userbyid(c.relowner) as \"Owner\" FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam WHERE c.relkind IN ('r','p','s','') AND n.nspname OPERATOR(pg_catalog.~) '^(system)$' COLLATE pg_catalog.default ORDER BY 1,2",
        "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relname OPERATOR(pg_catalog.~) '^(nodes)$' COLLATE pg_catalog.default AND n.nspname OPERATOR(pg_catalog.~) '^(system)$' COLLATE pg_catalog.default ORDER BY 2, 3",
        "SELECT n.nspname AS \"Name\", pg_catalog.pg_get_userbyid(n.nspowner) AS \"Owner\" FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1",
        "SELECT d.datname FROM pg_catalog.pg_database d ORDER BY 1",
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'system'",
        "SELECT current_user, session_user, current_database(), current_schema(), version(), pg_backend_pid(), current_setting('server_version_num')",
        "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_size_pretty(1048576::bigint)",
    ] {
        let rows = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert!(rows.iter().any(|m| matches!(m, SimpleQueryMessage::Row(_))), "no rows: {sql}");
    }
    assert_eq!(site::first(&client, "SELECT session_user").await, "admin");
}
