//! The meaning of a YAML scalar.
//!
//! The API server's clients read YAML through `sigs.k8s.io/yaml`, which follows YAML 1.1: `on`, `yes` and `n` are
//! booleans, `010` is eight, `1_000` is a thousand. The rules here are those of its `resolve.go`.

use crate::node::Value;

/// The value of a plain (unquoted) scalar.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true, text.into());
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false, text.into());
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => return Value::Float(text.into()),
        _ => {}
    }
    number(text).unwrap_or_else(|| Value::String(text.into()))
}

fn number(text: &str) -> Option<Value> {
    let first = text.chars().next()?;
    if !(first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return None;
    }
    let plain = if first == '.' { text.to_owned() } else { text.replace('_', "") };
    if let Some(value) = integer(&plain) {
        return Some(
            i64::try_from(value).map_or_else(|_| Value::Float(text.into()), |v| Value::Integer(v, text.into())),
        );
    }
    if !is_decimal(&plain) {
        return None;
    }
    let value: f64 = plain.parse().ok()?;
    Some(whole(value).map_or_else(|| Value::Float(text.into()), |v| Value::Integer(v, text.into())))
}

/// The integer that JSON writes for a fraction, if it is whole.
fn whole(value: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() != 0.0 || value.abs() > EXACT {
        return None;
    }
    format!("{value:.0}").parse().ok()
}

/// An integer as Go's `strconv.ParseInt(text, 0, 64)` reads it: by prefix, with a leading zero for octal.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
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
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    Some(if negative { -value } else { value })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_are_those_of_yaml_1_1() {
        for text in ["yes", "On", "TRUE", "y"] {
            assert_eq!(resolve(text), Value::Bool(true, text.into()));
        }
        for text in ["no", "OFF", "false", "N"] {
            assert_eq!(resolve(text), Value::Bool(false, text.into()));
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
        ] {
            assert_eq!(resolve(text), Value::Integer(value, text.into()), "{text}");
        }
        for text in ["80.5", ".5", "1.", ".inf", "-.INF", "99999999999999999999"] {
            let read = resolve(text);
            assert!(matches!(read, Value::Float(_)) || text == "1." && matches!(read, Value::Integer(1, _)), "{text}");
        }
        for text in
            ["10.0.0.0/8", "TCP", "yES", "8080a", "1:30", "2001-01-01", "-", "+", "--1", "0x", "0xg", "e3", "1e"]
        {
            assert_eq!(resolve(text), Value::String(text.into()), "{text}");
        }
        for text in ["", "~", "null", "Null"] {
            assert_eq!(resolve(text), Value::Null);
        }
    }
}
