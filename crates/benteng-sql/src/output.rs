//! Rows as PostgreSQL sends them: its types, its headings, the session's time zone. What
//! arrow-pg would send wrong or not at all is turned into a type that it sends right.

mod time; // moments and times of day in words

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_pg::datatypes::field_into_pg_type;
use arrow_pg::row_encoder::RowEncoder;
use benteng_lake::Rows;
use pgwire::api::Type;
use pgwire::api::results::{FieldFormat, FieldInfo};
use pgwire::messages::data::{DataRow, FieldDescription, RowDescription};

use crate::error::SqlError;
use crate::statement::Headings;

/// How the rows of one statement are sent.
#[derive(Clone)]
pub(crate) struct Shown {
    fields: Arc<Vec<FieldInfo>>,
    /// The types as they are sent, where the engine's are others.
    schema: SchemaRef,
    time_zone: String,
}

impl Shown {
    /// `formats`: 0 text, 1 binary; none, one for all, or one for each column.
    pub(crate) fn new(
        schema: &Schema,
        headings: &Headings,
        time_zone: &str,
        formats: &[i16],
    ) -> Result<Shown, SqlError> {
        let mut names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
        headings.apply(&mut names);
        let (mut fields, mut kinds) = (Vec::new(), Vec::new());
        let text = |kind: &DataType| {
            matches!(kind, DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_))
        };
        for (n, (field, name)) in schema.fields().iter().zip(names).enumerate() {
            let kind = sendable(field.data_type(), time_zone);
            let field =
                Field::new(field.name(), kind, field.is_nullable()).with_metadata(field.metadata().clone());
            let pg = field_into_pg_type(&Arc::new(field.clone()))?;
            let format = FieldFormat::from(match formats {
                [] => 0,
                [one] => *one,
                each => each.get(n).copied().unwrap_or(0),
            });
            let (size, modifier) = (size(&pg), modifier(field.data_type()));
            // In text PostgreSQL writes no trailing zeros: those are put into words here.
            let field = match format {
                FieldFormat::Text if text(field.data_type()) => field.with_data_type(DataType::Utf8),
                _ => field,
            };
            fields.push(
                FieldInfo::new(name, None, None, pg, format)
                    .with_type_size(size)
                    .with_type_modifier(modifier),
            );
            kinds.push(field);
        }
        Ok(Shown {
            fields: Arc::new(fields),
            schema: Arc::new(Schema::new(kinds)),
            time_zone: time_zone.to_owned(),
        })
    }

    pub(crate) fn description(&self) -> RowDescription {
        RowDescription::new(self.fields.iter().map(FieldDescription::from).collect())
    }

    /// Whether rows of `other` can be sent where these were described.
    pub(crate) fn same_types(&self, other: &Shown) -> bool {
        let types = |shown: &Shown| shown.fields.iter().map(|f| f.datatype().oid()).collect::<Vec<_>>();
        types(self) == types(other)
    }

    fn rows(&self, batch: &RecordBatch) -> Result<RowEncoder, SqlError> {
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (column, field) in batch.columns().iter().zip(self.schema.fields()) {
            columns.push(sent(column, field.data_type(), &self.time_zone)?);
        }
        // A batch without columns still has rows.
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let fields: Vec<Field> =
            self.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options);
        let batch = batch.map_err(|e| SqlError::new("XX000", e.to_string()))?;
        Ok(RowEncoder::new(batch, Arc::clone(&self.fields)))
    }
}

/// The type that a column is sent as.
fn sendable(kind: &DataType, time_zone: &str) -> DataType {
    match kind {
        // One byte as two: arrow-pg announces int2 and would send one byte in binary.
        DataType::Int8 => DataType::Int16,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        DataType::Decimal256(p, s) if *p <= 38 => DataType::Decimal128(*p, *s),
        // The moment is the same; clients see it in the session's zone.
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some(time_zone.into())),
        DataType::Dictionary(_, value) => sendable(value, time_zone),
        DataType::RunEndEncoded(_, value) => sendable(value.data_type(), time_zone),
        // A literal NULL is text in PostgreSQL.
        DataType::Null | DataType::Decimal256(..) | DataType::Map(..) | DataType::Union(..) => DataType::Utf8,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => match sendable(item.data_type(), time_zone) {
            // Lists of lists and of objects have no type of their own there.
            DataType::List(_) | DataType::Struct(_) => DataType::Utf8,
            kind if kind == *item.data_type() && matches!(item.data_type(), DataType::Null) => DataType::Utf8,
            kind => DataType::List(Arc::new(Field::new("item", kind, true))),
        },
        other => other.clone(),
    }
}

fn sent(column: &ArrayRef, kind: &DataType, time_zone: &str) -> Result<ArrayRef, SqlError> {
    if column.data_type() == kind {
        return Ok(Arc::clone(column));
    }
    if *kind == DataType::Utf8 && column.data_type().is_temporal() {
        return time::texts(column, time_zone);
    }
    if *kind == DataType::Utf8 && column.data_type().is_nested() {
        let options = FormatOptions::default().with_null("null");
        let formatter =
            ArrayFormatter::try_new(column, &options).map_err(|e| SqlError::new("0A000", e.to_string()))?;
        let text = |row| (!column.is_null(row)).then(|| formatter.value(row).to_string());
        return Ok(Arc::new((0..column.len()).map(text).collect::<StringArray>()));
    }
    cast(column, kind).map_err(|e| SqlError::new("22003", e.to_string()))
}

