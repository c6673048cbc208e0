//! YAML documents (JSON is YAML) as trees that know their lines.

use std::fmt;

use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, SeqAccess};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_saphyr::{Spanned, UserMessageFormatter};

use super::secret::SECRET;

/// How deep values may be nested: several times as deep as those of an object from a cluster. Reading takes stack for each level, more
/// than a thread has for the 64 that the parser allows.
const MAX_DEPTH: usize = 32;

/// Something wrong, at a line of the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LocatedMessage {
    pub(super) line: usize,
    pub(super) message: String,
}

/// The text of one document. Empty lines stand for what comes before it in its file, so that the parser counts the
/// file's lines.
pub(super) struct Document {
    text: String,
    first_line: usize,
}

/// Takes a file apart before it is parsed: a syntax error would otherwise take all that follows with it. A line
/// that starts with `---` or `...` is a boundary everywhere in YAML, also within texts of several lines.
pub(super) fn split(text: &str) -> Vec<Document> {
    let mut documents = Vec::new();
    let mut begin = (0, 1);
    let mut offset = 0;
    let mut has_content = false;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let starts = is_marker(line, "---");
        // Comments and directives (`%YAML 1.2`) belong to the document that follows them.
        if starts && has_content {
            documents.push(Document::of(&text[begin.0..offset], begin.1));
            begin = (offset, index + 1);
            has_content = false;
        }
        offset += line.len();
        if is_marker(line, "...") {
            documents.push(Document::of(&text[begin.0..offset], begin.1));
            begin = (offset, index + 2);
            has_content = false;
        } else {
            has_content |= starts || !(line.trim().is_empty() || line.starts_with(['#', '%']));
        }
    }
    documents.push(Document::of(&text[begin.0..], begin.1));
    documents
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

impl Document {
    fn of(text: &str, first_line: usize) -> Document {
        Document { text: "\n".repeat(first_line - 1) + text, first_line }
    }

    /// The document as a tree; `None` if there is nothing but comments.
    pub(super) fn parse(&self) -> Result<Option<Node>, LocatedMessage> {
        let root: Option<Node> = self.read().map_err(|located| self.without_values(located))?;
        Ok(root.filter(|root| !matches!(root.content, Content::Scalar(Value::Null))))
    }

    /// What the parser says may quote what it stumbles over, which nobody may see of a Secret.
    fn without_values(&self, located: LocatedMessage) -> LocatedMessage {
        let words: Vec<&str> = self
            .text
            .split(|letter: char| !letter.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        if !words.windows(2).any(|pair| pair == ["kind", SECRET]) {
            return located;
        }
        let message = "this Secret cannot be read; what stands here is not shown, since it may be a secret";
        LocatedMessage { message: message.to_owned(), ..located }
    }

    /// The document as a type of its own.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, LocatedMessage> {
        let options = serde_saphyr::options! { budget: serde_saphyr::budget! { max_depth: MAX_DEPTH } };
        serde_saphyr::from_str_with_options(&self.text, options).map_err(|error| self.locate(&error))
    }

    fn locate(&self, error: &serde_saphyr::Error) -> LocatedMessage {
        let error = error.without_snippet();
        let mut message = error.render_with_formatter(&UserMessageFormatter);
        let Some(location) = error.location() else {
            return LocatedMessage { line: self.first_line, message };
        };
        let (line, column) = (usize_of(location.line()), usize_of(location.column()));
        // The place is said once, before the message.
        if let Some(end) = message.rfind(&format!(" at line {line}, column {column}")) {
            message.truncate(end);
        }
        let culprit =
            self.text.lines().nth(line.saturating_sub(1)).unwrap_or_default().chars().nth(column - 1);
        if let Some(culprit @ ('*' | '@' | '%' | '`')) = culprit {
            message = format!("{message} (a value that starts with {culprit} needs quotes)");
        }
        LocatedMessage { line, message }
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX).max(1)
}

/// A value and the line it starts at.
#[derive(Debug)]
pub(super) struct Node {
    line: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Scalar(Value),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

#[derive(Debug)]
struct Key {
    line: usize,
    name: String,
}

impl Node {
    pub(super) fn line(&self) -> usize {
        self.line
    }

