//! What must be found: the changes that the script has made.

use std::collections::BTreeMap;

/// A document of a subscription: the subscription's name, and the URL.
pub type Document = (String, String);

/// A change that must be a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Of which kind.
    pub kind: &'static str,
    /// What the page then said.
    pub edition: u32,
}

/// All changes of all documents, each document's in order.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    changes: BTreeMap<Document, Vec<Expected>>,
    requests: BTreeMap<String, usize>,
}

impl Ledger {
    /// Notes a change.
    pub fn add(&mut self, subscription: &str, url: &str, kind: &'static str, edition: u32) {
        let document = (subscription.to_owned(), url.to_owned());
        self.changes.entry(document).or_default().push(Expected { kind, edition });
    }

    /// Notes that a run was asked for.
    pub fn request(&mut self, subscription: &str) {
        *self.requests.entry(subscription.to_owned()).or_default() += 1;
    }

    /// The changes of each document.
    #[must_use]
    pub fn changes(&self) -> &BTreeMap<Document, Vec<Expected>> {
        &self.changes
    }

    /// How often a run of a subscription was asked for.
    #[must_use]
    pub fn requests_of(&self, subscription: &str) -> usize {
        self.requests.get(subscription).copied().unwrap_or_default()
    }

    /// How many changes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.changes.values().map(Vec::len).sum()
    }
}

/// The body of a page.
#[must_use]
pub fn page(path: &str, edition: u32) -> String {
    format!(
        "<!DOCTYPE html><html><head><title>Page {path}</title></head><body><main><h1>Notice</h1>\n\
         <p>This is edition {edition} of the page {path}.</p>\n\
         <p>Whoever is concerned may object within thirty days of its publication, in writing.</p>\n\
         </main></body></html>\n"
    )
}

/// Which edition a text is of.
#[must_use]
pub fn edition(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("edition ")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_its_edition() {
        assert_eq!(edition(&page("/page/7", 42)), Some(42));
        assert_eq!(edition("not now"), None);
    }
}
