//! What differs between successive snapshots of one page whose links are what is versioned: those that came and those
//! that went, and nothing else.

use std::collections::BTreeSet;

use changes::{Change, Extent, Extract, FieldChange, LineTag, fields_of};
use content::{BODY, Document, Extraction, Kind, Query, Selection, SelectorSpec, extract};
use serde_json::Value;
use url::Url;

use crate::corpus::Page;

/// What a user writes as `selectors.body.css` of a Subscription, with `attr: href` and `all`, and how many snapshots of the
/// page there are.
const FAMILIES: [(&str, &str, usize); 4] = [
    ("iowa", ".main-content-wrapper a[href*='/embed/']", 4),
    ("ca2_p", "td.ResultsItemLeft a", 3),
    ("ca3_p", "body > a[href*='/opinarch/']", 2),
    ("cit", "table table a[href$='.pdf'], .field__item table a[href$='.pdf']", 2),
];

fn links(css: &str) -> Selection {
    let query = Query::Css(css.to_owned());
    let body = SelectorSpec { query, attr: Some("href".to_owned()), all: true };
    Selection::new(&[(BODY.to_owned(), body)].into(), &[], &[]).unwrap()
}

fn extracted(page: &Page, selection: &Selection) -> Extraction {
    let bytes = page.bytes();
    let kind = Kind::of(&bytes, Some("text/html"));
    let extraction =
        extract(&Document { bytes: &bytes, content_type: Some("text/html"), kind }, selection).unwrap();
    assert_eq!((extraction.looks_blocked, extraction.matched_nothing.len()), (None, 0), "{}", page.id);
    extraction
}

fn compared(old: &Extraction, new: &Extraction) -> Option<Change> {
    let (old_fields, new_fields) = (fields_of(&old.fields), fields_of(&new.fields));
    let (old_lines, new_lines) = (Extract::lines_of(&old.text), Extract::lines_of(&new.text));
    let old = Extract { text: &old_lines, fields: &old_fields };
    let new = Extract { text: &new_lines, fields: &new_fields };
    Change::changed(old, new, Extent::Whole)
}

/// A link of the page as its scraper has it.
fn absolute(page: &Page, href: &str) -> Url {
    page.base_url.join(href).unwrap()
}

/// Of all lines of the change, those that one side has alone.
fn lines(change: &Change, side: LineTag, page: &Page) -> BTreeSet<Url> {
    let lines = change.hunks.iter().flat_map(|hunk| &hunk.lines).filter(|line| line.tag == side);
    lines.map(|line| absolute(page, &text(line))).collect()
}

fn text(line: &changes::Line) -> String {
    let part = |part: &changes::Part| match part {
        changes::Part::Same(text) | changes::Part::Differs(text) => text.clone(),
        changes::Part::Omitted(bytes) => panic!("{bytes} bytes are left out"),
    };
    line.parts.iter().map(part).collect()
}

/// The links that a side of the field `body` has, in the page's order.
fn values(value: Option<&Value>, page: &Page) -> Vec<Url> {
    let values = value.and_then(Value::as_array).unwrap_or_else(|| panic!("{}: {value:?}", page.id));
    values.iter().map(|value| absolute(page, value.as_str().unwrap())).collect()
}

#[test]
fn the_changes_of_a_page_of_links_are_the_links_that_came_and_went() {
    for (family, css, count) in FAMILIES {
        let (snapshots, selection) = (Page::snapshots(family), links(css));
        assert_eq!(snapshots.len(), count, "{family}");
        for pair in snapshots.windows(2) {
            let (old, new) = (&pair[0], &pair[1]);
            let name = format!("{} to {}", old.id, new.id);
            let (before, after) = (old.documents(), new.documents());
            let gone: BTreeSet<Url> = before.difference(&after).cloned().collect();
            let came: BTreeSet<Url> = after.difference(&before).cloned().collect();
            let change = compared(&extracted(old, &selection), &extracted(new, &selection));
            let change = change.unwrap_or_else(|| panic!("{name}: nothing differs"));
            assert!(change.is_complete(), "{name}");
            let [FieldChange { name: field, old: old_value, new: new_value, .. }] = &change.field_changes[..]
            else {
                panic!("{name}: {:?}", change.field_changes)
            };
            assert_eq!(field, BODY, "{name}");
            let (old_links, new_links) = (values(old_value.as_ref(), old), values(new_value.as_ref(), new));
            assert_eq!(old_links.iter().cloned().collect::<BTreeSet<_>>(), before, "{name}: what was there");
            assert_eq!(new_links.iter().cloned().collect::<BTreeSet<_>>(), after, "{name}: what is there");
            assert_eq!(lines(&change, LineTag::Removed, old), gone, "{name}: what went");
            assert_eq!(lines(&change, LineTag::Added, new), came, "{name}: what came");
        }
    }
}

#[test]
fn nothing_differs_while_the_links_are_the_same() {
    for (family, css, _) in FAMILIES {
        let selection = links(css);
        for page in Page::snapshots(family) {
            let seen = extracted(&page, &selection);
            // The page says something else besides: a date of today, an advertisement.
            let mut bytes = page.bytes();
            bytes.extend_from_slice(b"<p>Today is Monday. <a href='/contact'>Contact</a>");
            let kind = Kind::of(&bytes, Some("text/html"));
            let other = Document { bytes: &bytes, content_type: Some("text/html"), kind };
            let again = extract(&other, &selection).unwrap();
            assert_eq!(compared(&seen, &again), None, "{}", page.id);
        }
    }
}
