//! The probable spelling of a misspelled name.

/// The candidate nearest to a misspelled word, if one is near enough.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len() / 4 + usize::from(candidate.len() > 2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The number of letters to add, remove, replace, or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
    let mut row: Vec<usize> = (0..=b.len()).collect();
    // The row before that, and its letter.
    let (mut earlier, mut before) = (Vec::new(), None);
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let substituted = at(&row, j) + usize::from(x != *y);
            let removed = at(&row, j + 1) + 1;
            let inserted = at(&next, j) + 1;
            let is_swap = before == Some(*y) && j.checked_sub(1).and_then(|j| b.get(j)) == Some(&x);
            let swapped = if is_swap { at(&earlier, j - 1) + 1 } else { usize::MAX };
            next.push(substituted.min(removed).min(inserted).min(swapped));
        }
        earlier = std::mem::replace(&mut row, next);
        before = Some(x);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_words() {
        let fields = ["matchLabels", "matchExpressions"];
        assert_eq!(nearest("matchLabel", fields), Some("matchLabels"));
        assert_eq!(nearest("MatchExpressions", fields), Some("matchExpressions"));
        assert_eq!(nearest("app", fields), None);
        assert_eq!(nearest("in", ["In", "NotIn"]), Some("In"));
        assert_eq!(nearest("wbe", ["web", "db"]), Some("web"));
        assert_eq!(nearest("shpo", ["ship", "shop"]), Some("shop"));
        for (a, b, expected) in
            [("", "", 0), ("", "ab", 2), ("ab", "", 2), ("abc", "abd", 1), ("abcd", "acbd", 1), ("abc", "cab", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
