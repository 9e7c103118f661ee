//! What the parsers of this door must bear, as plain functions for the fuzzer in `tests/fuzz`. Compiled with
//! debug assertions only: no release holds any of it. A panic is a find.

use std::sync::OnceLock;

use arrow::datatypes::{DataType, TimeUnit};
use bytes::{BufMut, Bytes, BytesMut};
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use pgwire::api::Type;

use crate::wire::{self, Bind, First, Frontend, Target};
use crate::{portal, scram, statement};

/// The longest message that a client may send here; it is a setting elsewhere.
const LIMIT: usize = 64 << 10;

/// Bytes of a client after it has begun, in pieces as a socket gives them: the first byte says how long these
/// are. What is read means the same however it was cut, and is written again to the same.
pub fn messages(bytes: &[u8]) {
    let Some((step, rest)) = bytes.split_first() else { return };
    let read = |step: usize| {
        let (mut input, mut got) = (BytesMut::new(), Vec::new());
        for piece in rest.chunks(step.max(1)) {
            input.extend_from_slice(piece);
            loop {
                match wire::frontend(&mut input, LIMIT) {
                    Ok(Some(message)) => got.push(message),
                    Ok(None) => break,
                    Err(e) => return (got, Some(e.to_string())),
                }
            }
        }
        (got, None)
    };
    let (whole, error) = read(rest.len());
    let cut = read(usize::from(*step) + 1);
    assert_eq!((&whole, &error), (&cut.0, &cut.1), "messages depend on how the socket cut them");
    for message in whole {
        let Some(again) = encoded(&message) else { continue };
        let mut again = BytesMut::from(&again[..]);
        let back = wire::frontend(&mut again, usize::MAX).ok().flatten();
        assert!(
            again.is_empty() && back.as_ref() == Some(&message),
            "{message:?} changes when it is sent again"
        );
    }
}

/// A message as a client writes it; `None`: it holds nothing that could change.
fn encoded(message: &Frontend) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let text = |body: &mut Vec<u8>, text: &str| {
        body.put_slice(text.as_bytes());
        body.put_u8(0);
    };
    let count =
        |body: &mut Vec<u8>, n: usize| body.put_u16(u16::try_from(n).expect("a count of sixteen bits"));
    let kind = match message {
        Frontend::Query(sql) => {
            text(&mut body, sql);
            b'Q'
        }
        Frontend::Parse { name, sql, types } => {
            text(&mut body, name);
            text(&mut body, sql);
            count(&mut body, types.len());
            types.iter().for_each(|oid| body.put_u32(*oid));
            b'P'
        }
        Frontend::Bind(bind) => {
            text(&mut body, &bind.portal);
            text(&mut body, &bind.statement);
            count(&mut body, bind.formats.len());
            bind.formats.iter().for_each(|format| body.put_i16(*format));
            count(&mut body, bind.values.len());
            for value in &bind.values {
                body.put_i32(
                    value.as_ref().map_or(-1, |v| i32::try_from(v.len()).expect("it came in a message")),
                );
                body.put_slice(value.as_deref().unwrap_or_default());
            }
            count(&mut body, bind.results.len());
            bind.results.iter().for_each(|format| body.put_i16(*format));
            b'B'
        }
        Frontend::Describe(target) | Frontend::Close(target) => {
            let (kind, name) = match target {
                Target::Statement(name) => (b'S', name),
                Target::Portal(name) => (b'P', name),
            };
            body.put_u8(kind);
            text(&mut body, name);
            if matches!(message, Frontend::Describe(_)) { b'D' } else { b'C' }
        }
        Frontend::Execute { portal, rows } => {
            text(&mut body, portal);
            body.put_i32(i32::try_from(*rows).expect("it came in 32 bits"));
            b'E'
        }
        Frontend::Password(answer) => {
            body.put_slice(answer);
            b'p'
        }
        Frontend::Flush | Frontend::Sync | Frontend::Terminate | Frontend::Copy | Frontend::FunctionCall => {
            return None;
        }
    };
    let mut out = vec![kind];
    out.put_u32(u32::try_from(body.len() + 4).expect("it came in a message"));
    out.append(&mut body);
    Some(out)
}

