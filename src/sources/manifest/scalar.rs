//! Plain (unquoted) scalars. Those that YAML 1.1 and YAML 1.2 read differently are refused: kubectl reads `010` as 8,
//! a YAML 1.2 parser as 10, and `on` is `true` only for one of them.

use serde_json::Number;

/// What a plain scalar is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Number(Number),
    Text,
    /// Has a different meaning in YAML 1.1, or none in JSON; says which.
    Ambiguous(&'static str),
}

pub(super) fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        "y" | "Y" | "yes" | "Yes" | "YES" | "n" | "N" | "no" | "No" | "NO" | "on" | "On" | "ON" | "off" | "Off"
        | "OFF" => {
            return Plain::Ambiguous("is a truth value in YAML 1.1 and a text in YAML 1.2");
        }
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned.to_ascii_lowercase().as_str() {
        ".inf" | ".nan" => return Plain::Ambiguous("is a number that JSON cannot hold"),
        _ => {}
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Plain::Text;
    }
    numeric(text, unsigned)
}

fn numeric(text: &str, unsigned: &str) -> Plain {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits(unsigned) {
        if unsigned.len() > 1 && unsigned.starts_with('0') {
            return Plain::Ambiguous("is an octal number in YAML 1.1 and a decimal one in YAML 1.2");
        }
        return whole(text.strip_prefix('+').unwrap_or(text));
    }
    if let Some(hexadecimal) = unsigned.strip_prefix("0x") {
        return match u64::from_str_radix(hexadecimal, 16) {
            Ok(number) if unsigned == text => Plain::Number(number.into()),
            _ => Plain::Text,
        };
    }
    if is_radix(unsigned, "0o", b'7') {
        return Plain::Ambiguous("is a text in YAML 1.1 and an octal number in YAML 1.2");
    }
    if is_radix(unsigned, "0b", b'1') {
        return Plain::Ambiguous("is a binary number in YAML 1.1 and a text in YAML 1.2");
    }
    let joined = unsigned.replace('_', "");
    if unsigned.contains('_') && !unsigned.starts_with('_') && (digits(&joined) || is_decimal(&joined)) {
        return Plain::Ambiguous("is a number in YAML 1.1 and a text in YAML 1.2");
    }
    if is_sexagesimal(unsigned) {
        return Plain::Ambiguous("is a number of base 60 in YAML 1.1 and a text in YAML 1.2");
    }
    if is_date(unsigned) && unsigned == text {
        return Plain::Ambiguous("is a date in YAML 1.1 and a text in YAML 1.2");
    }
    if is_decimal(unsigned) {
        return match serde_json::from_str::<Number>(&normal(text)) {
            Ok(number) => Plain::Number(number),
            Err(_) => Plain::Ambiguous("is a number too large to hold"),
        };
    }
    if is_exponential(unsigned) {
        return Plain::Ambiguous("is a number or a text, depending on the version of YAML");
    }
    Plain::Text
}

fn whole(text: &str) -> Plain {
    match text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from)) {
        Ok(number) => Plain::Number(number),
        Err(_) => Plain::Ambiguous("is a number too large to hold"),
    }
}

/// `1.5`, `.5`, `1.`
fn is_decimal(text: &str) -> bool {
    text.split_once('.').is_some_and(|(whole, fraction)| {
        whole.len() + fraction.len() > 0 && whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
    })
}

/// A decimal as JSON writes it.
fn normal(text: &str) -> String {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let whole = whole.trim_start_matches('0');
    format!("{sign}{}.{}", if whole.is_empty() { "0" } else { whole }, if fraction.is_empty() { "0" } else { fraction })
}

/// `1e3`, `1.5E-7`
fn is_exponential(text: &str) -> bool {
    text.split_once(['e', 'E']).is_some_and(|(mantissa, exponent)| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits(exponent) && (digits(mantissa) || is_decimal(mantissa))
    })
}

fn is_radix(text: &str, prefix: &str, highest: u8) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b == b'_' || (b'0'..=highest).contains(&b)))
}

/// `1:30`, `190:20:30`: <https://yaml.org/type/int.html>.
fn is_sexagesimal(text: &str) -> bool {
    let mut parts = text.split(':');
    let first = parts.next().is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let mut rest = parts.peekable();
    let two_digits = |part: &str| {
        let plain = part.split_once('.').map_or(part, |(plain, _)| plain);
        (1..=2).contains(&plain.len()) && plain.parse::<u8>().is_ok_and(|number| number < 60)
    };
    first && rest.peek().is_some() && rest.all(two_digits)
}

/// `2001-12-14`, with or without a time: <https://yaml.org/type/timestamp.html>.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let number = |part: Option<&str>, lengths: std::ops::RangeInclusive<usize>| {
        part.is_some_and(|part| lengths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()))
    };
    let day = |part: &str| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        (1..=2).contains(&end) && matches!(part.as_bytes().get(end), None | Some(b'T' | b't' | b' '))
    };
    number(parts.next(), 4..=4) && number(parts.next(), 1..=2) && parts.next().is_some_and(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_on_which_the_yaml_versions_differ_are_ambiguous() {
        for text in [
            "yes",
            "on",
            "off",
            "n",
            "010",
            "-010",
            "00",
            "0o10",
            "0b11",
            "1_000",
            "1_0.5",
            "1:30",
            "190:20:30",
            "1e3",
            "1.5E-7",
            ".inf",
            "-.INF",
            ".nan",
            "2001-12-14",
            "2001-12-14T10:00:00Z",
            "99999999999999999999",
        ] {
            assert!(matches!(plain(text), Plain::Ambiguous(_)), "{text} is {:?}", plain(text));
        }
    }

    #[test]
    fn scalars_on_which_they_agree_are_read() {
        assert_eq!(plain(""), Plain::Null);
        assert_eq!(plain("true"), Plain::Bool(true));
        assert_eq!(plain("42"), Plain::Number(42.into()));
        assert_eq!(plain("-7"), Plain::Number((-7).into()));
        assert_eq!(plain("0x1F"), Plain::Number(31.into()));
        assert_eq!(plain("0.5"), Plain::Number(Number::from_f64(0.5).unwrap()));
        for text in [
            "v1.35.5",
            "4Gi",
            "10.244.0.0/16",
            "127.0.0.1",
            "1500m",
            "dev",
            "30s",
            "1.2.3",
            "8080:8080",
            "-",
            ".",
            "8h",
            "_1",
        ] {
            assert_eq!(plain(text), Plain::Text, "{text}");
        }
    }
}
