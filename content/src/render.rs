//! The text of an element, as lines that a reader sees.

use ego_tree::NodeRef;
use ego_tree::iter::Edge;
use scraper::Node;

/// What is in these is not read.
fn is_unread(name: &str) -> bool {
    matches!(
        name,
        "head"
            | "script"
            | "style"
            | "template"
            | "noscript"
            | "svg"
            | "iframe"
            | "object"
            | "audio"
            | "video"
            | "canvas"
            | "datalist"
            | "noembed"
    )
}

/// A line begins before these and ends behind them. What is not here stands within a line.
fn is_block(name: &str) -> bool {
    matches!(
        name,
        "address"
            | "article"
            | "aside"
            | "blockquote"
            | "body"
            | "caption"
            | "center"
            | "dd"
            | "details"
            | "dialog"
            | "dir"
            | "div"
            | "dl"
            | "dt"
            | "fieldset"
            | "figcaption"
            | "figure"
            | "footer"
            | "form"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "header"
            | "hgroup"
            | "hr"
            | "html"
            | "legend"
            | "li"
            | "main"
            | "menu"
            | "nav"
            | "ol"
            | "option"
            | "p"
            | "pre"
            | "section"
            | "summary"
            | "table"
            | "tr"
            | "ul"
            | "title"
    )
}

/// The text below a node: a line each for block elements, list items and table rows; a tab between the cells of a row;
/// spaces collapsed, except in `pre`. It ends soon after `limit` bytes.
pub(crate) fn text(root: NodeRef<'_, Node>, limit: usize) -> String {
    let mut lines = Lines::default();
    let mut unread = None;
    let mut preformatted = 0_usize;
    for edge in root.traverse() {
        match edge {
            Edge::Open(node) if unread.is_none() => match node.value() {
                Node::Text(text) if preformatted > 0 => lines.push_preformatted(text),
                Node::Text(text) => lines.push(text),
                Node::Element(element) => {
                    let name = element.name();
                    if is_unread(name) && node != root {
                        unread = Some(node.id());
                        continue;
                    }
                    match name {
                        "br" => lines.break_line(),
                        "td" | "th" => lines.begin_cell(),
                        name if is_block(name) => lines.end_line(),
                        _ => {}
                    }
                    preformatted += usize::from(name == "pre");
                }
                _ => {}
            },
            Edge::Open(_) => {}
            Edge::Close(node) if unread.is_some() => {
                if unread == Some(node.id()) {
                    unread = None;
                }
            }
            Edge::Close(node) => {
                if let Node::Element(element) = node.value() {
                    preformatted -= usize::from(element.name() == "pre");
                    if is_block(element.name()) {
                        lines.end_line();
                    }
                }
            }
        }
        if lines.text.len() > limit {
            break;
        }
    }
    lines.text
}

#[derive(Default)]
struct Lines {
    text: String,
    /// What comes before the next word of this line.
    space: Option<char>,
}

impl Lines {
    fn push(&mut self, text: &str) {
        if text.starts_with(is_space) {
            self.space = self.space.or(Some(' '));
        }
        for (index, word) in text.split(is_space).filter(|word| !word.is_empty()).enumerate() {
            if index > 0 {
                self.space = Some(' ');
            }
            self.push_word(word);
        }
        if text.ends_with(is_space) {
            self.space = self.space.or(Some(' '));
        }
    }

    fn push_word(&mut self, word: &str) {
        let space = self.space.take();
        if !self.is_at_line_start() {
            self.text.extend(space);
        }
        self.text.push_str(word);
    }

    fn push_preformatted(&mut self, text: &str) {
        if !text.is_empty() {
            self.push_word(text);
        }
    }

    fn begin_cell(&mut self) {
        if !self.is_at_line_start() {
            self.space = Some('\t');
        }
    }

    fn break_line(&mut self) {
        self.space = None;
        self.text.push('\n');
    }

    fn end_line(&mut self) {
        self.space = None;
        if !self.is_at_line_start() {
            self.text.push('\n');
        }
    }

    fn is_at_line_start(&self) -> bool {
        self.text.is_empty() || self.text.ends_with('\n')
    }
}

/// What HTML collapses; a no-break space is none of it.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0C')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_page_is_read_line_by_line() {
        for (html, expected) in [
            ("<p>One <b>bold</b>\n word.<p>Two", "One bold word.\nTwo"),
            ("a<br>b<br><br>c", "a\nb\n\nc"),
            ("<ul><li>one<li>two<ul><li>three</ul></ul>", "one\ntwo\nthree"),
            ("<table><tr><th>No<th>Date<tr><td> 1 </td> <td>2024</td></table>", "No\tDate\n1\t2024"),
            ("x<script>y</script><style>z</style><noscript><p>n</p></noscript><template>t</template>w", "xw"),
            ("<title>t</title><body>b<img alt=no>", "b"),
            ("<pre>a\n  b</pre>c", "a\n  b\nc"),
            ("<a>one</a><a>two</a> <span>three</span>", "onetwo three"),
            ("<div><div></div></div><h1>Head</h1>text", "Head\ntext"),
        ] {
            let page = crate::tree::parse(html).unwrap();
            assert_eq!(text(*page.root_element(), 1000).trim_end(), expected, "{html}");
        }
    }
}
