//! What a parameter in binary format must look like before the libraries that read it are asked to: some of them
//! take its length on trust.
//!
//! Source: the `recv` functions of PostgreSQL, `src/backend/utils/adt`.

use postgres_types::{Kind, Type};

/// Of numbers that can be read: 10,000 to the power of 7 has 29 digits.
const WEIGHT_MAX: i16 = 7;

/// Why some bytes are no value of their type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// SQLSTATE.
    pub(crate) code: &'static str,
    pub(crate) why: &'static str,
}

/// Bytes that are no value at all: invalid_binary_representation.
fn broken(why: &'static str) -> Flaw {
    Flaw { code: "22P03", why }
}

/// Holds a value to its type. Those that may have any length are not looked at.
pub(crate) fn check(kind: &Type, value: &[u8]) -> Result<(), Flaw> {
    if let Kind::Array(element) = kind.kind() {
        return check_array(element, value);
    }
    let wanted = match *kind {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::OID | Type::FLOAT4 | Type::DATE => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::MONEY => 8,
        Type::TIMETZ => 12,
        Type::INTERVAL | Type::UUID => 16,
        Type::NUMERIC => return check_numeric(value),
        _ => return Ok(()),
    };
    if value.len() == wanted { Ok(()) } else { Err(broken("it has another length than its type")) }
}

/// Number of digits, weight, sign and scale, then the digits to the base 10,000.
fn check_numeric(value: &[u8]) -> Result<(), Flaw> {
    let (header, digits) = value.split_first_chunk::<8>().ok_or(broken("a number is longer"))?;
    let [high, low, weight_high, weight_low, ..] = *header;
    if digits.len() != 2 * usize::from(u16::from_be_bytes([high, low])) {
        return Err(broken("it has another number of digits than it says"));
    }
    if i16::from_be_bytes([weight_high, weight_low]) > WEIGHT_MAX {
        return Err(Flaw { code: "22003", why: "at most 28 digits can be sent so; send the number as text" });
    }
    Ok(())
}

/// An array of one dimension: as many elements as it says, each of them sound. The library reads no others.
fn check_array(element: &Type, value: &[u8]) -> Result<(), Flaw> {
    let short = || broken("an array is longer");
    // Dimensions, whether there are nulls, the type of the elements.
    let (dimensions, rest) = value.split_first_chunk::<4>().ok_or_else(short)?;
    let rest = rest.get(8..).ok_or_else(short)?;
    match i32::from_be_bytes(*dimensions) {
        0 => return Ok(()),
        1 => {}
        _ => return Err(Flaw { code: "0A000", why: "arrays have one dimension" }),
    }
    // Length and lower bound of the dimension.
    let (claimed, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let mut rest = rest.get(4..).ok_or_else(short)?;
    let mut found = 0;
    while let Some((len, behind)) = rest.split_first_chunk::<4>() {
        found += 1;
        rest = match usize::try_from(i32::from_be_bytes(*len)) {
            // A negative length is a null.
            Err(_) => behind,
            Ok(len) => {
                let cut_off = broken("its last element is cut off");
                let (bytes, behind) = behind.split_at_checked(len).ok_or(cut_off)?;
                check(element, bytes)?;
                behind
            }
        };
    }
    if found != i32::from_be_bytes(*claimed) || !rest.is_empty() {
        return Err(broken("it has another number of elements than it says"));
    }
    Ok(())
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
        assert_eq!(check(&Type::INT4, &7i32.to_be_bytes()), Ok(()));
        assert_eq!(check(&Type::NUMERIC, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 5]), Ok(()));
        for (kind, value) in [(Type::INTERVAL, &[1u8][..]), (Type::NUMERIC, &[9; 8]), (Type::INT8, &[0; 9])] {
            assert_eq!(check(&kind, value).map_err(|flaw| flaw.code), Err("22P03"), "{kind}");
        }
        assert_eq!(check(&Type::TEXT, b"of any length"), Ok(()));
        let large = check(&Type::NUMERIC, &[0, 1, 0, 8, 0, 0, 0, 0, 0, 5]);
        assert_eq!(large.map_err(|flaw| flaw.code), Err("22003"));
    }

    #[test]
    fn an_array_has_the_elements_that_it_says() {
        let four = [1u8; 4];
        assert_eq!(check(&Type::INT4_ARRAY, &array(1, 3, &[Some(&four), None, Some(&four)])), Ok(()));
        assert_eq!(check(&Type::INT4_ARRAY, &array(0, 0, &[])), Ok(()));
        for broken in [
            array(1, i32::MAX, &[Some(&four)]),
            array(1, -1, &[]),
            array(2, 1, &[Some(&four)]),
            array(1, 1, &[Some(&four[..3])]),
            array(1, 1, &[Some(&four)])[..22].to_vec(),
        ] {
            assert!(check(&Type::INT4_ARRAY, &broken).is_err(), "{broken:?}");
        }
    }
}
