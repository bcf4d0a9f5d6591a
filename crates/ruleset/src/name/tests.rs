use super::*;

fn named(text: &str) -> String {
    let name = Name::new(text);
    assert!(name.as_str().len() <= MAX_NAME, "{name}");
    assert_eq!(Name::parse(name.as_str()), Some(name.clone()), "it is read back from the kernel as one of ours");
    name.to_string()
}

#[test]
fn a_name_that_nft_reads_stays_as_it_is() {
    for text in ["a", "ingress/shop/web", "pods/422de1f4a644/4", "x.y_z-1", &"n".repeat(READABLE)] {
        assert_eq!(named(text), text);
    }
}

#[test]
fn a_long_name_is_truncated_and_ends_in_a_hash_of_the_whole() {
    let long = "n".repeat(READABLE);
    let (one, other) = (named(&format!("{long}1")), named(&format!("{long}2")));
    assert_eq!(one.len(), READABLE);
    let (head, tail) = one.rsplit_once('-').unwrap();
    assert_eq!((head, tail), ("n".repeat(READABLE - HASH_DIGITS - 1).as_str(), hash(&format!("{long}1")).as_str()));
    assert_ne!(one, other, "they differ only in the truncated part");
}

#[test]
fn a_name_that_nft_cannot_read_gets_a_unique_replacement() {
    // Names that an attacker may write into labels. If only the bad characters were replaced, each would equal the
    // first.
    let texts = ["a_b", "a b", "a\"b", "a{b", "a;b", "a\nb", "a\u{e9}b", "a\0b"];
    let names: std::collections::BTreeSet<_> = texts.iter().map(|text| named(text)).collect();
    assert_eq!(names.len(), texts.len(), "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("a_b")), "{names:?}");
    assert!(named("1/a").starts_with("x1/a-"));
    assert!(named("").starts_with("x-"));
}

#[test]
fn foreign_names_are_not_read_as_ours() {
    for text in ["", "1a", "/a", "a b", "a\"", "\u{e9}", &"n".repeat(MAX_NAME + 1)] {
        assert_eq!(Name::parse(text), None, "{text}");
    }
    assert!(Name::parse(&"n".repeat(MAX_NAME)).is_some());
}

/// The expected value is from `printf palisade | sha256sum`.
#[test]
fn the_hash_is_the_beginning_of_sha256() {
    assert_eq!(hash("palisade"), "31bcf00e5414");
}

#[test]
fn a_comment_has_nothing_that_ends_it_early() {
    assert_eq!(comment("a \"b\"\\\n\tc"), "a 'b'/  c");
    assert_eq!(comment(&"c".repeat(MAX_COMMENT)), "c".repeat(MAX_COMMENT));
}

#[test]
fn a_long_comment_is_truncated_between_characters_and_ends_in_a_hash() {
    for text in
        ["c".repeat(MAX_COMMENT + 1), "\u{e9}".repeat(MAX_COMMENT), format!("c{}", "\u{20ac}".repeat(MAX_COMMENT))]
    {
        let comment = comment(&text);
        let (head, tail) = comment.split_once("… ").unwrap();
        assert!(comment.len() <= MAX_COMMENT && comment.len() > MAX_COMMENT - 4, "{comment}");
        assert!(text.starts_with(head), "{comment}");
        assert_eq!(tail, hash(&text));
    }
    let long = "c".repeat(MAX_COMMENT);
    assert_ne!(comment(&format!("{long}1")), comment(&format!("{long}2")));
}
