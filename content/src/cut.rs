//! What is taken out of a document because it does not count, for whoever writes the rules. It is not stored.

use crate::{Document, ExtractError, Kind, MAX_TEXT, Selection, charset, normalise, render, tree};

/// The texts of the elements that each entry of `remove` cuts out of a page, in the order of the entries; what another
/// entry cuts out too is told with both. Of other kinds of documents nothing is removed.
///
/// # Errors
///
/// [`ExtractError::Tree`].
pub fn removed(document: &Document<'_>, selection: &Selection) -> Result<Vec<Vec<String>>, ExtractError> {
    if document.kind != Kind::Html {
        return Ok(vec![Vec::new(); selection.remove.len()]);
    }
    let page = tree::parse(&charset::decode(document.bytes, document.content_type).text)?;
    let texts = selection.remove.iter().map(|selector| {
        let elements = page.root_element().select(selector);
        elements.map(|element| normalise(&render::text(*element, MAX_TEXT))).collect()
    });
    Ok(texts.collect())
}

/// What each entry of `ignore` cuts out of a normalised text, in the order of the entries: a later one sees what the
/// earlier ones leave.
pub fn ignored(text: &str, selection: &Selection) -> Vec<Vec<String>> {
    let mut text = text.to_owned();
    let cuts = selection.ignore.iter().map(|expression| {
        let found = expression.find_iter(&text).filter(|found| !found.is_empty());
        let cut = found.map(|found| found.as_str().to_owned()).collect();
        text = expression.replace_all(&text, "").into_owned();
        cut
    });
    cuts.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn selection(remove: &[&str], ignore: &[&str]) -> Selection {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Selection::new(&[].into(), &owned(remove), &owned(ignore)).unwrap()
    }

    #[test]
    fn what_each_entry_removes_is_told() {
        let bytes = b"<html><nav>Home <b>Courts</b></nav><p>Opinion</p><p class=ad>Buy  this</p><p class=ad>And this</p>";
        let kind = Kind::of(bytes, None);
        let document = Document { bytes, content_type: None, kind };
        let selection = selection(&["nav", ".ad", "footer"], &[]);
        assert_eq!(
            removed(&document, &selection).unwrap(),
            [vec!["Home Courts".to_owned()], vec!["Buy this".to_owned(), "And this".to_owned()], vec![]]
        );
        let text = Document { bytes: b"nav", content_type: None, kind: Kind::Text };
        assert_eq!(removed(&text, &selection).unwrap(), vec![Vec::<String>::new(); 3]);
    }

    #[test]
    fn each_entry_ignores_what_those_before_it_leave() {
        let selection = selection(&[], &["^Printed on .*$", "\\d+ visitors", "Printed", "x*"]);
        let text = "Opinion\nPrinted on 9 March\n12 visitors, 13 visitors";
        assert_eq!(
            ignored(text, &selection),
            [
                vec!["Printed on 9 March".to_owned()],
                vec!["12 visitors".to_owned(), "13 visitors".to_owned()],
                vec![],
                vec![]
            ]
        );
    }
}