/// What a client begins with, and its part of the SCRAM exchange: the first byte says which.
pub fn login(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    let verifier = || scram::decoy(&[0; 32], "x");
    match which {
        0 => {
            let mut input = BytesMut::from(rest);
            if let Ok(Some(First::Startup { parameters, .. })) = wire::first(&mut input) {
                assert!(parameters.keys().all(|name| !name.is_empty() && !name.contains('\0')));
            }
        }
        1 => {
            if let Ok(message) = scram::initial(rest) {
                assert!(rest.ends_with(message));
            }
        }
        // A first message, a zero byte, a final one: nobody proves a password that none fits.
        _ => {
            let at = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            let (first, last) = (&rest[..at], rest.get(at + 1..).unwrap_or_default());
            if let Ok((exchange, answer)) = scram::Exchange::begin(first, verifier(), "s") {
                assert!(answer.starts_with("r="));
                assert!(!matches!(exchange.finish(last), Ok(Some(_))), "I5: a proof that nobody could make");
            }
        }
    }
}

/// SQL as a client sends it, taken apart as the simple and the extended protocol do.
pub fn text(bytes: &[u8]) {
    static PARSER: OnceLock<PostgresCompatibilityParser> = OnceLock::new();
    let parser = PARSER.get_or_init(PostgresCompatibilityParser::new);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(all) = statement::read_all(parser, text) else { return };
    if all.len() == 1 {
        assert!(statement::read_one(parser, text).is_ok_and(|one| Some(&one) == all.first()));
    }
}

const TYPES: [Type; 22] = [
    Type::BOOL,
    Type::INT2,
    Type::INT4,
    Type::INT8,
    Type::FLOAT4,
    Type::FLOAT8,
    Type::NUMERIC,
    Type::TEXT,
    Type::VARCHAR,
    Type::BPCHAR,
    Type::BYTEA,
    Type::DATE,
    Type::TIME,
    Type::TIMESTAMP,
    Type::TIMESTAMPTZ,
    Type::INTERVAL,
    Type::UUID,
    Type::JSON,
    Type::INT4_ARRAY,
    Type::TEXT_ARRAY,
    Type::NUMERIC_ARRAY,
    Type::UNKNOWN,
];

fn told(n: u8) -> Option<DataType> {
    Some(match n % 16 {
        0 => DataType::Boolean,
        1 => DataType::Int16,
        2 => DataType::Int32,
        3 => DataType::Int64,
        4 => DataType::Float64,
        5 => DataType::Utf8,
        6 => DataType::Utf8View,
        7 => DataType::Binary,
        8 => DataType::Date32,
        9 => DataType::Time64(TimeUnit::Microsecond),
        10 => DataType::Timestamp(TimeUnit::Microsecond, None),
        11 => DataType::Timestamp(TimeUnit::Nanosecond, Some("+07:00".into())),
        12 => DataType::Decimal128(20, 4),
        13 => DataType::List(std::sync::Arc::new(arrow::datatypes::Field::new_list_field(
            DataType::Int32,
            true,
        ))),
        14 => DataType::UInt64,
        _ => return None,
    })
}

/// Values of a Bind: of each its type, what the statement takes it for, its format, its length, its bytes.
pub fn values(bytes: &[u8]) {
    let (mut types, mut shape, mut rest) = (Vec::new(), Vec::new(), bytes);
    let mut bind = Bind {
        portal: String::new(),
        statement: String::new(),
        formats: Vec::new(),
        values: Vec::new(),
        results: Vec::new(),
    };
    while let Some((head, behind)) = rest.split_first_chunk::<4>() {
        let [kind, taken, format, len] = *head;
        let (value, later) = behind.split_at(usize::from(len).min(behind.len()));
        rest = later;
        types.push(TYPES[usize::from(kind) % TYPES.len()].clone());
        shape.push(told(taken));
        bind.formats.push(i16::from(format & 1));
        bind.values.push((format & 2 == 0).then(|| Bytes::copy_from_slice(value)));
    }
    if portal::sound(&bind, &types).is_err() {
        return;
    }
    if let Ok(values) = portal::values(&bind, &types, &shape) {
        assert_eq!(values.len(), types.len(), "a value is lost");
    }
}
