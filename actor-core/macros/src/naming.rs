//! Wire names: how they are made from Rust names and what they may look like.

/// The longest kind or event name, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The longest topic, in bytes.
const TOPIC_BYTES_MAX: usize = 128;

/// Returns a Rust name in kebab case: `OrderPlaced` and `order_placed` become `order-placed`.
pub(crate) fn kebab(name: &str) -> String {
    let letters: Vec<char> = name.trim_start_matches("r#").chars().collect();
    let mut text = String::with_capacity(name.len() + 4);
    for (at, &letter) in letters.iter().enumerate() {
        // A word also starts at the last capital of a run, so that `HTTPServer` is `http-server`.
        let after_small = at > 0 && !letters[at - 1].is_uppercase();
        let before_small = letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        let starts_word = letter.is_uppercase() && at > 0 && (after_small || before_small);
        if starts_word && !text.ends_with('-') {
            text.push('-');
        }
        match letter {
            '_' => text.push('-'),
            other => text.extend(other.to_lowercase()),
        }
    }
    text
}

/// Says whether this is a kind or event name: `[a-z][a-z0-9-]{0,63}`.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Says whether this is a topic: `[a-z0-9/_.-]{1,128}`.
pub(crate) fn is_topic(text: &str) -> bool {
    (1..=TOPIC_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'/' | b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kebab_name_splits_words_and_keeps_acronyms_whole() {
        let cases = [
            ("Cart", "cart"),
            ("OrderPlaced", "order-placed"),
            ("HTTPServer", "http-server"),
            ("Area51Guard", "area51-guard"),
            ("IPv4", "i-pv4"),
            ("snake_case", "snake-case"),
            ("r#type", "type"),
        ];
        for (name, expected) in cases {
            assert_eq!(kebab(name), expected);
        }
    }

    #[test]
    fn a_name_starts_with_a_letter_and_has_a_bound() {
        assert!(is_name("cart-2"));
        assert!(is_name(&"a".repeat(64)));

        for bad in [
            "",
            "2cart",
            "-cart",
            "Cart",
            "cart_2",
            "caf\u{e9}",
            &"a".repeat(65),
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_topic_may_have_levels_and_has_a_bound() {
        assert!(is_topic("shop/orders_v2.eu-1"));

        for bad in ["", "Orders", "a b", "a*", &"a".repeat(129)] {
            assert!(!is_topic(bad), "{bad}");
        }
    }
}
