//! `pg_catalog` and the functions that clients ask for before they show anything. The
//! tables come from `datafusion-pg-catalog`, made once for all sessions; what is about one
//! session (its user, its settings) is registered with that session.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, Int64Array, StringArray};
use arrow::datatypes::DataType;
use benteng_lake::{CATALOG, Lake, LakeSession};
use datafusion::common::cast::as_string_array;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::scalar::ScalarValue;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::setup_pg_catalog;

use crate::settings::{SERVER_VERSION, Settings};

/// Settings that the session's functions read while the connection changes them.
pub(crate) type SharedSettings = Arc<Mutex<Settings>>;

/// The lake's context with everything that PostgreSQL clients expect of a server.
pub(crate) async fn template(lake: &Lake) -> Result<SessionContext> {
    let context = lake.template()?;
    let setup = context.clone();
    let made = lake.runtime().run(async move {
        setup_pg_catalog(&setup, CATALOG, EmptyContextProvider).map_err(|e| *e)?;
        // OIDs are dealt out at the first look: looking once now, in the order of names,
        // makes them the same after each start and on each node.
        setup.sql("SELECT count(oid) FROM pg_catalog.pg_class").await?.collect().await?;
        Ok::<_, DataFusionError>(())
    });
    made.await.map_err(DataFusionError::from)??;
    for name in [
        "pg_type_is_visible",
        "pg_function_is_visible",
        "pg_operator_is_visible",
        "pg_opclass_is_visible",
        "pg_opfamily_is_visible",
        "pg_collation_is_visible",
        "pg_conversion_is_visible",
        "pg_ts_config_is_visible",
    ] {
        context.register_udf(constant(name, vec![DataType::Int64], ScalarValue::Boolean(Some(true))));
    }
    for (name, arguments) in [("obj_description", 2), ("shobj_description", 2), ("col_description", 2)] {
        let mut kinds = vec![DataType::Int64; arguments];
        if name != "col_description" {
            kinds[1] = DataType::Utf8;
        }
        context.register_udf(constant(name, kinds, ScalarValue::Utf8(None)));
    }
    context.register_udf(constant("pg_is_in_recovery", vec![], ScalarValue::Boolean(Some(false))));
    context.register_udf(constant("pg_advisory_unlock_all", vec![], ScalarValue::Utf8(Some(String::new()))));
    context.register_udf(constant(
        "pg_get_userbyid",
        vec![DataType::Int64],
        ScalarValue::Utf8(Some(CATALOG.into())),
    ));
    context.register_udf(constant("version", vec![], ScalarValue::Utf8(Some(version()))));
    context.register_udf(pg_size_pretty());
    Ok(context)
}

/// What `version()` says: drivers read the number behind "PostgreSQL".
pub(crate) fn version() -> String {
    let (ours, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    format!("PostgreSQL {SERVER_VERSION} (Benteng {ours}) on {arch}")
}

/// Registers what is about this session.
pub(crate) fn personal(session: &LakeSession, user: &str, pid: i32, settings: &SharedSettings) {
    let context = session.context();
    for name in ["session_user", "current_user", "user", "current_role"] {
        context.register_udf(constant(name, vec![], ScalarValue::Utf8(Some(user.to_owned()))));
    }
    context.register_udf(constant("pg_backend_pid", vec![], ScalarValue::Int32(Some(pid))));
    let read = Arc::clone(settings);
    let setting = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let names = as_string_array(first(&arrays)?)?;
        let settings = read.lock().unwrap_or_else(PoisonError::into_inner);
        let values = names.iter().map(|name| match name.map(|name| settings.get(name)) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value.to_owned())),
            Some(Err(e)) => Err(DataFusionError::Execution(e.message)),
        });
        Ok(ColumnarValue::Array(Arc::new(values.collect::<Result<StringArray>>()?) as ArrayRef))
    };
    context.register_udf(create_udf(
        "current_setting",
        vec![DataType::Utf8],
        DataType::Utf8,
        Volatility::Stable,
        Arc::new(setting),
    ));
    let read = Arc::clone(settings);
    let schema = move |_: &[ColumnarValue]| {
        let schema = read.lock().unwrap_or_else(PoisonError::into_inner).schema();
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(schema))))
    };
    let current_schema =
        create_udf("current_schema", vec![], DataType::Utf8, Volatility::Stable, Arc::new(schema));
    context.register_udf(current_schema);
}

/// A function that answers the same whatever it is asked.
fn constant(name: &str, arguments: Vec<DataType>, answer: ScalarValue) -> ScalarUDF {
    let kind = answer.data_type();
    let answer = move |arguments: &[ColumnarValue]| {
        let rows = arguments.iter().find_map(|a| match a {
            ColumnarValue::Array(array) => Some(array.len()),
            ColumnarValue::Scalar(_) => None,
        });
        Ok(match rows {
            Some(rows) => ColumnarValue::Array(answer.to_array_of_size(rows)?),
            None => ColumnarValue::Scalar(answer.clone()),
        })
    };
    create_udf(name, arguments, kind, Volatility::Stable, Arc::new(answer))
}

fn pg_size_pretty() -> ScalarUDF {
    let pretty = |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let sizes = first(&arrays)?.as_any().downcast_ref::<Int64Array>();
        let sizes = sizes
            .ok_or_else(|| DataFusionError::Execution("pg_size_pretty takes a number of bytes".into()))?;
        let shown: StringArray = sizes.iter().map(|n| n.map(size_pretty)).collect();
        Ok(ColumnarValue::Array(Arc::new(shown) as ArrayRef))
    };
    create_udf(
        "pg_size_pretty",
        vec![DataType::Int64],
        DataType::Utf8,
        Volatility::Immutable,
        Arc::new(pretty),
    )
}

/// As PostgreSQL: up to 10,239 of a unit, rounded half up.
fn size_pretty(bytes: i64) -> String {
    let mut size = i128::from(bytes);
    for unit in ["bytes", "kB", "MB", "GB", "TB"] {
        if size.abs() < 10 * 1024 {
            return format!("{size} {unit}");
        }
        size = (size + if size < 0 { -512 } else { 512 }) / 1024;
    }
    format!("{size} PB")
}

fn first(arrays: &[ArrayRef]) -> Result<&ArrayRef> {
    arrays.first().ok_or_else(|| DataFusionError::Execution("an argument is missing".into()))
}

/// Text for rows that the door itself gives.
pub(crate) fn texts(values: impl IntoIterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_as_postgresql_shows_them() {
        for (bytes, shown) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (10_485_760, "10 MB"),
            (-20_480, "-20 kB"),
        ] {
            assert_eq!(size_pretty(bytes), shown);
        }
    }

    #[test]
    fn drivers_find_the_version_number() {
        assert!(version().starts_with("PostgreSQL 16."));
        assert!(version().contains("(Benteng "));
    }
}
