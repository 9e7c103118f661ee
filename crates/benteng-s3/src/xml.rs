//! What XML 1.0 can carry. Keys may hold any character, its documents may not: neither as they
//! are nor as references, and clients read a document that holds one as a broken answer.

/// Whether XML 1.0 has this character (its production `Char`).
fn carries(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// The key as an answer may name it: `None` if XML cannot carry it. The client knows it: it
/// has just asked with it.
pub(crate) fn echo(key: String) -> Option<String> {
    Some(key).filter(|key| key.chars().all(carries))
}

/// The first character of a document that XML 1.0 cannot carry, plain or as a reference, and
/// the byte at which it stands. What is no UTF-8 is none: the parser passes over it where it reads no text.
pub(crate) fn foreign(body: &[u8]) -> Option<(u32, usize)> {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(e) => return body.get(e.valid_up_to()).map(|byte| (u32::from(*byte), e.valid_up_to())),
    };
    let plain = text.char_indices().find(|(_, c)| !carries(*c)).map(|(at, c)| (u32::from(c), at));
    let references = text.match_indices("&#").filter_map(|(at, _)| {
        let rest = text.get(at + 2..)?;
        let (digits, radix) = rest.strip_prefix('x').map_or((rest, 10), |hex| (hex, 16));
        // Only as far as the digits go: a body of millions of `&#` is still read once.
        let end = digits.find(|c: char| !c.is_digit(radix))?;
        let number = digits.get(..end).filter(|_| digits[end..].starts_with(';'))?;
        // What is no number is for the parser to refuse.
        let code = u32::from_str_radix(number, radix).ok()?;
        (!char::from_u32(code).is_some_and(carries)).then_some((code, at))
    });
    plain.into_iter().chain(references).min_by_key(|(_, at)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_xml_lacks_are_found_in_every_form() {
        for (body, wanted) in [
            (&b"<a>ok\t\r\n &amp;&#65;&#x1F389;</a>"[..], None),
            (b"<a>\x01</a>", Some((1, 3))),
            (b"<a>&#x1;</a>", Some((1, 3))),
            (b"<a>&#31;</a>", Some((31, 3))),
            (b"<a>&#0;\x02</a>", Some((0, 3))),
            (b"<a>&#xD800;</a>", Some((0xD800, 3))),
            (b"<a>&#xFFFFFFFF;</a>", Some((u32::MAX, 3))),
            ("<a>\u{FFFE}</a>".as_bytes(), Some((0xFFFE, 3))),
            (b"<a>&#;&#x;&#", None),
            (b"<a>&#x0000000000001;</a>", Some((1, 3))),
            (b"<a>&#1&#2;</a>", Some((2, 6))),
            (b"ok\xff\x01", Some((0xFF, 2))),
            (b"", None),
        ] {
            assert_eq!(foreign(body), wanted, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_body_of_nothing_but_beginnings_is_read_once() {
        // Eight megabytes, the most that is taken: to look for each end would take hours.
        assert_eq!(foreign("&#".repeat(4 << 20).as_bytes()), None);
        assert_eq!(foreign("&#x1".repeat(2 << 20).as_bytes()), None);
    }

    #[test]
    fn keys_are_named_where_they_can_be() {
        assert_eq!(echo("a/ü\t🎉".into()).as_deref(), Some("a/ü\t🎉"));
        assert_eq!(echo("a\u{1}".into()), None);
        assert_eq!(echo("a\u{FFFF}".into()), None);
    }
}
