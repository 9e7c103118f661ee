//! Names of columns as PostgreSQL gives them: DataFusion calls `SELECT 1` a column
//! `Int64(1)`, PostgreSQL `?column?`.

use datafusion::sql::sqlparser::ast::{Expr, FunctionArguments, Ident, SelectItem, SetExpr, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// Names of the first and of the last columns; what a `*` stands for lies between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Headings {
    before: Vec<String>,
    /// `None`: there is no `*`, `before` is all.
    after: Option<Vec<String>>,
}

impl Headings {
    /// Of the query's outermost SELECT; empty if there is none.
    pub(super) fn of(sql: &str) -> Headings {
        let statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap_or_default();
        let [Statement::Query(query)] = &statements[..] else {
            return Headings { before: vec![], after: Some(vec![]) };
        };
        let mut body = query.body.as_ref();
        // The names of a set operation are those of its first query.
        loop {
            match body {
                SetExpr::SetOperation { left, .. } => body = left.as_ref(),
                SetExpr::Query(inner) => body = inner.body.as_ref(),
                _ => break,
            }
        }
        let mut headings = Headings { before: Vec::new(), after: None };
        if let SetExpr::Select(select) = body {
            for item in &select.projection {
                let name = match item {
                    SelectItem::UnnamedExpr(expr) => name(expr),
                    SelectItem::ExprWithAlias { alias, .. } => ident(alias),
                    _ => {
                        // A second `*`: only what lies behind it is known.
                        headings.after = Some(Vec::new());
                        continue;
                    }
                };
                headings.after.as_mut().unwrap_or(&mut headings.before).push(name);
            }
        } else {
            headings.after = Some(Vec::new());
        }
        headings
    }

    /// Puts the names in place of the engine's.
    pub(crate) fn apply(&self, names: &mut [String]) {
        let after = self.after.as_deref();
        let known = self.before.len() + after.map_or(0, <[String]>::len);
        let fits = if after.is_some() { known <= names.len() } else { known == names.len() };
        if !fits {
            return;
        }
        for (name, heading) in names.iter_mut().zip(&self.before) {
            name.clone_from(heading);
        }
        for (name, heading) in names.iter_mut().rev().zip(after.unwrap_or_default().iter().rev()) {
            name.clone_from(heading);
        }
    }
}

fn ident(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// As PostgreSQL's FigureColname (parse_target.c).
fn name(expr: &Expr) -> String {
    let strong = |expr: &Expr| Some(name(expr)).filter(|name| name != "?column?");
    match expr {
        Expr::Identifier(i) => ident(i),
        Expr::CompoundIdentifier(parts) => parts.last().map_or_else(|| "?column?".into(), ident),
        Expr::Function(f) if matches!(f.args, FunctionArguments::Subquery(_)) => {
            if f.name.to_string().eq_ignore_ascii_case("array") {
                "array".into()
            } else {
                last(&f.name.to_string())
            }
        }
        Expr::Function(f) => last(&f.name.to_string()),
        Expr::Cast { expr, data_type, .. } => {
            strong(expr).unwrap_or_else(|| type_name(&data_type.to_string()))
        }
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => name(inner),
        Expr::Case { else_result, .. } => {
            else_result.as_deref().and_then(strong).filter(|n| n != "case").unwrap_or_else(|| "case".into())
        }
        Expr::Array(_) => "array".into(),
        Expr::Exists { .. } => "exists".into(),
        Expr::Extract { .. } => "extract".into(),
        Expr::Substring { .. } => "substring".into(),
        Expr::Trim { .. } => "btrim".into(),
        Expr::Position { .. } => "position".into(),
        Expr::Ceil { .. } => "ceil".into(),
        Expr::Floor { .. } => "floor".into(),
        Expr::CompoundFieldAccess { root, .. } => name(root),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first() {
                Some(SelectItem::UnnamedExpr(expr)) => name(expr),
                Some(SelectItem::ExprWithAlias { alias, .. }) => ident(alias),
                _ => "?column?".into(),
            },
            _ => "?column?".into(),
        },
        _ => "?column?".into(),
    }
}

fn last(name: &str) -> String {
    let part = name.rsplit('.').next().unwrap_or(name);
    if part.starts_with('"') { part.trim_matches('"').to_owned() } else { part.to_lowercase() }
}

fn type_name(name: &str) -> String {
    let bare = name.split('(').next().unwrap_or(name).trim().to_lowercase();
    match bare.as_str() {
        "int" | "integer" | "int4" => "int4".into(),
        "bigint" | "int8" => "int8".into(),
        "smallint" | "int2" => "int2".into(),
        "double precision" | "double" | "float8" => "float8".into(),
        "real" | "float4" => "float4".into(),
        "boolean" | "bool" => "bool".into(),
        "decimal" | "numeric" => "numeric".into(),
        "character varying" | "varchar" => "varchar".into(),
        "timestamp with time zone" => "timestamptz".into(),
        "timestamp without time zone" => "timestamp".into(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, engine: &[&str], expected: &[&str]) {
        let mut names: Vec<String> = engine.iter().map(|n| (*n).to_owned()).collect();
        Headings::of(sql).apply(&mut names);
        assert_eq!(names, expected, "{sql}");
    }

    #[test]
    fn columns_are_named_as_postgresql_names_them() {
        check("SELECT 1", &["Int64(1)"], &["?column?"]);
        check("SELECT 1, 1", &["a", "b"], &["?column?", "?column?"]);
        check("SELECT count(*), SUM(x) AS Total, t.\"Y\" FROM t", &["a", "b", "c"], &["count", "total", "Y"]);
        check("SELECT x::int, '1'::bigint, (x)", &["a", "b", "c"], &["x", "int8", "x"]);
        check("SELECT CASE WHEN a THEN 1 END, ARRAY[1]", &["a", "b"], &["case", "array"]);
        check("SELECT 1+1, *, a||b FROM t", &["l", "x", "y", "r"], &["?column?", "x", "y", "?column?"]);
        check("SELECT a.*, b.* FROM a, b", &["x", "y"], &["x", "y"]);
        check("SELECT 1 UNION SELECT 2 AS b", &["Int64(1)"], &["?column?"]);
        check("VALUES (1)", &["column1"], &["column1"]);
        check("SELECT pg_catalog.version()", &["v"], &["version"]);
        check("SELECT broken FROM", &["x"], &["x"]);
    }
}
