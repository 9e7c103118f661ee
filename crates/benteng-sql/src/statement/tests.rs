//! Statements: what is admitted, and how the rest is refused.

use proptest::prelude::*;

use super::*;

fn all(text: &str) -> Result<Vec<Statement>, SqlError> {
    read_all(&PostgresCompatibilityParser::new(), text)
}

fn one(text: &str) -> Statement {
    let mut statements = all(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    assert_eq!(statements.len(), 1, "{text}: {statements:?}");
    statements.remove(0)
}

fn code(text: &str) -> &'static str {
    match all(text) {
        Ok(statements) => panic!("{text} is taken: {statements:?}"),
        Err(e) => e.code,
    }
}

#[test]
fn texts_are_split_where_statements_end_and_nowhere_else() {
    let sql = |text: &str| -> Vec<String> {
        let texts = all(text).expect(text).into_iter().map(|s| match s {
            Statement::Query(q) => q.sql,
            other => format!("{other:?}"),
        });
        texts.collect()
    };
    assert_eq!(sql("SELECT 1; SELECT 2"), ["SELECT 1", "SELECT 2"]);
    assert_eq!(
        sql("SELECT ';' ; SELECT \"a;b\" FROM t; SELECT $$;$$"),
        ["SELECT ';'", "SELECT \"a;b\" FROM t", "SELECT $$;$$"]
    );
    assert_eq!(
        sql("SELECT 1 -- x;y\n; /* ; */ SELECT 'é;ü';\nSELECT 3"),
        ["SELECT 1 -- x;y", "/* ; */ SELECT 'é;ü'", "SELECT 3"]
    );
    assert_eq!(sql(";;  ; -- nothing\n"), Vec::<String>::new());
    assert_eq!(sql("SELECT 'a\r\nb'; SELECT 2"), ["SELECT 'a\r\nb'", "SELECT 2"]);
}

#[test]
fn session_statements_are_read() {
    let set = |name: &str, value: Option<&str>, local| Statement::Set {
        name: name.into(),
        value: value.map(Into::into),
        local,
    };
    assert_eq!(one("SET statement_timeout = 5000"), set("statement_timeout", Some("5000"), false));
    assert_eq!(
        one("set local search_path to System, \"Public\""),
        set("search_path", Some("System, Public"), true)
    );
    assert_eq!(one("SET SESSION extra_float_digits = -3"), set("extra_float_digits", Some("-3"), false));
    assert_eq!(one("SET TIME ZONE 'Asia/Makassar'"), set("timezone", Some("Asia/Makassar"), false));
    assert_eq!(one("SET TIME ZONE LOCAL"), set("timezone", None, false));
    assert_eq!(one("SET NAMES 'UTF8'"), set("client_encoding", Some("UTF8"), false));
    assert_eq!(one("SET DateStyle=ISO"), set("datestyle", Some("ISO"), false));
    assert_eq!(
        one("SET datafusion.execution.batch_size = 1"),
        set("datafusion.execution.batch_size", Some("1"), false)
    );
    assert_eq!(
        one("SHOW transaction isolation level"),
        Statement::Show(Some("transaction_isolation".into()))
    );
    assert_eq!(one("SHOW TIME ZONE"), Statement::Show(Some("timezone".into())));
    assert_eq!(one("SHOW ALL"), Statement::Show(None));
    assert_eq!(one("RESET ALL"), Statement::Reset(None));
    assert_eq!(one("BEGIN"), Statement::Begin("BEGIN"));
    assert_eq!(one("begin transaction isolation level read committed, read only"), Statement::Begin("BEGIN"));
    assert_eq!(one("START TRANSACTION READ ONLY"), Statement::Begin("START TRANSACTION"));
    assert_eq!(one("END"), Statement::Commit);
    assert_eq!(one("ABORT"), Statement::Rollback);
    assert_eq!(one("ROLLBACK TO SAVEPOINT a"), Statement::RollbackTo("a".into()));
    assert_eq!(one("DISCARD ALL"), Statement::Discard(Discard::All));
    assert_eq!(one("DEALLOCATE ALL"), Statement::Deallocate(None));
    assert_eq!(one("CLOSE \"C1\""), Statement::Close(Some("C1".into())));
    assert_eq!(one("UNLISTEN *"), Statement::Unlisten);
    let fetch = |count, moving| Statement::Fetch { name: "c".into(), count, moving };
    assert_eq!(one("FETCH FORWARD 10 FROM c"), fetch(Count::Rows(10), false));
    assert_eq!(one("FETCH ALL IN c"), fetch(Count::All, false));
    assert_eq!(one("FETCH NEXT c"), fetch(Count::Rows(1), false));
    assert_eq!(one("MOVE 5 c"), fetch(Count::Rows(5), true));
}

