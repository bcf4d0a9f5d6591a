//! The meaning of a YAML scalar.
//!
//! kubectl reads YAML through `sigs.k8s.io/yaml`, which follows YAML 1.1: `on`, `yes` and `n` are booleans, `010` is
//! eight, `1_000` is a thousand. The rules here are those of its `resolve.go`.

use crate::node::Value;

/// The namespace of `!!int` and the like.
pub(super) const TAGS: &str = "tag:yaml.org,2002:";

/// A resolved scalar.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Integer(i64),
    /// A whole number above `i64`.
    Unsigned(u64),
    Float(f64),
    Text(String),
}

impl Scalar {
    /// The scalar with this text and tag; the error is the reason.
    pub(super) fn of(text: &str, is_plain: bool, tag: Option<&str>) -> Result<Self, String> {
        let as_text = || Ok(Self::Text(text.to_owned()));
        let Some(tag) = tag else { return if is_plain { Ok(resolve(text)) } else { as_text() } };
        let resolved = resolve(text);
        let fits = match tag.strip_prefix(TAGS) {
            Some("null") => resolved == Self::Null,
            Some("bool") => matches!(resolved, Self::Bool(_)),
            Some("int") => matches!(resolved, Self::Integer(_) | Self::Unsigned(_)),
            #[expect(clippy::cast_precision_loss, reason = "the rounding is what !!float asks for")]
            Some("float") => match resolved {
                Self::Integer(value) => return Ok(Self::Float(value as f64)),
                other => return if matches!(other, Self::Float(_)) { Ok(other) } else { Err(misfit(text, tag)) },
            },
            Some("timestamp") => return if is_date(text) { as_text() } else { Err(misfit(text, tag)) },
            Some("binary") => return decode_base64(text).map(Self::Text).ok_or_else(|| misfit(text, tag)),
            _ => return as_text(),
        };
        if fits { Ok(resolved) } else { Err(misfit(text, tag)) }
    }

    /// The value in JSON, with the text as written; the error is the reason.
    pub(super) fn value(&self, written: &str) -> Result<Value, String> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value, written.into()),
            Self::Integer(value) => Value::Integer(*value, written.into()),
            Self::Unsigned(value) => Value::Float(value.to_string().into()),
            Self::Float(value) if !value.is_finite() => {
                return Err(format!("{written} is a number that JSON cannot express; quote it if it is text"));
            }
            Self::Float(value) => match whole(*value) {
                Some(whole) => Value::Integer(whole, written.into()),
                None => Value::Float(if is_json(written) { written.into() } else { value.to_string().into() }),
            },
            Self::Text(text) => Value::String(text.as_str().into()),
        })
    }

    /// The text as a JSON key; none if kubectl refuses it as one.
    pub(super) fn key(&self) -> Option<String> {
        match self {
            Self::Null | Self::Unsigned(_) => None,
            Self::Bool(value) => Some(value.to_string()),
            Self::Integer(value) => Some(value.to_string()),
            Self::Float(value) => Some(float_key(*value)),
            Self::Text(text) => Some(text.clone()),
        }
    }
}

fn misfit(text: &str, tag: &str) -> String {
    format!("{text:?} is not a {}", tag.replacen(TAGS, "!!", 1))
}

/// The meaning of text without quotes or tag.
fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    number(text).unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

fn number(text: &str) -> Option<Scalar> {
    let first = text.chars().next()?;
    if !(first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return None;
    }
    let plain = if first == '.' { text.to_owned() } else { text.replace('_', "") };
    if first != '.'
        && let Some(value) = integer(&plain)
    {
        return Some(value);
    }
    if is_decimal(&plain) {
        // A number that is too large is text.
        let value: f64 = plain.parse().ok()?;
        if value.is_finite() {
            return Some(Scalar::Float(value));
        }
    }
    // A quirk of kubectl's parser: a sign after the prefix.
    let digits = plain.strip_prefix("0b")?;
    i64::from_str_radix(digits, 2).ok().map(Scalar::Integer)
}

