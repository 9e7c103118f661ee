//! What a call of `read_parquet`, `read_csv` or `read_json` says: one URL or a list of
//! URLs, then options as `name => value` (or `name = value`).

use datafusion::common::config::CsvOptions;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, UnaryOperator, Value,
};

use crate::format::{Format, SAMPLE};
use crate::{Error, Result};

/// A call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) format: Format,
    /// The bucket of all URLs.
    pub(crate) bucket: String,
    /// Patterns of keys.
    pub(crate) keys: Vec<String>,
    /// As they were written, for messages.
    pub(crate) urls: Vec<String>,
}

impl Call {
    /// Reads a call; `None` if the function is another one.
    pub(crate) fn parse(function: &str, args: &[FunctionArg]) -> Result<Option<Call>> {
        let mut format = match function {
            "read_parquet" => Format::Parquet,
            "read_csv" => Format::Csv(csv_defaults()),
            "read_json" => Format::Json { lines: None, sample: SAMPLE },
            _ => return Ok(None),
        };
        let mut urls = Vec::new();
        for (n, arg) in args.iter().enumerate() {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::BinaryOp {
                    left,
                    op: BinaryOperator::Eq,
                    right,
                })) if n > 0 => {
                    set(function, &mut format, &left.to_string(), right)?;
                }
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if n == 0 => {
                    urls = url_list(function, expr)?;
                }
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } if n > 0 => {
                    set(function, &mut format, &name.value, value)?;
                }
                FunctionArg::ExprNamed { name, arg: FunctionArgExpr::Expr(value), .. } if n > 0 => {
                    set(function, &mut format, &name.to_string(), value)?;
                }
                other => {
                    return Err(bad(format!(
                        "{function}: argument {other} is not understood; write name => value"
                    )));
                }
            }
        }
        let mut bucket: Option<String> = None;
        let mut keys = Vec::new();
        for url in &urls {
            let (its, key) = split(url)?;
            if bucket.get_or_insert_with(|| its.to_owned()) != its {
                return Err(bad(format!(
                    "{function}: all URLs of one call must lie in one bucket; use UNION ALL"
                )));
            }
            keys.push(key.to_owned());
        }
        let bucket =
            bucket.ok_or_else(|| bad(format!("{function} needs 's3://bucket/key' as its first argument")))?;
        Ok(Some(Call { format, bucket, keys, urls }))
    }
}

fn bad(why: String) -> Error {
    Error::BadArgument(why)
}

fn csv_defaults() -> CsvOptions {
    let mut options = CsvOptions::default().with_has_header(true);
    options.schema_infer_max_rec = Some(SAMPLE);
    // RFC 4180 allows line ends within quotes; splitting a file at any line end would then
    // give wrong rows without an error. Whoever knows his file turns it off.
    options.newlines_in_values = Some(true);
    options
}

/// `s3://bucket/key` taken apart. The key is taken as it stands: nothing is decoded.
fn split(url: &str) -> Result<(&str, &str)> {
    let Some(rest) = url.strip_prefix("s3://") else {
        return Err(Error::Refused { what: format!("reading {url:?}") });
    };
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let valid = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
    if valid { Ok((bucket, key)) } else { Err(bad(format!("{bucket:?} is not a bucket name in {url:?}"))) }
}

fn url_list(function: &str, expr: &Expr) -> Result<Vec<String>> {
    match expr {
        Expr::Array(array) => array.elem.iter().map(|e| text(function, "the list of URLs", e)).collect(),
        Expr::Nested(inner) => url_list(function, inner),
        Expr::Value(v) if matches!(v.value, Value::Placeholder(_)) => {
            Err(bad(format!("{function}: the URL must stand in the statement, not in a parameter")))
        }
        other => Ok(vec![text(function, "the URL", other)?]),
    }
}

fn text(function: &str, what: &str, expr: &Expr) -> Result<String> {
    match expr {
        Expr::Value(v) => match &v.value {
            Value::SingleQuotedString(s) | Value::EscapedStringLiteral(s) | Value::DoubleQuotedString(s) => {
                Ok(s.clone())
            }
            Value::DollarQuotedString(s) => Ok(s.value.clone()),
            _ => Err(bad(format!("{function}: {what} must be text in quotes, not {expr}"))),
        },
        _ => Err(bad(format!("{function}: {what} must be text in quotes, not {expr}"))),
    }
}

fn boolean(function: &str, what: &str, expr: &Expr) -> Result<bool> {
    match expr {
        Expr::Value(v) if matches!(v.value, Value::Boolean(_)) => Ok(matches!(v.value, Value::Boolean(true))),
        _ => Err(bad(format!("{function}: {what} must be true or false, not {expr}"))),
    }
}

fn count(function: &str, what: &str, expr: &Expr) -> Result<usize> {
    let fail = || bad(format!("{function}: {what} must be a number from 1 on, or -1 for all, not {expr}"));
    match expr {
        Expr::Value(v) => match &v.value {
            Value::Number(n, _) => n.to_string().parse().ok().filter(|n| *n > 0).ok_or_else(fail),
            _ => Err(fail()),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, .. } => Ok(usize::MAX >> 1),
        _ => Err(fail()),
    }
}

