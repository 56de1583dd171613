//! Amounts of CPU and memory as Kubernetes writes them.

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