/// The integer that JSON writes for a float, if it is whole.
pub(super) fn whole(value: f64) -> Option<i64> {
    if value.fract() == 0.0 && value.abs() < 1e21 { value.to_string().parse().ok() } else { None }
}

/// Whether the number is written as in JSON.
fn is_json(written: &str) -> bool {
    written.starts_with(|first: char| first.is_ascii_digit()) && !written.contains('_')
}

/// An integer as Go's `strconv.ParseInt(text, 0, 64)` and `ParseUint` read it: by prefix, with a leading zero for octal.
fn integer(text: &str) -> Option<Scalar> {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.get(..1).unwrap_or_default(), digits),
        None => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, lower.get(1..)?)
    } else {
        (10, lower.as_str())
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    match sign {
        "-" => i64::try_from(-i128::from(value)).ok().map(Scalar::Integer),
        _ => match i64::try_from(value) {
            Ok(value) => Some(Scalar::Integer(value)),
            Err(_) if sign.is_empty() => Some(Scalar::Unsigned(value)),
            Err(_) => None,
        },
    }
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`
fn is_decimal(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa_is_number = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    mantissa_is_number && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)))
}

/// A float as Go's `strconv.FormatFloat(value, 'g', -1, 32)` writes it, as a key.
fn float_key(value: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "kubectl's parser rounds keys")]
    let value = value as f32;
    if value.is_nan() {
        return ".nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        value.to_string()
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", exponent.abs())
    }
}

/// `2001-1-2`, with or without a time.
fn is_date(text: &str) -> bool {
    let mut parts = text.split(['-', 'T', 't', ' ']);
    let mut number = |most: u32| parts.next().and_then(|part| part.parse().ok()).is_some_and(|n: u32| n <= most);
    text.as_bytes().get(4) == Some(&b'-') && number(9999) && number(12) && number(31)
}

/// Decodes base64 with padding, ignoring line breaks.
fn decode_base64(text: &str) -> Option<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let data = text.get(..text.len() - padding)?;
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::new();
    for group in data.chunks(4) {
        let mut bits = 0_u32;
        for byte in group {
            bits = bits << 6 | u32::try_from(ALPHABET.iter().position(|letter| letter == byte)?).ok()?;
        }
        bits <<= 6 * (4 - group.len());
        bytes.extend(bits.to_be_bytes().into_iter().skip(1).take(group.len() * 6 / 8));
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_are_those_of_yaml_1_1() {
        for text in ["yes", "On", "TRUE", "y"] {
            assert_eq!(resolve(text), Scalar::Bool(true));
        }
        for text in ["no", "OFF", "false", "N"] {
            assert_eq!(resolve(text), Scalar::Bool(false));
        }
        for (text, value) in [
            ("80", 80),
            ("+80", 80),
            ("-1", -1),
            ("010", 8),
            ("0o10", 8),
            ("0x50", 80),
            ("0b101", 5),
            ("1_000", 1000),
            ("80.0", 80),
            ("1e3", 1000),
            ("08", 8),
            ("0", 0),
            ("1.", 1),
            ("0b-1", -1),
        ] {
            assert_eq!(resolve(text).value(text), Ok(Value::Integer(value, text.into())), "{text}");
        }
        for text in ["80.5", ".5", "99999999999999999999"] {
            assert!(matches!(resolve(text).value(text), Ok(Value::Float(_))), "{text}");
        }
        for text in [".inf", "-.INF", ".nan"] {
            assert!(resolve(text).value(text).is_err(), "{text}");
        }
        for text in [
            "10.0.0.0/8",
            "TCP",
            "yES",
            "8080a",
            "1:30",
            "2001-01-01",
            "-",
            "+",
            "--1",
            "0x",
            "0xg",
            "e3",
            "1e",
            "12e400",
            "-12e400",
        ] {
            assert_eq!(resolve(text), Scalar::Text(text.to_owned()), "{text}");
        }
        for text in ["", "~", "null", "Null"] {
            assert_eq!(resolve(text), Scalar::Null);
        }
    }
}
