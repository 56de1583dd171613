//! "Did you mean": the known word nearest to what was written.

/// The nearest of the known words, where it is near enough to be meant: a third of its letters, at least one.
pub(crate) fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Longer words are no typing errors of ours, and the distance costs their product.
    if written.chars().count() > 64 {
        return None;
    }
    let scored = known.into_iter().map(|word| (distance(&written.to_lowercase(), &word.to_lowercase()), word));
    scored.min().filter(|(distance, word)| *distance <= (word.chars().count() / 3).max(1)).map(|(_, word)| word)
}

/// Edits (insert, remove, replace, swap of neighbours) from one word to the other.
pub(super) fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for (i, &l) in left.iter().enumerate() {
        let above = &rows[i];
        let mut row = vec![i + 1];
        for (j, &r) in right.iter().enumerate() {
            let mut best = (above[j] + usize::from(l != r)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && l == right[j - 1] && left[i - 1] == r {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_found_and_other_words_are_not() {
        let known = ["workers", "networking", "controlPlane", "ttl"];
        assert_eq!(nearest("workerz", known), Some("workers"));
        assert_eq!(nearest("wrokers", known), Some("workers"));
        assert_eq!(nearest("controlplane", known), Some("controlPlane"));
        assert_eq!(nearest("nodes", known), None);
        assert_eq!(distance("kina.dve", "kina.dev"), 1);
    }
}
