//! The documents of one source: what happens to them next.

use std::time::Duration;

use tests::Random;

use crate::{
    Site,
    ledger::page,
    site::Mood,
    world::{Source, host_name},
};

/// A change of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where the document is.
    pub path: String,
    /// What happens to it, as versions call it.
    pub kind: &'static str,
    /// What it says then.
    pub edition: u32,
}

/// A source's documents.
pub struct Documents {
    path: String,
    is_list: bool,
    /// Whether it was looked at: what is there then is where histories begin.
    is_known: bool,
    documents: Vec<Document>,
}

struct Document {
    path: String,
    edition: u32,
    is_listed: bool,
}

const ENTRIES: usize = 3;
/// Redirects lead to one of so many hosts.
const HOSTS: usize = 100;
const ERRORS: [u16; 4] = [500, 502, 503, 404];

impl Documents {
    /// Puts the first edition on the site.
    pub fn new(source: &Source, site: &Site) -> Self {
        let document = |path| Document { path, edition: 1, is_listed: true };
        let documents = match source.is_list {
            true => (0..ENTRIES).map(|entry| document(entry_path(&source.path, entry))).collect(),
            false => vec![document(source.path.clone())],
        };
        let documents =
            Self { path: source.path.clone(), is_list: source.is_list, is_known: false, documents };
        for document in &documents.documents {
            site.set(&document.path, page(&document.path, document.edition));
        }
        documents.write_list(site);
        documents
    }

    /// Something happens. Returns the changes, which the next run that succeeds must find.
    pub fn step(&mut self, site: &Site, random: &mut Random) -> Vec<Change> {
        if !self.is_known {
            self.is_known = true;
            return self.documents.iter().map(|document| document.change("Baseline")).collect();
        }
        self.trouble(site, random);
        // So often nothing has changed when somebody looks.
        if random.percent(15) {
            return Vec::new();
        }
        let changes = if self.is_list { self.change_list(random) } else { vec![self.documents[0].amend()] };
        for document in &self.documents {
            site.set(&document.path, page(&document.path, document.edition));
        }
        self.write_list(site);
        changes
    }

    /// Errors, slow answers, redirects.
    fn trouble(&self, site: &Site, random: &mut Random) {
        let troubled = &self.documents[random.below(self.documents.len())].path;
        let path = if random.percent(50) { &self.path } else { troubled };
        match random.below(100) {
            0..10 => site.add_mood(path, Mood::Status(ERRORS[random.below(ERRORS.len())])),
            10..20 => {
                site.add_mood(path, Mood::Slow(Duration::from_millis(500 + random.below(3_000) as u64)))
            }
            // Links on a list would lead to the other host too, and be other documents.
            20..30 if !self.is_list => {
                let host = (!site.is_moved(&self.path)).then(|| host_name(random.below(HOSTS)));
                site.move_to(&self.path, host);
            }
            _ => {}
        }
    }

    /// Some documents change, and a new one comes, one goes or one comes back.
    fn change_list(&mut self, random: &mut Random) -> Vec<Change> {
        let mut changes = Vec::new();
        for document in self.documents.iter_mut().filter(|document| document.is_listed) {
            if random.percent(30) {
                changes.push(document.amend());
            }
        }
        let is_changed = |path: &str| changes.iter().any(|change: &Change| change.path == path);
        let listed = self.documents.iter().filter(|document| document.is_listed).count();
        let gone = self.documents.iter().position(|document| !document.is_listed);
        let kept =
            self.documents.iter().position(|document| document.is_listed && !is_changed(&document.path));
        match (random.below(3), gone, kept) {
            (0, Some(gone), _) => {
                let document = &mut self.documents[gone];
                document.is_listed = true;
                // It may have changed meanwhile.
                document.edition += u32::from(random.percent(50));
                changes.push(document.change("Returned"));
            }
            (1, _, Some(kept)) if listed > 1 => {
                let document = &mut self.documents[kept];
                document.is_listed = false;
                changes.push(document.change("Removed"));
            }
            _ => {
                let path = entry_path(&self.path, self.documents.len());
                self.documents.push(Document { path, edition: 1, is_listed: true });
                changes.extend(self.documents.last().map(|document| document.change("New")));
            }
        }
        changes
    }

    fn write_list(&self, site: &Site) {
        if !self.is_list {
            return;
        }
        let links = self.documents.iter().filter(|document| document.is_listed);
        let links: String =
            links.map(|document| format!("<li><a href=\"{0}\">{0}</a></li>\n", document.path)).collect();
        site.set(&self.path, format!("<!DOCTYPE html><html><body><ul>\n{links}</ul></body></html>\n"));
    }
}

impl Document {
    fn amend(&mut self) -> Change {
        self.edition += 1;
        self.change("Changed")
    }

    fn change(&self, kind: &'static str) -> Change {
        Change { path: self.path.clone(), kind, edition: self.edition }
    }
}

fn entry_path(list: &str, entry: usize) -> String {
    format!("{list}/entry/{entry}")
}
