"""read_parquet, read_csv, read_json over objects that were stored over S3."""

import decimal
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def parquet(table: pa.Table, **options) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def files(put):
    """Areas of Baubau, made up, in each format."""
    rows = [{"id": n, "kelurahan": f"Kelurahan {n}", "warga": n * 11, "luas": n / 4} for n in range(1000)]
    table = pa.Table.from_pylist(rows)
    put("p/one.parquet", parquet(table.slice(0, 600)))
    put("p/deep/two.parquet", parquet(table.slice(600), compression="zstd"))
    put("p/_SUCCESS", b"")
    lines = ["id;kelurahan;warga"] + [f"{r['id']};{r['kelurahan']};{r['warga']}" for r in rows]
    put("c/areas.csv", "\r\n".join(lines).encode())
    put("j/lines.ndjson", "\n".join(json.dumps(r) for r in rows).encode())
    put("j/array.json", json.dumps(rows, indent=1).encode())
    put("j/compact.json", json.dumps(rows, separators=(",", ":")).encode())
    put("j/pretty.json", "\n".join(json.dumps(r, indent=2) for r in rows).encode())
    return rows


def test_parquet_by_key_glob_and_directory(run, bucket, files):
    count = "SELECT count(*), sum(warga) FROM read_parquet('s3://{}/{}')"
    assert run(count.format(bucket, "p/one.parquet")) == [(600, sum(n * 11 for n in range(600)))]
    assert run(count.format(bucket, "p/*.parquet"))[0][0] == 600
    assert run(count.format(bucket, "p/**/*.parquet"))[0][0] == 1000
    assert run(count.format(bucket, "p/")) == [(1000, sum(n * 11 for n in range(1000)))]
    both = f"read_parquet(['s3://{bucket}/p/one.parquet', 's3://{bucket}/p/deep/two.parquet'])"
    assert run(f"SELECT max(id) FROM {both}") == [(999,)]


def test_rows_come_back_as_they_were_written(run, bucket, files):
    rows = run(f"SELECT id, kelurahan, luas FROM read_parquet('s3://{bucket}/p/') ORDER BY id LIMIT 3 OFFSET 598")
    assert rows == [(n, f"Kelurahan {n}", n / 4) for n in (598, 599, 600)]


def test_csv_with_options(run, bucket, files):
    url = f"s3://{bucket}/c/areas.csv"
    assert run(f"SELECT sum(warga) FROM read_csv('{url}', delimiter => ';', header => true)") == [(5494500,)]
    texts = run(f"SELECT warga FROM read_csv('{url}', sep => ';', all_varchar => true) LIMIT 1")
    assert texts == [("0",)]
    unnamed = run(f"SELECT column_1 FROM read_csv('{url}', delim = ';', header = false) LIMIT 1")
    assert unnamed == [("id",)]


@pytest.mark.parametrize("name", ["j/lines.ndjson", "j/array.json", "j/compact.json", "j/pretty.json"])
def test_json_in_every_shape(run, bucket, files, name):
    assert run(f"SELECT count(*), max(luas) FROM read_json('s3://{bucket}/{name}')") == [(1000, 249.75)]


def test_an_array_larger_than_what_is_looked_at(run, put):
    rows = [{"n": n, "teks": "[{\\" * 20} for n in range(40_000)]
    url = put("j/large.json", json.dumps(rows, indent=1).encode())
    assert run(f"SELECT count(*), sum(n) FROM read_json('{url}')") == [(40_000, 799_980_000)]


def test_joins_of_formats_and_parameters(run, bucket, files):
    sql = f"""SELECT p.kelurahan FROM read_parquet('s3://{bucket}/p/') p
              JOIN read_csv('s3://{bucket}/c/areas.csv', delimiter => ';') c USING (id)
              WHERE p.id = %s OR c.kelurahan = %s ORDER BY 1"""
    assert run(sql, 7, "Kelurahan 999") == [("Kelurahan 7",), ("Kelurahan 999",)]


def test_quoted_line_ends_stay_within_their_value(run, put):
    body = 'a,b\n' + ''.join(f'{n},"line one\nline, two {n}"\n' for n in range(1000))
    url = put("c/quoted.csv", body.encode())
    assert run(f"SELECT count(*), max(b) FROM read_csv('{url}')") == [(1000, "line one\nline, two 999")]


def test_types_of_parquet(run, put):
    table = pa.table(
        {
            "d": pa.array([decimal.Decimal("12.345")], pa.decimal128(10, 3)),
            "t": pa.array([0], pa.timestamp("us", tz="UTC")),
            "l": pa.array([[1, None, 3]], pa.list_(pa.int32())),
            "b": pa.array([b"\x00\xff"]),
            "s": pa.array(["🌊"]),
            "i8": pa.array([-5], pa.int8()),
            "n": pa.array([None], pa.int64()),
        }
    )
    url = put("p/types.parquet", parquet(table))
    [row] = run(f"SELECT d, l, b, s, i8, n FROM read_parquet('{url}')")
    assert row == (decimal.Decimal("12.345"), [1, None, 3], b"\x00\xff", "🌊", -5, None)
    [(stamp,)] = run(f"SELECT t::text FROM read_parquet('{url}')")
    assert stamp.startswith("1970-01-01")


def test_missing_things_are_named(fails, bucket):
    code, text = fails(f"SELECT * FROM read_parquet('s3://{bucket}/no/such.parquet')")
    assert code == "58P01" and "no/such.parquet" in text
    code, text = fails(f"SELECT * FROM read_csv('s3://{bucket}/no/*.csv')")
    assert code == "58P01"
    code, text = fails("SELECT * FROM read_csv('s3://no-such-bucket-of-ours/x.csv')")
    assert code == "58P01" and "no-such-bucket-of-ours" in text
    code, text = fails(f"SELECT * FROM read_csv('s3://{bucket}/x.csv', colour => 'red')")
    assert code == "22023" and "colour" in text


def test_ragged_csv_is_an_error_not_a_guess(fails, put):
    url = put("bad/ragged.csv", b"a,b\n1,2\n3,4,5\n6,7\n")
    code, text = fails(f"SELECT * FROM read_csv('{url}')")
    assert code == "22P04", text


@pytest.mark.parametrize("keep", [0.5, 0.95])
def test_truncated_parquet_is_an_error(fails, put, keep):
    whole = parquet(pa.table({"x": list(range(100_000))}))
    url = put(f"bad/cut-{keep}.parquet", whole[: int(len(whole) * keep)])
    code, text = fails(f"SELECT sum(x) FROM read_parquet('{url}')")
    assert code == "22P04", text


def test_files_of_another_kind_are_errors(fails, put):
    url = put("bad/text.parquet", b"this is no parquet file at all, but long enough to hold a footer")
    assert fails(f"SELECT * FROM read_parquet('{url}')")[0] == "22P04"
    url = put("bad/empty.csv", b"")
    assert fails(f"SELECT * FROM read_csv('{url}')")[0] == "22P04"
    url = put("bad/broken.json", b'{"a": 1}\n{"a": \n')
    assert fails(f"SELECT * FROM read_json('{url}')")[0] == "22P04"
