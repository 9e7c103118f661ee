//! What part of an object a request means, and whether its conditions let it through.

use benteng_meta::{ObjectRow, Rejection};

use crate::{AskedRange, ByteRange, Error, ReadCondition, Result};

/// Cuts an asked range to an object of `size` bytes (RFC 9110 §14.1.2).
///
/// Errors: `RangeUnsatisfiable` if it begins at or behind the end, is empty, or reversed.
pub(crate) fn resolve(asked: AskedRange, size: u64) -> Result<ByteRange> {
    let unsatisfiable = || Error::RangeUnsatisfiable { size };
    let (start, end) = match asked {
        AskedRange::Between(first, last) if first <= last => (first, last.saturating_add(1).min(size)),
        AskedRange::Between(..) => return Err(unsatisfiable()),
        AskedRange::From(first) => (first, size),
        AskedRange::Last(n) => (size.saturating_sub(n), size),
    };
    if start >= end { Err(unsatisfiable()) } else { Ok(ByteRange { start, end }) }
}

/// Holds the conditions of a read against the current version, in the order of RFC 9110
/// §13.2.2: `If-Match`, else `If-Unmodified-Since`; then `If-None-Match`, else `If-Modified-Since`.
///
/// Errors: `Rejected(PreconditionFailed)` (412), `NotModified` (304).
pub(crate) fn check(condition: &ReadCondition, row: &ObjectRow) -> Result<()> {
    // HTTP dates know whole seconds only.
    let modified = row.modified.0.div_euclid(1_000_000);
    let failed = match (&condition.tags.if_match, condition.unmodified_since) {
        (Some(tags), _) => !tags.matches(&row.etag),
        (None, Some(at)) => modified > at,
        (None, None) => false,
    };
    if failed {
        return Err(Rejection::PreconditionFailed.into());
    }
    let unchanged = match (&condition.tags.if_none_match, condition.modified_since) {
        (Some(tags), _) => tags.matches(&row.etag),
        (None, Some(at)) => modified <= at,
        (None, None) => false,
    };
    if unchanged {
        return Err(Error::NotModified { etag: row.etag, modified: row.modified });
    }
    Ok(())
}

/// As [`check`] for the source of a copy: every condition that does not hold is a 412.
pub(crate) fn check_source(condition: &ReadCondition, row: &ObjectRow) -> Result<()> {
    check(condition, row).map_err(|e| match e {
        Error::NotModified { .. } => Rejection::PreconditionFailed.into(),
        e => e,
    })
}

#[cfg(test)]
mod tests {
    use benteng_meta::ids::*;
    use benteng_meta::{Condition, ETag, Match};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_cut_to_the_object_or_refused() {
        use AskedRange::*;
        let check = |asked, size, expected: Option<(u64, u64)>| {
            let got = resolve(asked, size).ok().map(|r| (r.start, r.end));
            assert_eq!(got, expected, "{asked:?} of {size}");
        };
        check(Between(0, 9), 10, Some((0, 10)));
        check(Between(0, 0), 10, Some((0, 1)));
        check(Between(3, 100), 10, Some((3, 10)));
        check(Between(10, 12), 10, None);
        check(Between(5, 4), 10, None);
        check(Between(0, u64::MAX), 10, Some((0, 10)));
        check(From(0), 10, Some((0, 10)));
        check(From(9), 10, Some((9, 10)));
        check(From(10), 10, None);
        check(Last(3), 10, Some((7, 10)));
        check(Last(100), 10, Some((0, 10)));
        check(Last(0), 10, None);
        check(From(0), 0, None);
        check(Last(1), 0, None);
    }

    fn row() -> ObjectRow {
        ObjectRow {
            blob: BlobId::default(),
            size: 1,
            etag: ETag { md5: [1; 16], parts: None },
            modified: SiteTime(100_900_000),
            seq: StateSeq(1),
            checksum: None,
        }
    }

    #[test]
    fn conditions_are_held_in_the_order_of_the_rfc() {
        let same = Some(Match::Tags(vec![row().etag]));
        let other = Some(Match::Tags(vec![ETag { md5: [2; 16], parts: None }]));
        #[derive(Debug, PartialEq)]
        enum End {
            Body,
            NotModified,
            Failed,
        }
        let held =
            |if_match: &Option<Match>, unmodified_since, if_none_match: &Option<Match>, modified_since| {
                let tags = Condition { if_match: if_match.clone(), if_none_match: if_none_match.clone() };
                match check(&ReadCondition { tags, modified_since, unmodified_since }, &row()) {
                    Ok(()) => End::Body,
                    Err(Error::NotModified { .. }) => End::NotModified,
                    Err(Error::Rejected(Rejection::PreconditionFailed)) => End::Failed,
                    Err(e) => panic!("{e}"),
                }
            };
        let none = &None;
        assert_eq!(held(none, None, none, None), End::Body);
        assert_eq!(held(&same, None, none, None), End::Body);
        assert_eq!(held(&Some(Match::Any), None, none, None), End::Body);
        assert_eq!(held(&other, None, none, None), End::Failed);
        // The fraction of a second is not held against the client.
        assert_eq!(held(none, Some(100), none, None), End::Body);
        assert_eq!(held(none, Some(99), none, None), End::Failed);
        // A tag that matches makes If-Unmodified-Since moot.
        assert_eq!(held(&same, Some(99), none, None), End::Body);
        assert_eq!(held(none, None, &same, None), End::NotModified);
        assert_eq!(held(none, None, &other, None), End::Body);
        assert_eq!(held(none, None, &Some(Match::Any), None), End::NotModified);
        assert_eq!(held(none, None, none, Some(100)), End::NotModified);
        assert_eq!(held(none, None, none, Some(99)), End::Body);
        // A tag that differs makes If-Modified-Since moot.
        assert_eq!(held(none, None, &other, Some(100)), End::Body);
        // 412 goes before 304.
        assert_eq!(held(&other, None, &same, None), End::Failed);
        assert_eq!(held(&same, None, &same, None), End::NotModified);
    }

    #[test]
    fn a_copy_source_that_has_not_changed_is_a_failed_precondition() {
        let tags = Condition { if_match: None, if_none_match: Some(Match::Any) };
        let condition = ReadCondition { tags, ..ReadCondition::default() };
        let end = check_source(&condition, &row());
        assert!(matches!(end, Err(Error::Rejected(Rejection::PreconditionFailed))), "{end:?}");
    }

    proptest! {
        #[test]
        fn a_resolved_range_is_never_empty_and_never_beyond_the_object(a: u64, b: u64, size: u64) {
            for asked in [AskedRange::Between(a, b), AskedRange::From(a), AskedRange::Last(a)] {
                if let Ok(range) = resolve(asked, size) {
                    prop_assert!(range.start < range.end && range.end <= size);
                }
            }
        }
    }
}
