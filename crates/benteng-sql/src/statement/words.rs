//! Reading a statement word by word: those that touch the session only are simple enough,
//! and independent of what the SQL parser makes of them.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Count, Discard, Statement};
use crate::error::SqlError;

/// The tokens of one statement, without blanks, and how far they are read.
pub(super) struct Words {
    tokens: Vec<Token>,
    at: usize,
}

impl Words {
    pub(super) fn new(tokens: Vec<Token>) -> Words {
        Words { tokens, at: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub(super) fn tokens_left(&self) -> Vec<Token> {
        self.tokens[self.at.min(self.tokens.len())..].to_vec()
    }

    /// The next token as a word in upper case, if it is an unquoted one.
    pub(super) fn peek(&self) -> Option<String> {
        match self.tokens.get(self.at) {
            Some(Token::Word(w)) if w.quote_style.is_none() => Some(w.value.to_ascii_uppercase()),
            _ => None,
        }
    }

    pub(super) fn word(&mut self) -> Option<String> {
        let word = self.peek()?;
        self.at += 1;
        Some(word)
    }

    /// Whether the word stands anywhere in the statement.
    pub(super) fn has(&self, word: &str) -> bool {
        let is = |t: &Token| matches!(t, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word));
        self.tokens.iter().any(is)
    }

    /// Passes the word, if it is next.
    pub(super) fn skip(&mut self, word: &str) -> bool {
        let found = self.peek().as_deref() == Some(word);
        self.at += usize::from(found);
        found
    }

    fn skip_token(&mut self, token: &Token) -> bool {
        let found = self.tokens.get(self.at) == Some(token);
        self.at += usize::from(found);
        found
    }

    fn error(&self) -> SqlError {
        match self.tokens.get(self.at) {
            Some(token) => SqlError::new(
                "42601",
                format!("syntax error at or near \"{}\"", token.to_string().escape_debug()),
            ),
            None => SqlError::new("42601", "syntax error at end of input"),
        }
    }

    pub(super) fn expect(&mut self, word: &str) -> Result<(), SqlError> {
        if self.skip(word) { Ok(()) } else { Err(self.error()) }
    }

    pub(super) fn end(&mut self) -> Result<(), SqlError> {
        for noise in ["WORK", "TRANSACTION"] {
            self.skip(noise);
        }
        if self.skip("AND") {
            // AND NO CHAIN is what happens anyway; AND CHAIN would begin anew.
            self.expect("NO")?;
            self.expect("CHAIN")?;
        }
        if self.is_done() { Ok(()) } else { Err(self.error()) }
    }

    /// A name: as it is in quotes, else in lower case.
    fn name(&mut self) -> Result<String, SqlError> {
        let name = match self.tokens.get(self.at) {
            Some(Token::Word(w)) if w.quote_style.is_some() => w.value.clone(),
            Some(Token::Word(w)) => w.value.to_ascii_lowercase(),
            _ => return Err(self.error()),
        };
        self.at += 1;
        Ok(name)
    }

    /// A name with dots.
    fn dotted(&mut self) -> Result<String, SqlError> {
        let mut name = self.name()?;
        while self.skip_token(&Token::Period) {
            name = format!("{name}.{}", self.name()?);
        }
        Ok(name)
    }

    pub(super) fn last_name(&mut self) -> Result<String, SqlError> {
        let name = self.name()?;
        if self.is_done() { Ok(name) } else { Err(self.error()) }
    }

    pub(super) fn all_or_name(&mut self) -> Result<Option<String>, SqlError> {
        if self.peek().as_deref() == Some("ALL") && self.at + 1 == self.tokens.len() {
            return Ok(None);
        }
        self.last_name().map(Some)
    }

    pub(super) fn begin(&mut self, tag: &'static str) -> Result<Statement, SqlError> {
        for noise in ["WORK", "TRANSACTION"] {
            self.skip(noise);
        }
        self.modes()?;
        Ok(Statement::Begin(tag))
    }

    /// Transaction modes. Every block here reads one committed state per statement.
    fn modes(&mut self) -> Result<(), SqlError> {
        while !self.is_done() {
            match self.word().as_deref() {
                Some("ISOLATION") => {
                    self.expect("LEVEL")?;
                    match self.word().as_deref() {
                        Some("READ") if self.skip("COMMITTED") || self.skip("UNCOMMITTED") => {}
                        Some("REPEATABLE") if self.skip("READ") => return Err(isolation("REPEATABLE READ")),
                        Some("SERIALIZABLE") => return Err(isolation("SERIALIZABLE")),
                        _ => return Err(self.error()),
                    }
                }
                Some("READ") if self.skip("ONLY") => {}
                Some("READ") if self.skip("WRITE") => {
                    return Err(SqlError::new("0A000", "transactions are read-only")
                        .hint("write objects over S3; BEGIN READ ONLY works"));
                }
                Some("DEFERRABLE") => {}
                Some("NOT") if self.skip("DEFERRABLE") => {}
                _ => return Err(self.error()),
            }
            self.skip_token(&Token::Comma);
        }
        Ok(())
    }

    pub(super) fn rollback(&mut self) -> Result<Statement, SqlError> {
        for noise in ["WORK", "TRANSACTION"] {
            self.skip(noise);
        }
        if self.skip("TO") {
            self.skip("SAVEPOINT");
            return self.last_name().map(Statement::RollbackTo);
        }
        self.end().map(|()| Statement::Rollback)
    }

    pub(super) fn show(&mut self) -> Result<Statement, SqlError> {
        if self.skip("ALL") && self.is_done() {
            return Ok(Statement::Show(None));
        }
        let name = self.setting()?;
        if self.is_done() { Ok(Statement::Show(Some(name))) } else { Err(self.error()) }
    }

    /// The name of a setting, in PostgreSQL's longer spellings too.
    fn setting(&mut self) -> Result<String, SqlError> {
        if self.skip("TIME") {
            self.expect("ZONE")?;
            return Ok("timezone".into());
        }
        if self.skip("SESSION") {
            self.expect("AUTHORIZATION")?;
            return Ok("session_authorization".into());
        }
        if self.skip("TRANSACTION") {
            self.expect("ISOLATION")?;
            self.expect("LEVEL")?;
            return Ok("transaction_isolation".into());
        }
        self.dotted()
    }

    pub(super) fn set(&mut self) -> Result<Statement, SqlError> {
        let local = self.skip("LOCAL");
        if !local && self.skip("SESSION") {
            if self.skip("CHARACTERISTICS") {
                self.expect("AS")?;
                self.expect("TRANSACTION")?;
                return self.modes().map(|()| Statement::SetTransaction);
            }
            if self.skip("AUTHORIZATION") {
                return Err(role());
            }
        }
        if self.skip("TRANSACTION") {
            return self.modes().map(|()| Statement::SetTransaction);
        }
        if self.skip("TIME") {
            self.expect("ZONE")?;
            let value = self.value()?;
            let value = value.filter(|v| !v.eq_ignore_ascii_case("local"));
            return Ok(Statement::Set { name: "timezone".into(), value, local });
        }
        if self.skip("NAMES") {
            let value = self.value()?;
            return Ok(Statement::Set { name: "client_encoding".into(), value, local });
        }
        if self.peek().as_deref() == Some("ROLE") {
            self.at += 1;
            return match self.value()? {
                Some(none) if none.eq_ignore_ascii_case("none") => {
                    Ok(Statement::Set { name: "role".into(), value: Some("none".into()), local })
                }
                _ => Err(role()),
            };
        }
        let name = self.dotted()?;
        if !self.skip("TO") && !self.skip_token(&Token::Eq) {
            return Err(self.error());
        }
        let value = self.value()?;
        Ok(Statement::Set { name, value, local })
    }

    /// The rest of the statement as a value: a list is joined by commas; `None` is DEFAULT.
    fn value(&mut self) -> Result<Option<String>, SqlError> {
        if self.peek().as_deref() == Some("DEFAULT") && self.at + 1 == self.tokens.len() {
            self.at += 1;
            return Ok(None);
        }
        let mut parts = Vec::new();
        loop {
            let sign = match self.tokens.get(self.at) {
                Some(Token::Minus) => "-",
                Some(Token::Plus) => "+",
                _ => "",
            };
            self.at += usize::from(!sign.is_empty());
            let part = match self.tokens.get(self.at) {
                Some(Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s)) if sign.is_empty() => {
                    s.clone()
                }
                Some(Token::Number(n, _)) => format!("{sign}{n}"),
                Some(Token::Word(w)) if sign.is_empty() => w.value.clone(),
                _ => return Err(self.error()),
            };
            self.at += 1;
            parts.push(part);
            if self.is_done() {
                return Ok(Some(parts.join(", ")));
            }
            if !self.skip_token(&Token::Comma) {
                return Err(self.error());
            }
        }
    }