#[test]
fn cursors_take_the_query_behind_for() {
    let Statement::Declare { name, hold, query } =
        one("DECLARE \"c\" CURSOR WITH HOLD FOR SELECT 'for' AS for_x")
    else {
        panic!("a cursor")
    };
    assert_eq!((name.as_str(), hold, query.sql.trim()), ("c", true, "SELECT 'for' AS for_x"));
    assert_eq!(code("DECLARE c SCROLL CURSOR FOR SELECT 1"), "55000");
    assert_eq!(code("DECLARE c CURSOR FOR DELETE FROM t"), "0A000");
    assert_eq!(code("FETCH BACKWARD 1 FROM c"), "55000");
    assert_eq!(code("FETCH -1 FROM c"), "55000");
}

#[test]
fn what_writes_is_refused_with_a_word_on_what_to_use() {
    for sql in [
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET x = 1",
        "DELETE FROM t",
        "CREATE TABLE t (x int)",
        "CREATE TABLE t AS SELECT 1",
        "DROP TABLE t",
        "ALTER TABLE t ADD x int",
        "TRUNCATE t",
        "SELECT 1 INTO t",
        "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
        "EXPLAIN INSERT INTO t VALUES (1)",
        "GRANT SELECT ON t TO ana",
        "COPY t FROM STDIN",
        "COPY (SELECT 1) TO STDOUT",
        "PREPARE p AS SELECT 1",
        "LISTEN x",
        "BEGIN READ WRITE",
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        "SET ROLE admin",
        "SET SESSION AUTHORIZATION admin",
    ] {
        assert_eq!(code(sql), "0A000", "{sql}");
    }
}

#[test]
fn what_reaches_files_is_refused() {
    for sql in [
        "COPY (SELECT 1) TO '/tmp/x'",
        "COPY t TO '/etc/cron.d/x' STORED AS CSV",
        "COPY t FROM '/etc/passwd'",
        "COPY t TO PROGRAM 'sh'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "LOAD 'x.so'",
    ] {
        assert_eq!(code(sql), "42501", "{sql}");
    }
    let nested = all("EXPLAIN COPY t TO '/tmp/x'").expect_err("refused").code;
    assert!(["42501", "0A000", "42601"].contains(&nested), "{nested}");
}

#[test]
fn malformed_texts_are_syntax_errors() {
    for sql in [
        "SELEC 1",
        "SELECT 1 FROM",
        "SELECT 'open",
        "SET",
        "SET x",
        "FETCH",
        "SELECT 1; SELEC 2",
        "§",
        "SHOW a b",
    ] {
        assert_eq!(code(sql), "42601", "{sql}");
    }
    assert_eq!(
        read_one(&PostgresCompatibilityParser::new(), "SELECT 1; SELECT 2").expect_err("two").code,
        "42601"
    );
}

#[test]
fn i7_texts_too_deep_for_the_parser_are_refused_and_what_passes_fits_the_stack() {
    let chain = |n: usize, what: &str| format!("SELECT 1{}", what.repeat(n));
    assert_eq!(code(&chain(STRUCTURE_MAX + 1, " + 1")), "54001");
    assert_eq!(code(&format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000))), "54001");
    let runtime = benteng_lake::QueryRuntime::start(1).expect("threads");
    let tokio = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    for what in [" + 1", " OR x = 1", "::int", " || 'a'", " IS NULL", " BETWEEN 1 AND 2"] {
        let per = what.split_whitespace().filter(|w| !w.starts_with(['1', 'x', '2', '\''])).count().max(1);
        let text = chain(STRUCTURE_MAX / per / 2, what);
        tokio.block_on(runtime.run(async move { all(&text).map(|_| ()) })).expect("no panic").ok();
    }
    let unions = format!("SELECT 1{}", " UNION SELECT 1".repeat(STRUCTURE_MAX / 4));
    tokio.block_on(runtime.run(async move { all(&unions).map(|_| ()) })).expect("no panic").ok();
}

#[test]
fn types_that_the_client_gives_become_casts() {
    let parser = PostgresCompatibilityParser::new();
    let text = |hints: &[u32]| parse(&parser, "SELECT $1, $2 LIMIT $1", hints).expect("parses").to_string();
    assert_eq!(text(&[20, 0]), "SELECT CAST($1 AS BIGINT), $2 LIMIT CAST($1 AS BIGINT)");
    assert_eq!(text(&[25, 1700]), "SELECT $1, $2 LIMIT $1");
    assert_eq!(text(&[]), "SELECT $1, $2 LIMIT $1");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_never_panics(text in "[ -~\n\t;'\"$é]{0,60}") {
        let _ = all(&text);
    }

    #[test]
    fn statements_of_known_words_in_any_order_never_panic(
        words in proptest::collection::vec(proptest::sample::select(&[
            "SET", "SHOW", "FETCH", "DECLARE", "c", "CURSOR", "FOR", "SELECT", "1", "TO", "=", ",", "'x'", "ALL",
            "FROM", "BEGIN", "ISOLATION", "LEVEL", "ROLLBACK", ";", "TIME", "ZONE", "-", "COPY", "(", ")", "WITH",
        ][..]), 0..10),
    ) {
        let _ = all(&words.join(" "));
    }
}
