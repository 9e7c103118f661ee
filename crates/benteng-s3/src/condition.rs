//! If-Match and its relatives, read before s3s sees them: it knows no lists of tags, and
//! answers a date that RFC 9110 tells to ignore with 400.

use benteng_meta::{Condition, ETag, Match};
use benteng_objects::{AskedRange, ReadCondition};
use http::HeaderMap;
use http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use s3s::S3Result;

use crate::fault::invalid;
use crate::names::parse_http_date;

/// Conditions and range of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// On the object that is named.
    pub(crate) read: ReadCondition,
    /// On the source of a copy.
    pub(crate) source: ReadCondition,
    /// Bytes that are asked for.
    pub(crate) range: Option<AskedRange>,
}

impl Conditions {
    /// Takes the conditional headers out of `headers`.
    pub(crate) fn take(headers: &mut HeaderMap) -> S3Result<Conditions> {
        let source = |name: &'static str| HeaderName::from_static(name);
        let asked = text(headers, &RANGE).and_then(|range| parse_range(&range));
        // Whether If-Range holds is not known yet; the whole object is always right (RFC 9110 §13.1.5).
        let range = asked.filter(|_| text(headers, &IF_RANGE).is_none());
        Ok(Conditions {
            read: ReadCondition {
                tags: Condition {
                    if_match: tags(headers, &IF_MATCH)?,
                    if_none_match: tags(headers, &IF_NONE_MATCH)?,
                },
                modified_since: date(headers, &IF_MODIFIED_SINCE),
                unmodified_since: date(headers, &IF_UNMODIFIED_SINCE),
            },
            source: ReadCondition {
                tags: Condition {
                    if_match: tags(headers, &source("x-amz-copy-source-if-match"))?,
                    if_none_match: tags(headers, &source("x-amz-copy-source-if-none-match"))?,
                },
                modified_since: date(headers, &source("x-amz-copy-source-if-modified-since")),
                unmodified_since: date(headers, &source("x-amz-copy-source-if-unmodified-since")),
            },
            range,
        })
    }
}

/// All values of a header as one; the header is gone afterwards.
fn text(headers: &mut HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    let joined = (!values.is_empty()).then(|| values.join(","));
    headers.remove(name);
    joined.filter(|text| !text.trim().is_empty())
}

fn date(headers: &mut HeaderMap, name: &HeaderName) -> Option<i64> {
    text(headers, name).and_then(|text| parse_http_date(&text))
}

fn tags(headers: &mut HeaderMap, name: &HeaderName) -> S3Result<Option<Match>> {
    let Some(text) = text(headers, name) else { return Ok(None) };
    parse_tags(&text)
        .map(Some)
        .ok_or_else(|| invalid(format!("The {name} header is not a list of entity tags.")))
}

/// Reads `*` or a list of tags, quoted or not. A tag that no object of ours can have is left out:
/// it matches nothing. `None`: not a list of tags.
pub(crate) fn parse_tags(text: &str) -> Option<Match> {
    if text.trim() == "*" {
        return Some(Match::Any);
    }
    let mut tags = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let bare = rest.strip_prefix("W/").unwrap_or(rest);
        let tag = match bare.strip_prefix('"') {
            Some(quoted) => {
                let (tag, after) = quoted.split_once('"')?;
                rest = after.trim_start();
                tag
            }
            None => {
                let (tag, _) = bare.split_once(',').unwrap_or((bare, ""));
                rest = &bare[tag.len()..];
                tag.trim()
            }
        };
        tags.extend(tag.parse::<ETag>().ok());
        rest = match rest.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    Some(Match::Tags(tags))
}

/// Reads a range of bytes. `None`: several ranges, another unit or no range at all, which are
/// answered with the whole object, as S3 does and RFC 9110 §14.2 allows.
pub(crate) fn parse_range(text: &str) -> Option<AskedRange> {
    let (first, last) = text.trim().strip_prefix("bytes=")?.trim().split_once('-')?;
    let number = |digits: &str| {
        let digits = digits.trim();
        let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        // A position beyond 2^64 is beyond every object, so the greatest number stands for it.
        all.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    match (first.trim().is_empty(), last.trim().is_empty()) {
        (true, true) => None,
        (true, false) => number(last).map(AskedRange::Last),
        (false, true) => number(first).map(AskedRange::From),
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(AskedRange::Between(first, last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "d41d8cd98f00b204e9800998ecf8427e";
    const B: &str = "0cc175b9c0f1b6a831c399e269772661-2";

    #[test]
    fn lists_of_tags_are_read_quoted_weak_or_bare() {
        let tag = |text: &str| text.parse::<ETag>().expect("it is a tag");
        let cases: Vec<(String, Option<Match>)> = vec![
            ("*".into(), Some(Match::Any)),
            (format!("\"{A}\""), Some(Match::Tags(vec![tag(A)]))),
            (A.into(), Some(Match::Tags(vec![tag(A)]))),
            (format!("W/\"{A}\" , \"{B}\""), Some(Match::Tags(vec![tag(A), tag(B)]))),
            (format!("{A},{B}"), Some(Match::Tags(vec![tag(A), tag(B)]))),
            ("\"no tag of ours\"".into(), Some(Match::Tags(vec![]))),
            (format!("\"comma, inside\", \"{B}\""), Some(Match::Tags(vec![tag(B)]))),
            ("\"open".into(), None),
            (format!("\"{A}\" \"{B}\""), None),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse_tags(&text), wanted, "{text}");
        }
    }

    #[test]
    fn ranges_are_read_or_ignored() {
        for (text, wanted) in [
            ("bytes=0-0", Some(AskedRange::Between(0, 0))),
            ("bytes=2-9", Some(AskedRange::Between(2, 9))),
            ("bytes=10-", Some(AskedRange::From(10))),
            ("bytes=-5", Some(AskedRange::Last(5))),
            ("bytes=-0", Some(AskedRange::Last(0))),
            ("bytes=99999999999999999999999-", Some(AskedRange::From(u64::MAX))),
            ("bytes=5-2", None),
            ("bytes=0-1,3-4", None),
            ("bytes=-", None),
            ("bytes=a-b", None),
            ("bytes=+1-2", None),
            ("lines=1-2", None),
            ("", None),
        ] {
            assert_eq!(parse_range(text), wanted, "{text}");
        }
    }

    #[test]
    fn headers_are_taken_out_and_bad_dates_ignored() {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, "*".parse().expect("it is a value"));
        headers.insert(IF_MODIFIED_SINCE, "not a date".parse().expect("it is a value"));
        headers.insert(RANGE, "bytes=1-2".parse().expect("it is a value"));
        headers.insert(
            "x-amz-copy-source-if-unmodified-since",
            "Sun, 06 Nov 1994 08:49:37 GMT".parse().expect("it is a value"),
        );
        let got = Conditions::take(&mut headers).expect("they are well-formed");
        assert!(headers.is_empty());
        assert_eq!(got.read.tags.if_none_match, Some(Match::Any));
        assert_eq!(got.read.modified_since, None);
        assert_eq!(got.range, Some(AskedRange::Between(1, 2)));
        assert_eq!(got.source.unmodified_since, Some(784_111_777));
        headers.insert(IF_MATCH, "\"open".parse().expect("it is a value"));
        assert!(Conditions::take(&mut headers).is_err());
    }
}