    pub(super) fn reset(&mut self) -> Result<Statement, SqlError> {
        if self.skip("ALL") && self.is_done() {
            return Ok(Statement::Reset(None));
        }
        let name = self.setting()?;
        if self.is_done() { Ok(Statement::Reset(Some(name))) } else { Err(self.error()) }
    }

    pub(super) fn discard(&mut self) -> Result<Statement, SqlError> {
        let what = match self.word().as_deref() {
            Some("ALL") => Discard::All,
            Some("PLANS" | "SEQUENCES" | "TEMP" | "TEMPORARY") => Discard::Nothing,
            _ => return Err(self.error()),
        };
        if self.is_done() { Ok(Statement::Discard(what)) } else { Err(self.error()) }
    }

    /// `name [options] CURSOR [WITH HOLD] FOR`: the name, and whether it outlives its block.
    pub(super) fn declare(&mut self) -> Result<(String, bool), SqlError> {
        let name = self.name()?;
        loop {
            match self.word().as_deref() {
                Some("CURSOR") => break,
                Some("BINARY") => return Err(SqlError::new("0A000", "binary cursors are not supported")),
                Some("SCROLL") => return Err(backwards()),
                Some("NO") if self.skip("SCROLL") => {}
                Some("INSENSITIVE" | "ASENSITIVE") => {}
                _ => return Err(self.error()),
            }
        }
        let mut hold = false;
        if self.skip("WITH") {
            self.expect("HOLD")?;
            hold = true;
        } else if self.skip("WITHOUT") {
            self.expect("HOLD")?;
        }
        self.expect("FOR")?;
        Ok((name, hold))
    }