/// One byte: `','`, `'\t'`, `'tab'`.
fn byte(function: &str, what: &str, expr: &Expr) -> Result<u8> {
    let text = text(function, what, expr)?;
    match (text.as_str(), text.as_bytes()) {
        ("\\t" | "tab", _) => Ok(b'\t'),
        (_, [one]) if one.is_ascii() => Ok(*one),
        _ => Err(bad(format!("{function}: {what} must be one ASCII character, not {text:?}"))),
    }
}

fn set(function: &str, format: &mut Format, name: &str, value: &Expr) -> Result<()> {
    let name = name.to_ascii_lowercase();
    let unknown = |known: &str| bad(format!("{function} has no option {name}; it knows: {known}"));
    match format {
        Format::Parquet => return Err(unknown("no options")),
        Format::Csv(csv) => match name.as_str() {
            "header" => csv.has_header = Some(boolean(function, "header", value)?),
            "delimiter" | "delim" | "sep" => csv.delimiter = byte(function, &name, value)?,
            "quote" => csv.quote = byte(function, "quote", value)?,
            "escape" => csv.escape = Some(byte(function, "escape", value)?),
            "comment" => csv.comment = Some(byte(function, "comment", value)?),
            "null" | "nullstr" => csv.null_regex = Some(exactly(&text(function, &name, value)?)),
            "null_padding" => csv.truncated_rows = Some(boolean(function, &name, value)?),
            "multiline" => csv.newlines_in_values = Some(boolean(function, &name, value)?),
            "sample_size" => csv.schema_infer_max_rec = Some(count(function, &name, value)?),
            "all_varchar" => {
                if boolean(function, &name, value)? {
                    csv.schema_infer_max_rec = Some(0);
                }
            }
            _ => {
                return Err(unknown(
                    "header, delimiter, quote, escape, comment, null, null_padding, multiline, sample_size, all_varchar",
                ));
            }
        },
        Format::Json { lines, sample } => match name.as_str() {
            "format" => {
                *lines = match text(function, "format", value)?.to_ascii_lowercase().as_str() {
                    "auto" => None,
                    "newline_delimited" | "nd" | "lines" => Some(true),
                    "array" => Some(false),
                    other => {
                        return Err(bad(format!(
                            "{function}: format is auto, lines or array, not {other:?}"
                        )));
                    }
                }
            }
            "sample_size" => *sample = count(function, &name, value)?,
            _ => return Err(unknown("format, sample_size")),
        },
    }
    Ok(())
}

/// A regular expression that matches this text and no other.
fn exactly(text: &str) -> String {
    let mut out = String::from("^(?:");
    for c in text.chars() {
        if !c.is_alphanumeric() {
            out.push('\\');
        }
        out.push(c);
    }
    out.push_str(")$");
    out
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::{SetExpr, Statement, TableFactor};
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn call(text: &str) -> Result<Call> {
        let sql = format!("SELECT * FROM {text}");
        let statement = Parser::parse_sql(&PostgreSqlDialect {}, &sql).expect("parses").remove(0);
        let Statement::Query(query) = statement else { panic!("a query") };
        let SetExpr::Select(select) = *query.body else { panic!("a select") };
        let TableFactor::Table { name, args: Some(args), .. } = &select.from[0].relation else {
            panic!("a call")
        };
        Call::parse(&name.to_string(), &args.args).map(|call| call.expect("one of ours"))
    }

    fn csv(text: &str) -> CsvOptions {
        match call(text).expect("a call").format {
            Format::Csv(options) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_are_read_in_both_spellings() {
        let options =
            csv("read_csv('s3://data/x.csv', header => false, delim = ';', quote => '''', null => 'n/a')");
        assert_eq!((options.has_header, options.delimiter, options.quote), (Some(false), b';', b'\''));
        assert_eq!(options.null_regex.as_deref(), Some(r"^(?:n\/a)$"));
        assert_eq!(csv("read_csv('s3://data/x.csv', sep => '\\t')").delimiter, b'\t');
        assert_eq!(csv("read_csv('s3://data/x.csv')").newlines_in_values, Some(true));
        let json = call("read_json('s3://data/x', format => 'array', sample_size => -1)").expect("a call");
        assert!(matches!(json.format, Format::Json { lines: Some(false), sample } if sample > SAMPLE));
    }

    #[test]
    fn lists_of_urls_lie_in_one_bucket() {
        let both = call("read_parquet(ARRAY['s3://data/a', 's3://data/b/*'])").expect("a call");
        assert_eq!((both.bucket.as_str(), both.keys), ("data", vec!["a".to_owned(), "b/*".to_owned()]));
        assert!(call("read_parquet(['s3://data/a', 's3://other/b'])").is_err());
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, named) in [
            ("read_csv('s3://data/x', colour => 'red')", "colour"),
            ("read_csv('s3://data/x', delimiter => 'ab')", "delimiter"),
            ("read_csv('s3://data/x', header => 'yes')", "header"),
            ("read_parquet('s3://data/x', header => true)", "header"),
            ("read_parquet('s3://UPPER/x')", "UPPER"),
            ("read_parquet($1)", "parameter"),
            ("read_parquet(1)", "quotes"),
            ("read_parquet()", "first argument"),
            ("read_csv('s3://data/x', 5)", "name => value"),
            ("read_json('s3://data/x', format => 'xml')", "xml"),
        ] {
            let failed = call(text).expect_err(text).to_string();
            assert!(failed.contains(named), "{text}: {failed}");
        }
    }
}
