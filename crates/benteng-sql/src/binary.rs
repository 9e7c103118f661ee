//! What a parameter in binary format must look like before the libraries that read it are asked to: some of them
//! take its length on trust.
//!
//! Source: the `recv` functions of PostgreSQL, `src/backend/utils/adt`.

use postgres_types::{Kind, Type};

/// The header of an array: dimensions, whether there are nulls, the type of the elements.
const ARRAY_HEADER_BYTES: usize = 12;
/// Of numbers that can be read: 10,000 to the power of 7 has 29 digits.
const WEIGHT_MAX: i16 = 7;
/// invalid_binary_representation.
const BROKEN: &str = "22P03";

/// SQLSTATE and reason why these bytes are no value of this type, or nothing. Types that may have any length are
/// not looked at.
pub(crate) fn flaw(kind: &Type, value: &[u8]) -> Option<(&'static str, &'static str)> {
    if let Kind::Array(element) = kind.kind() {
        return flaw_of_array(element, value);
    }
    let wanted = match *kind {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::OID | Type::FLOAT4 | Type::DATE => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::MONEY => 8,
        Type::TIMETZ => 12,
        Type::INTERVAL | Type::UUID => 16,
        Type::NUMERIC => return flaw_of_numeric(value),
        _ => return None,
    };
    (value.len() != wanted).then_some((BROKEN, "it has another length than its type"))
}

/// A number of digits, weight, sign and scale, then the digits to the base 10,000.
fn flaw_of_numeric(value: &[u8]) -> Option<(&'static str, &'static str)> {
    let Some((header, digits)) = value.split_first_chunk::<8>() else {
        return Some((BROKEN, "a number is longer"));
    };
    let [high, low, weight_high, weight_low, ..] = *header;
    if digits.len() != 2 * usize::from(u16::from_be_bytes([high, low])) {
        return Some((BROKEN, "it has another number of digits than it says"));
    }
    let weight = i16::from_be_bytes([weight_high, weight_low]);
    (weight > WEIGHT_MAX).then_some(("22003", "at most 28 digits can be sent so; send the number as text"))
}

/// An array of one dimension: as many elements as it says, each of them sound. Of more dimensions the library
/// reads none.
fn flaw_of_array(element: &Type, value: &[u8]) -> Option<(&'static str, &'static str)> {
    let Some((header, rest)) = value.split_at_checked(ARRAY_HEADER_BYTES) else {
        return Some((BROKEN, "an array is longer"));
    };
    match header.first_chunk::<4>().map(|n| i32::from_be_bytes(*n)) {
        Some(0) => return None,
        Some(1) => {}
        _ => return Some(("0A000", "arrays have one dimension")),
    }
    // Length and lower bound of the dimension.
    let Some((dimension, mut rest)) = rest.split_first_chunk::<8>() else {
        return Some((BROKEN, "an array is longer"));
    };
    let claimed = dimension.first_chunk::<4>().map_or(0, |n| i32::from_be_bytes(*n));
    let mut found = 0;
    while let Some((len, behind)) = rest.split_first_chunk::<4>() {
        found += 1;
        // A negative length is a null.
        let len = usize::try_from(i32::from_be_bytes(*len)).ok();
        let Some((bytes, behind)) = behind.split_at_checked(len.unwrap_or(0)) else {
            return Some((BROKEN, "its last element is cut off"));
        };
        if let Some(why) = len.and_then(|_| flaw(element, bytes)) {
            return Some(why);
        }
        rest = behind;
    }
    (found != claimed || !rest.is_empty())
        .then_some((BROKEN, "it has another number of elements than it says"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(dimensions: i32, claimed: i32, elements: &[Option<&[u8]>]) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [dimensions, 0, 23, claimed, 1] {
            out.extend(word.to_be_bytes());
        }
        for element in elements {
            out.extend(element.map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
            out.extend(element.unwrap_or_default());
        }
        out
    }

    #[test]
    fn a_value_has_the_length_of_its_type() {
        assert_eq!(flaw(&Type::INT4, &7i32.to_be_bytes()), None);
        assert_eq!(flaw(&Type::NUMERIC, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 5]), None);
        for (kind, value) in [(Type::INTERVAL, &[1u8][..]), (Type::NUMERIC, &[9; 8]), (Type::INT8, &[0; 9])] {
            assert!(flaw(&kind, value).is_some(), "{kind}");
        }
        assert_eq!(flaw(&Type::TEXT, b"of any length"), None);
        let large = flaw(&Type::NUMERIC, &[0, 1, 0, 8, 0, 0, 0, 0, 0, 5]);
        assert_eq!(large.map(|(code, _)| code), Some("22003"));
    }

    #[test]
    fn an_array_has_the_elements_that_it_says() {
        let four = [1u8; 4];
        assert_eq!(flaw(&Type::INT4_ARRAY, &array(1, 3, &[Some(&four), None, Some(&four)])), None);
        assert_eq!(flaw(&Type::INT4_ARRAY, &array(0, 0, &[])), None);
        for broken in [
            array(1, i32::MAX, &[Some(&four)]),
            array(1, -1, &[]),
            array(2, 1, &[Some(&four)]),
            array(1, 1, &[Some(&four[..3])]),
            array(1, 1, &[Some(&four)])[..22].to_vec(),
        ] {
            assert!(flaw(&Type::INT4_ARRAY, &broken).is_some(), "{broken:?}");
        }
    }
}