    pub(super) fn fetch(&mut self, moving: bool) -> Result<Statement, SqlError> {
        let count = match self.tokens.get(self.at) {
            Some(Token::Number(..)) => Count::Rows(self.rows()?),
            Some(Token::Minus) => return Err(backwards()),
            _ => match self.peek().as_deref() {
                Some("NEXT") => self.pass(Count::Rows(1)),
                Some("ALL") => self.pass(Count::All),
                Some("FORWARD") => {
                    self.at += 1;
                    if matches!(self.tokens.get(self.at), Some(Token::Number(..))) {
                        Count::Rows(self.rows()?)
                    } else if self.skip("ALL") {
                        Count::All
                    } else {
                        Count::Rows(1)
                    }
                }
                Some("PRIOR" | "FIRST" | "LAST" | "ABSOLUTE" | "RELATIVE" | "BACKWARD") => {
                    return Err(backwards());
                }
                _ => Count::Rows(1),
            },
        };
        let _ = self.skip("FROM") || self.skip("IN");
        let name = self.last_name()?;
        Ok(Statement::Fetch { name, count, moving })
    }

    fn pass(&mut self, count: Count) -> Count {
        self.at += 1;
        count
    }

    fn rows(&mut self) -> Result<usize, SqlError> {
        let Some(Token::Number(text, _)) = self.tokens.get(self.at) else { return Err(self.error()) };
        let rows = text.parse().map_err(|_| self.error())?;
        self.at += 1;
        Ok(rows)
    }
}

fn backwards() -> SqlError {
    SqlError::new("55000", "cursors run forward only")
        .hint("declare it NO SCROLL and fetch with NEXT or FORWARD")
}

fn isolation(level: &str) -> SqlError {
    SqlError::new("0A000", format!("isolation level {level} is not supported"))
        .hint("each statement reads one committed state: READ COMMITTED")
}

fn role() -> SqlError {
    SqlError::new("0A000", "a session keeps the user that logged in").hint("log in as the other user")
}
