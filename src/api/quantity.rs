//! Amounts of CPU, memory and time as Kubernetes writes them.

use std::time::Duration;

/// Thousandths of a CPU: `2`, `0.5`, `1500m`. At least 1m, at most 1,024 CPUs.
#[must_use]
pub fn cpu_millis(text: &str) -> Option<u64> {
    let millis = match text.strip_suffix('m') {
        Some(millis) => whole(millis)?,
        None => decimal(text, 1_000)?,
    };
    (1..=1_024_000).contains(&millis).then_some(millis)
}

/// Bytes: `4Gi`, `512Mi`, `2G`, `1073741824`. At least 1 MiB, at most 16 TiB.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let unit = UNITS.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
    let bytes = match unit {
        Some((number, factor)) => decimal(number, factor)?,
        None => whole(text)?,
    };
    ((1 << 20)..=(1 << 44)).contains(&bytes).then_some(bytes)
}

/// A duration as Go writes it, in whole units: `30s`, `5m`, `1h30m`, `500ms`. At most 10 years.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    const TEN_YEARS_MILLIS: u64 = 10 * 366 * 24 * 3_600_000;
    let mut rest = text;
    let mut millis = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let (unit, factor) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit))?;
        millis = millis.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = &tail[unit.len()..];
    }
    (!text.is_empty() && millis <= TEN_YEARS_MILLIS).then(|| Duration::from_millis(millis))
}

fn whole(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `text` times `factor`, exact to nine decimal places.
fn decimal(text: &str, factor: u64) -> Option<u64> {
    let (integer, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let value = u128::from(whole(integer)?) * scale + u128::from(whole(fraction)?);
    u64::try_from(value * u128::from(factor) / scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_read_as_kubernetes_reads_them() {
        assert_eq!(cpu_millis("2"), Some(2000));
        assert_eq!(cpu_millis("0.5"), Some(500));
        assert_eq!(cpu_millis("1500m"), Some(1500));
        for bad in ["", "m", "-1", "0", "two", "1.", ".5", "9999999", "1e3"] {
            assert_eq!(cpu_millis(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        for bad in ["", "30", "s", "-1s", "1d", "1h ", "99999999h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn memory_is_read_as_kubernetes_reads_it() {
        assert_eq!(bytes("4Gi"), Some(4 << 30));
        assert_eq!(bytes("1.5Gi"), Some(3 << 29));
        assert_eq!(bytes("500M"), Some(500_000_000));
        assert_eq!(bytes("1073741824"), Some(1 << 30));
        for bad in ["", "Gi", "4gi", "-4Gi", "1", "99999Ti", "4 Gi"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
