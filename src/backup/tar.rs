//! The part of POSIX's `ustar` that a backup needs: regular files, whole in memory. Written so that `tar` reads it.

/// The unit of a tar file.
const BLOCK: usize = 512;
/// Longest name in a header without a prefix.
const NAME: usize = 100;
/// Where the sum stands in a header.
const SUM: std::ops::Range<usize> = 148..156;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub name: String,
    pub content: Vec<u8>,
}

/// What is not a tar file as written here.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TarError {
    /// A name does not fit.
    #[error("the name {0} is longer than {NAME} bytes")]
    Name(String),
    /// A header is none.
    #[error("there is no header at byte {0}")]
    Header(usize),
    /// The file ends before its end.
    #[error("it ends at byte {0}, amid a file")]
    Short(usize),
    /// Something else than a regular file, or a name that leads elsewhere.
    #[error("it holds {0}, which Kina does not write")]
    Foreign(String),
}

/// Writes members, one after another, as files that only their owner may read.
pub(super) fn write(members: &[Member], modified_seconds: u64) -> Result<Vec<u8>, TarError> {
    let mut out = Vec::new();
    for Member { name, content } in members {
        if name.len() > NAME {
            return Err(TarError::Name(name.clone()));
        }
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, text: &str| {
            for (to, from) in header.iter_mut().skip(at).zip(text.bytes()) {
                *to = from;
            }
        };
        put(0, name);
        put(100, "0000600");
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, &format!("{modified_seconds:011o}"));
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        for (to, from) in header.iter_mut().skip(SUM.start).zip(format!("{sum:06o}\0 ").bytes()) {
            *to = from;
        }
        out.extend_from_slice(&header);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    Ok(out)
}

/// Reads what [`write`] writes.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Member>, TarError> {
    let (mut members, mut at) = (Vec::new(), 0);
    loop {
        let header = bytes.get(at..at + BLOCK).ok_or(TarError::Short(bytes.len()))?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(members);
        }
        let sum: u64 =
            header.iter().enumerate().map(|(at, byte)| u64::from(if SUM.contains(&at) { b' ' } else { *byte })).sum();
        if octal(header, SUM) != Some(sum) || header.get(257..262) != Some(b"ustar".as_slice()) {
            return Err(TarError::Header(at));
        }
        let name = text(header, 0..NAME).ok_or(TarError::Header(at))?;
        let is_plain = name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        let is_file = matches!(header.get(156), Some(b'0' | 0)) && text(header, 345..500).is_some_and(str::is_empty);
        if !is_plain || !is_file {
            return Err(TarError::Foreign(format!("`{}`", name.escape_debug())));
        }
        let length =
            octal(header, 124..136).and_then(|length| usize::try_from(length).ok()).ok_or(TarError::Header(at))?;
        let start = at + BLOCK;
        let content = start.checked_add(length).and_then(|end| bytes.get(start..end));
        let content = content.ok_or(TarError::Short(bytes.len()))?.to_vec();
        members.push(Member { name: name.to_owned(), content });
        at = start + length.next_multiple_of(BLOCK);
    }
}

fn text(header: &[u8], range: std::ops::Range<usize>) -> Option<&str> {
    let field = header.get(range)?;
    let length = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    std::str::from_utf8(field.get(..length)?).ok()
}

fn octal(header: &[u8], range: std::ops::Range<usize>) -> Option<u64> {
    u64::from_str_radix(text(header, range)?.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, content: &[u8]) -> Member {
        Member { name: name.to_owned(), content: content.to_vec() }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_that_was_cut_or_changed() {
        let members = [member("a", b""), member("pki/u/pki.json", &[7; 700]), member("b", &[1; 512])];
        let bytes = write(&members, 1_800_000_000).unwrap();
        assert_eq!(read(&bytes).unwrap(), members);
        for length in 0..bytes.len() - 2 * BLOCK {
            assert!(read(&bytes[..length]).is_err(), "cut at {length}");
        }
        let mut other = bytes.clone();
        other[0] ^= 1;
        assert_eq!(read(&other), Err(TarError::Header(0)));
        assert!(write(&[member(&"n".repeat(101), b"")], 0).is_err());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["/etc/passwd", "../x", "a//b", "a/./b"] {
            let bytes = write(&[member(name, b"x")], 0).unwrap();
            assert!(matches!(read(&bytes), Err(TarError::Foreign(_))), "{name}");
        }
    }
}