/// `pg_type.typlen`.
fn size(kind: &Type) -> i16 {
    match *kind {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4
        | Type::FLOAT4
        | Type::DATE
        | Type::OID
        | Type::REGCLASS
        | Type::REGTYPE
        | Type::REGPROC => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL | Type::UUID => 16,
        Type::NAME => 64,
        _ => -1,
    }
}

/// `atttypmod`: precision and scale of a numeric, packed as PostgreSQL packs them.
fn modifier(kind: &DataType) -> i32 {
    match kind {
        DataType::Decimal128(precision, scale) => {
            ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + 4
        }
        _ => -1,
    }
}

/// Where rows come from.
enum Source {
    /// A running query.
    Running(Box<Rows>),
    /// Rows that the door itself gives, once.
    Given(Option<RecordBatch>),
}

/// Rows of a statement on their way out.
pub(crate) struct Output {
    pub(crate) shown: Shown,
    source: Source,
    batch: Option<RowEncoder>,
}

impl Output {
    pub(crate) fn running(rows: Rows, shown: Shown) -> Output {
        Output { shown, source: Source::Running(Box::new(rows)), batch: None }
    }

    pub(crate) fn given(batch: RecordBatch, shown: Shown) -> Output {
        Output { shown, source: Source::Given(Some(batch)), batch: None }
    }

    /// Whether a row is at hand, without waiting; the rows of a batch are taken one by one.
    pub(crate) fn row(&mut self) -> Option<Result<DataRow, SqlError>> {
        let row = self.batch.as_mut()?.next_row();
        if row.is_none() {
            self.batch = None;
        }
        row.map(|row| row.map_err(SqlError::from))
    }

    /// Waits for more rows; `false`: there are none.
    /// Cancellation: safe, no row is lost.
    pub(crate) async fn more(&mut self) -> Result<bool, SqlError> {
        let batch = match &mut self.source {
            Source::Running(rows) => rows.next().await.transpose()?,
            Source::Given(batch) => batch.take(),
        };
        let Some(batch) = batch else { return Ok(false) };
        self.batch = Some(self.shown.rows(&batch)?);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal256Array, Int8Array, ListArray, TimestampNanosecondArray};
    use arrow::datatypes::{Int32Type, i256};
    use bytes::Buf;

    use super::*;

    /// The first row's values as they are sent.
    fn sent_row(columns: Vec<ArrayRef>, zone: &str, format: i16) -> (Vec<u32>, Vec<Option<Vec<u8>>>) {
        let fields: Vec<Field> =
            columns.iter().map(|c| Field::new("c", c.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let shown = Shown::new(&schema, &Headings::default(), zone, &[format]).expect("sendable");
        let batch = RecordBatch::try_new(schema, columns).expect("batch");
        let mut row = shown.rows(&batch).expect("rows").next_row().expect("a row").expect("encodes");
        let mut values = Vec::new();
        while row.data.has_remaining() {
            let length = row.data.get_i32();
            values.push(usize::try_from(length).ok().map(|n| row.data.split_to(n).to_vec()));
        }
        (shown.fields.iter().map(|f| f.datatype().oid()).collect(), values)
    }

    #[test]
    fn what_arrow_pg_would_send_wrong_is_sent_right() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int8Array::from(vec![-3])),
            Arc::new(
                Decimal256Array::from(vec![i256::from(12345)])
                    .with_precision_and_scale(60, 2)
                    .expect("decimal"),
            ),
            Arc::new(TimestampNanosecondArray::from(vec![0]).with_timezone("UTC")),
        ];
        let text = |v: &Option<Vec<u8>>| String::from_utf8(v.clone().expect("a value")).expect("text");
        let (oids, values) = sent_row(columns.clone(), "Asia/Makassar", 0);
        assert_eq!(oids, [21, 25, 1184]);
        assert_eq!(text(&values[0]), "-3");
        assert_eq!(text(&values[1]), "123.45");
        assert_eq!(text(&values[2]), "1970-01-01 08:00:00+08");
        let (_, values) = sent_row(columns, "UTC", 1);
        assert_eq!(values[0].as_deref(), Some(&(-3_i16).to_be_bytes()[..]), "two bytes for int2");
    }

    #[test]
    fn nested_lists_are_sent_as_text() {
        let inner = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None])]);
        let field = Arc::new(Field::new("item", inner.data_type().clone(), true));
        let offsets = arrow::buffer::OffsetBuffer::new(vec![0, 1].into());
        let outer: ArrayRef = Arc::new(ListArray::new(field, offsets, Arc::new(inner), None));
        let (oids, values) = sent_row(vec![outer], "UTC", 0);
        assert_eq!(oids, [25]);
        assert_eq!(values[0].as_deref(), Some(&b"[[1, null]]"[..]));
    }

    #[test]
    fn numerics_say_their_scale() {
        assert_eq!(modifier(&DataType::Decimal128(10, 2)), (10 << 16 | 2) + 4);
        assert_eq!(modifier(&DataType::Int64), -1);
    }
}
