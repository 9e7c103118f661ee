//! Which keys a pattern names. `*` and `?` stay within one step of the path, `**` crosses
//! steps, `[a-z]` and `{csv,tsv}` choose; `\` takes the next character as it is.

/// A pattern over object keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: String,
    /// The part before the first special character: what a listing starts from.
    literal: usize,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Pattern {
        let literal = text.find(['*', '?', '[', '{', '\\']).unwrap_or(text.len());
        Pattern { text: text.to_owned(), literal }
    }

    /// The key itself, if the pattern names one key only.
    pub(crate) fn exact(&self) -> Option<&str> {
        (self.literal == self.text.len()).then_some(&self.text)
    }

    /// Every matching key starts with this.
    pub(crate) fn prefix(&self) -> &str {
        &self.text[..self.literal]
    }

    /// Whether `key` matches. Takes at most `STEPS` steps, so that no pattern of a client
    /// holds a thread: beyond that the answer is no.
    pub(crate) fn matches(&self, key: &str) -> bool {
        const STEPS: u32 = 1 << 20;
        let (pattern, key): (Vec<char>, Vec<char>) = (self.text.chars().collect(), key.chars().collect());
        matches(&pattern, &key, &mut { STEPS }, 0)
    }
}

fn matches(pattern: &[char], key: &[char], steps: &mut u32, depth: u32) -> bool {
    // Alternatives and stars recurse; a pattern has at most as many as its text, bounded here.
    if depth > 200 {
        return false;
    }
    let (mut p, mut k) = (0, 0);
    loop {
        let Some(left) = steps.checked_sub(1) else { return false };
        *steps = left;
        match pattern.get(p) {
            None => return k == key.len(),
            Some('*') => {
                let deep = pattern.get(p + 1) == Some(&'*');
                let rest = &pattern[p + 1 + usize::from(deep)..];
                // `**/x` also matches `x` itself.
                if deep && rest.first() == Some(&'/') && matches(&rest[1..], &key[k..], steps, depth + 1) {
                    return true;
                }
                for end in k..=key.len() {
                    if matches(rest, &key[end..], steps, depth + 1) {
                        return true;
                    }
                    if !deep && key.get(end) == Some(&'/') {
                        return false;
                    }
                }
                return false;
            }
            Some('?') => {
                if key.get(k).is_none_or(|c| *c == '/') {
                    return false;
                }
                (p, k) = (p + 1, k + 1);
            }
            Some('[') => {
                let Some(length) = pattern[p + 1..].iter().skip(1).position(|c| *c == ']') else {
                    return false;
                };
                let set = &pattern[p + 1..p + 2 + length];
                let Some(c) = key.get(k).filter(|c| **c != '/') else { return false };
                if !in_set(set, *c) {
                    return false;
                }
                (p, k) = (p + set.len() + 2, k + 1);
            }
            Some('{') => {
                let Some(end) = pattern[p..].iter().position(|c| *c == '}') else { return false };
                let rest = &pattern[p + end + 1..];
                return pattern[p + 1..p + end]
                    .split(|c| *c == ',')
                    .any(|choice| matches(&[choice, rest].concat(), &key[k..], steps, depth + 1));
            }
            Some(c) => {
                let escaped = *c == '\\' && p + 1 < pattern.len();
                let expected = if escaped { &pattern[p + 1] } else { c };
                if key.get(k) != Some(expected) {
                    return false;
                }
                (p, k) = (p + 1 + usize::from(escaped), k + 1);
            }
        }
    }
}

fn in_set(set: &[char], c: char) -> bool {
    let (negated, set) = match set.split_first() {
        Some(('!' | '^', rest)) if !rest.is_empty() => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    let mut i = 0;
    while i < set.len() {
        if set.get(i + 1) == Some(&'-') && i + 2 < set.len() {
            found |= (set[i]..=set[i + 2]).contains(&c);
            i += 3;
        } else {
            found |= set[i] == c;
            i += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let compiled = Pattern::new(pattern);
        for key in yes {
            assert!(compiled.matches(key), "{pattern} should match {key}");
            assert!(key.starts_with(compiled.prefix()), "{pattern}: a listing from its prefix finds {key}");
        }
        for key in no {
            assert!(!compiled.matches(key), "{pattern} should not match {key}");
        }
    }

    #[test]
    fn patterns_name_the_keys_that_people_expect() {
        check("a/*.csv", &["a/x.csv", "a/.csv"], &["a/b/x.csv", "a/x.csv.gz", "b/x.csv"]);
        check("a/**/x.csv", &["a/x.csv", "a/b/x.csv", "a/b/c/x.csv"], &["a/xx.csv"]);
        check("**", &["a", "a/b/c"], &[]);
        check("a?c", &["abc"], &["a/c", "ac"]);
        check("[a-c]x[!0-9]", &["axz", "cx-"], &["dxz", "ax5"]);
        check("t.{csv,tsv}", &["t.csv", "t.tsv"], &["t.txt"]);
        check(r"a\*b", &["a*b"], &["axb"]);
        check("plain/key.parquet", &["plain/key.parquet"], &["plain/key.parquet2"]);
        check("[", &[], &["["]);
        check("{", &[], &["{"]);
    }

    #[test]
    fn i7_a_pattern_that_would_never_end_says_no() {
        let key = "a".repeat(1000);
        assert!(!Pattern::new(&format!("{}b", "a*".repeat(200))).matches(&key));
    }

    proptest! {
        #[test]
        fn a_key_without_special_characters_matches_itself_alone(a in "[a-z/.]{0,12}", b in "[a-z/.]{0,12}") {
            let pattern = Pattern::new(&a);
            prop_assert!(pattern.matches(&a));
            prop_assert_eq!(pattern.matches(&b), a == b);
            prop_assert_eq!(pattern.exact(), Some(a.as_str()));
        }

        #[test]
        fn garbage_never_panics(pattern in r"[a*?\[\]{},\\!/-]{0,20}", key in "[a-z/]{0,20}") {
            let _ = Pattern::new(&pattern).matches(&key);
        }
    }
}
