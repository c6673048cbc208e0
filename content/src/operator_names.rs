//! Elements and attributes with the names of XPath's operators, such as `div`.
//!
//! The evaluator takes these names for operators wherever they stand. What they are, the token before them tells
//! (XPath 1.0, section 3.7): after an operand they are operators, else names.

const OPERATORS: [&str; 4] = ["and", "or", "mod", "div"];

/// The same expression, in which such a name is a condition: `//div` is `//*[name()='div' and namespace-uri()='']`.
pub(crate) fn spelled_out(expression: &str) -> String {
    let mut written = String::with_capacity(expression.len());
    let mut rest = expression;
    let mut is_after_operand = false;
    while let Some(token) = first_token(rest) {
        rest = &rest[token.len()..];
        if OPERATORS.contains(&token) && !is_after_operand {
            written.push_str(&format!("*[name()='{token}' and namespace-uri()='']"));
            is_after_operand = true;
            continue;
        }
        written.push_str(token);
        is_after_operand = match token {
            "*" => !is_after_operand,
            "." | ".." | ")" | "]" => true,
            _ if token.starts_with(char::is_whitespace) => is_after_operand,
            _ if OPERATORS.contains(&token) => false,
            // Names of functions and axes too: a parenthesis or colon follows.
            _ => token.starts_with(|first: char| {
                begins_name(first) || first.is_ascii_digit() || matches!(first, '\'' | '"' | '.')
            }),
        };
    }
    written
}

/// A name, with its prefix; a number; a literal, with its quotes; spaces; or a mark of one character, two for `..`.
fn first_token(text: &str) -> Option<&str> {
    let first = text.chars().next()?;
    let end = match first {
        '\'' | '"' => text[1..].find(first).map_or(text.len(), |end| end + 2),
        _ if first.is_whitespace() => while_is(text, char::is_whitespace),
        _ if first.is_ascii_digit() => while_is(text, |next| next.is_ascii_digit() || next == '.'),
        '.' if text[1..].starts_with(|next: char| next.is_ascii_digit()) => {
            1 + while_is(&text[1..], |next| next.is_ascii_digit())
        }
        '.' if text.starts_with("..") => 2,
        _ if begins_name(first) => {
            let end = while_is(text, is_in_name);
            let local = text[end..].strip_prefix(':').filter(|local| local.starts_with(begins_name));
            local.map_or(end, |local| end + 1 + while_is(local, is_in_name))
        }
        _ => first.len_utf8(),
    };
    Some(&text[..end])
}

fn begins_name(character: char) -> bool {
    character.is_alphabetic() || character == '_'
}

fn is_in_name(character: char) -> bool {
    begins_name(character) || character.is_numeric() || matches!(character, '-' | '.')
}

fn while_is(text: &str, holds: impl Fn(char) -> bool) -> usize {
    text.find(|next| !holds(next)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_told_from_an_operator_by_what_stands_before_it() {
        let div = "*[name()='div' and namespace-uri()='']";
        for (expression, expected) in [
            ("//div", "//DIV"),
            ("div", "DIV"),
            (" div ", " DIV "),
            ("//div[@class='a']/div[1]", "//DIV[@class='a']/DIV[1]"),
            ("child::div", "child::DIV"),
            ("@div", "@DIV"),
            ("//div/div div div", "//DIV/DIV div DIV"),
            ("4 div 2", "4 div 2"),
            ("4.5 div .5", "4.5 div .5"),
            ("count(//div) div 2", "count(//DIV) div 2"),
            ("//a[div]", "//a[DIV]"),
            ("//a[. div 2]", "//a[. div 2]"),
            ("//a[.. div 2]", "//a[.. div 2]"),
            ("//a[position() div 2 = 1]", "//a[position() div 2 = 1]"),
            ("* div *", "* div *"),
            ("* * div", "* * DIV"),
            ("//*[@a] div 2", "//*[@a] div 2"),
            ("'div' div \"div\"", "'div' div \"div\""),
            ("concat(div, 'a div b')", "concat(DIV, 'a div b')"),
            ("- div", "- DIV"),
            ("-div", "-DIV"),
            ("a-div", "a-div"),
            ("//div-a | //a.div", "//div-a | //a.div"),
            ("//div:a | //a:div", "//div:a | //a:div"),
            ("a|div", "a|DIV"),
            ("a=div", "a=DIV"),
            ("div=div", "DIV=DIV"),
            ("'div", "'div"),
            ("", ""),
        ] {
            assert_eq!(spelled_out(expression), expected.replace("DIV", div), "{expression}");
        }
        assert_eq!(spelled_out("//a[b and c or d mod 2]"), "//a[b and c or d mod 2]");
        assert_eq!(
            spelled_out("and and or"),
            "*[name()='and' and namespace-uri()=''] and *[name()='or' and namespace-uri()='']"
        );
    }

    proptest! {
        #[test]
        fn other_expressions_stay_as_they_are(text in "([a-c ]|//|'|\"|\\.|\\*|@|\\[|\\]|é|1|::|\\$|:){0,20}") {
            prop_assert_eq!(spelled_out(&text), text);
        }
    }
}