    pub(super) fn is_mapping(&self) -> bool {
        matches!(self.content, Content::Mapping(_))
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The value at a path such as `spec.delivery[0].webhook.url`.
    pub(super) fn find(&self, path: &str) -> Option<&Node> {
        let (node, _, rest) = self.follow(path);
        rest.is_empty().then_some(node)
    }

    /// The line of the field at a path, or of the innermost field around it that is there.
    pub(super) fn line_of(&self, path: &str) -> usize {
        let (_, line, _) = self.follow(path);
        line
    }

    /// Goes along a path as far as it is there: the last value, the line of its field, and the rest of the path.
    fn follow<'path>(&self, path: &'path str) -> (&Node, usize, &'path str) {
        let (mut node, mut line, mut rest) = (self, self.line, path);
        while let Some((next, next_line, next_rest)) = node.step(rest) {
            (node, line, rest) = (next, next_line, next_rest);
        }
        (node, line, rest)
    }

    fn step<'path>(&self, path: &'path str) -> Option<(&Node, usize, &'path str)> {
        match &self.content {
            Content::Scalar(_) => None,
            Content::Sequence(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item, item.line, rest))
            }
            // Names may hold dots themselves: the longest that fits is meant.
            Content::Mapping(fields) => {
                let path = path.strip_prefix('.').unwrap_or(path);
                fields
                    .iter()
                    .filter_map(|(key, value)| {
                        let rest = path.strip_prefix(key.name.as_str())?;
                        let is_whole = rest.is_empty() || rest.starts_with(['.', '[']);
                        (is_whole && !path.is_empty()).then_some((value, key.line, rest))
                    })
                    .min_by_key(|(_, _, rest)| rest.len())
            }
        }
    }
}

impl Serialize for Node {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.content {
            Content::Scalar(value) => value.serialize(serializer),
            Content::Sequence(items) => serializer.collect_seq(items),
            Content::Mapping(fields) => {
                serializer.collect_map(fields.iter().map(|(key, value)| (&key.name, value)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Node { line: usize_of(spanned.referenced.line()), content: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> de::Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Content::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = access.next_entry::<Spanned<String>, Node>()? {
            fields.push((Key { line: usize_of(name.referenced.line()), name: name.value }, value));
        }
        Ok(Content::Mapping(fields))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn documents_begin_where_yaml_says() {
        let cases: [(&str, &[usize]); 8] = [
            ("a: 1\n", &[1]),
            ("a: 1\n---\nb: 2\n", &[1, 2]),
            ("---\na: 1\n---\nb: 2\n", &[1, 3]),
            ("# about\n\n---\na: 1\n", &[1]),
            ("%YAML 1.2\n---\na: 1\n--- {b: 2}", &[1, 4]),
            ("a: 1\n...\nb: 2\n", &[1, 3]),
            ("a: |\n  ---\n  text\nb: ----\n", &[1]),
            ("a: 1\r\n---\r\nb: 2\r\n", &[1, 2]),
        ];
        for (text, expected) in cases {
            let documents = split(text);
            let lines: Vec<usize> = documents.iter().map(|document| document.first_line).collect();
            assert_eq!(lines, expected, "{text:?}");
            assert!(documents.iter().all(|document| document.parse().unwrap().is_some()), "{text:?}");
        }
        assert!(split("# nothing\n---\n\n").iter().all(|document| document.parse().unwrap().is_none()));
    }

    #[test]
    fn what_is_nested_deeper_than_any_object_is_refused() {
        let nested = |depth: usize| format!("a: {}1{}\n", "{a: ".repeat(depth - 1), "}".repeat(depth - 1));
        let read = |depth| split(&nested(depth)).remove(0).parse();
        assert!(read(MAX_DEPTH).unwrap().is_some());
        for depth in [MAX_DEPTH + 1, 60, 10_000] {
            assert_eq!(read(depth).unwrap_err().line, 1, "{depth}");
        }
    }

    #[test]
    fn a_path_leads_to_the_line_of_its_field() {
        let text = "spec:\n  list:\n  - a: 1\n  -\n    b: {c: 2,\n      d: 3}\n  some.name:\n    inner: |\n      text\n  some: x\n";
        let root = split(text).remove(0).parse().unwrap().unwrap();
        let cases = [
            ("", 1),
            ("spec", 1),
            ("spec.list", 2),
            ("spec.list[0]", 3),
            ("spec.list[0].a", 3),
            ("spec.list[1].b", 5),
            ("spec.list[1].b.d", 6),
            ("spec.list[7]", 2),
            ("spec.some.name.inner", 8),
            ("spec.some", 10),
            ("spec.missing.deeper", 1),
            ("status", 1),
        ];
        for (path, line) in cases {
            assert_eq!(root.line_of(path), line, "{path}");
        }
        assert_eq!(root.find("spec.some").unwrap().as_str(), Some("x"));
        assert!(root.find("spec.list[7]").is_none());
    }
}
