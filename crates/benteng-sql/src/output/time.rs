//! Moments and times of day in words, as PostgreSQL's ISO style writes them: no trailing
//! zeros, offsets in hours where they are whole.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::types::{Time64MicrosecondType, TimestampMicrosecondType};
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeZone};

use crate::error::SqlError;

/// A column of timestamps or times as texts.
pub(super) fn texts(column: &ArrayRef, time_zone: &str) -> Result<ArrayRef, SqlError> {
    let range = |e: arrow::error::ArrowError| SqlError::new("22008", e.to_string());
    let texts: StringArray = match column.data_type() {
        DataType::Timestamp(_, zone) => {
            let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None)).map_err(range)?;
            let micros = micros.as_primitive::<TimestampMicrosecondType>();
            let zone: Option<Tz> = match zone {
                Some(_) => Some(time_zone.parse().map_err(range)?),
                None => None,
            };
            micros.iter().map(|at| at.map(|at| moment(at, zone)).transpose()).collect::<Result<_, _>>()?
        }
        _ => {
            let micros = cast(column, &DataType::Time64(TimeUnit::Microsecond)).map_err(range)?;
            let micros = micros.as_primitive::<Time64MicrosecondType>();
            micros.iter().map(|at| at.map(time_of_day)).collect()
        }
    };
    Ok(Arc::new(texts))
}

fn moment(micros: i64, zone: Option<Tz>) -> Result<String, SqlError> {
    let utc = DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| SqlError::new("22008", "timestamp out of range"))?;
    let utc = utc.naive_utc();
    let Some(zone) = zone else { return Ok(date_and_time(utc, "")) };
    let offset = zone.offset_from_utc_datetime(&utc).fix();
    let seconds = offset.local_minus_utc();
    let local =
        utc.checked_add_offset(offset).ok_or_else(|| SqlError::new("22008", "timestamp out of range"))?;
    let (sign, seconds) = (if seconds < 0 { '-' } else { '+' }, seconds.abs());
    let mut shown = format!("{sign}{:02}", seconds / 3600);
    if seconds % 3600 != 0 {
        shown.push_str(&format!(":{:02}", seconds / 60 % 60));
    }
    if seconds % 60 != 0 {
        shown.push_str(&format!(":{:02}", seconds % 60));
    }
    Ok(date_and_time(local, &shown))
}

/// Years before 1 are counted as PostgreSQL counts them: there is no year 0.
fn date_and_time(at: NaiveDateTime, offset: &str) -> String {
    let (year, era) = if at.year() < 1 { (1 - at.year(), " BC") } else { (at.year(), "") };
    let micros = at.and_utc().timestamp_subsec_micros();
    let clock = trimmed(&format!("{}.{micros:06}", at.format("%H:%M:%S")));
    format!("{year:04}-{:02}-{:02} {clock}{offset}{era}", at.month(), at.day())
}

fn time_of_day(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    trimmed(&format!("{h:02}:{m:02}:{s:02}.{:06}", micros % 1_000_000))
}

fn trimmed(text: &str) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Time64NanosecondArray, TimestampMicrosecondArray};

    use super::*;

    fn check(micros: i64, zone: &str, expected: &str) {
        let with_zone = TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC");
        let shown = texts(&(Arc::new(with_zone) as ArrayRef), zone).expect("in range");
        assert_eq!(shown.as_string::<i32>().value(0), expected);
    }

    #[test]
    fn moments_are_written_as_postgresql_writes_them() {
        check(0, "UTC", "1970-01-01 00:00:00+00");
        check(0, "Asia/Makassar", "1970-01-01 08:00:00+08");
        check(1_500_000, "Asia/Kolkata", "1970-01-01 05:30:01.5+05:30");
        check(-1, "-03:30", "1969-12-31 20:29:59.999999-03:30");
        check(-62_135_596_800_000_000, "UTC", "0001-01-01 00:00:00+00");
        check(-62_135_596_800_000_001, "UTC", "0001-12-31 23:59:59.999999+00 BC");
        let plain: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(10), None]));
        let shown = texts(&plain, "Asia/Makassar").expect("in range");
        assert_eq!(
            (shown.as_string::<i32>().value(0), shown.is_null(1)),
            ("1970-01-01 00:00:00.00001", true)
        );
        let time: ArrayRef = Arc::new(Time64NanosecondArray::from(vec![45_296_700_000_000]));
        assert_eq!(texts(&time, "UTC").expect("in range").as_string::<i32>().value(0), "12:34:56.7");
    }
}
