//! Text without what no reader sees, so that equal texts are equal bytes.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Normalises a text: Unicode NFC; no invisible and no control characters; every kind of space is one space, or one tab
/// where there was a tab among them; lines have no space at either end; of blank lines that follow each other one stays,
/// and none at the beginning and end. Normalising twice changes nothing more.
pub fn normalise(text: &str) -> String {
    let text = composed(text);
    let mut normalised = String::with_capacity(text.len());
    let mut blank_lines = 0;
    for line in text.split('\n') {
        let line = line.trim_matches([' ', '\t']);
        if line.is_empty() {
            blank_lines += 1;
            continue;
        }
        if !normalised.is_empty() {
            normalised.push_str(if blank_lines > 0 { "\n\n" } else { "\n" });
        }
        blank_lines = 0;
        push_line(&mut normalised, line);
    }
    normalised
}

fn push_line(normalised: &mut String, line: &str) {
    let mut space = None;
    for character in line.chars() {
        match (character, space) {
            ('\t', _) => space = Some('\t'),
            (' ', None) => space = Some(' '),
            (' ', Some(_)) => {}
            (character, _) => {
                normalised.extend(space.take());
                normalised.push(character);
            }
        }
    }
}

/// In NFC, with line feeds for all line ends, and without invisible characters. What stands between characters is taken
/// out first: they may compose.
pub(crate) fn composed(text: &str) -> String {
    if text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_control() && !matches!(byte, b'\n' | b'\t'))
    {
        return text.to_owned();
    }
    let mut previous = None;
    let visible = text.chars().filter_map(|character| {
        let is_second_of_pair = character == '\n' && previous == Some('\r');
        previous = Some(character);
        match character {
            _ if is_second_of_pair => None,
            '\n' | '\t' => Some(character),
            '\r' | '\u{B}' | '\u{C}' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some('\n'),
            _ if is_invisible(character) || character.is_control() => None,
            _ if character.is_whitespace() => Some(' '),
            _ => Some(character),
        }
    });
    let visible: String = visible.collect();
    match is_nfc_quick(visible.chars()) {
        IsNormalized::Yes => visible,
        IsNormalized::No | IsNormalized::Maybe => visible.nfc().collect(),
    }
}

/// Characters without width or meaning of their own. The joiners U+200C and U+200D stay: they make other letters in
/// Persian and in the scripts of India.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{AD}' | '\u{180E}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{206F}' | '\u{FEFF}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_no_reader_sees_is_gone() {
        for (text, expected) in [
            ("  a \u{a0}\u{2003} b  ", "a b"),
            ("a \t b", "a\tb"),
            ("\n\na\r\nb\r\r\n\n \nc\n\n", "a\nb\n\nc"),
            ("Ver\u{ad}fas\u{200b}sung\u{feff}", "Verfassung"),
            ("cafe\u{301} \u{212b}", "café Å"),
            // What stood between letter and accent no longer does.
            ("e\u{200b}\u{301}", "é"),
            ("می\u{200c}خواهم", "می\u{200c}خواهم"),
            ("a\u{0}\u{7}b\u{2028}c", "ab\nc"),
            ("", ""),
        ] {
            assert_eq!(normalise(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing_more(text in "(\\PC|[ \t\r\n\u{a0}\u{ad}\u{200b}\u{301}\u{2028}a-c]){0,60}") {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }

        #[test]
        fn any_text_can_be_normalised(text in any::<String>()) {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }
    }
}
