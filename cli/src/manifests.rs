//! Sources, Subscriptions and the Secrets that Sources name, from manifest files, as `kubectl apply -f` would take them.
//!
//! A path is a file, or a directory whose `*.yaml`, `*.yml` and `*.json` files are read in the order of their names;
//! directories within it and hidden files are not. A file holds one or more documents. Every document is judged by
//! itself: what is wrong with one is told with its file and line, and the others are used.

mod document;
mod object;
mod secret;
mod watcher;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crds::{Source, Subscription};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use uuid::Uuid;
use worker::secrets::{SecretName, SecretValues};

pub use watcher::ManifestWatcher;

use document::{Document, Node};
use object::Object;

/// A larger file is refused; etcd would not take an object of half that size.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The namespace of objects that name none.
const DEFAULT_NAMESPACE: &str = "default";

/// What a file or directory declares.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// The valid sources, in the order of reading.
    pub sources: Vec<Located<Source>>,
    /// The valid subscriptions whose source is among `sources`, in the order of reading.
    pub subscriptions: Vec<Located<Subscription>>,
    /// The valid Secrets that one of `sources` names. Others are passed over: nobody needs to hold them.
    pub secrets: BTreeMap<SecretName, Arc<SecretValues>>,
    /// All that is wrong, by file and line. An object that is missing above because of a problem was not taken away
    /// by the user: while there are problems, absence means nothing.
    pub problems: Vec<Problem>,
}

/// An object and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Located<T> {
    /// The object, with a namespace and a uid. Files know no generation and no time of creation.
    pub object: T,
    /// The file, by the path that was asked for.
    pub file: PathBuf,
    /// The first line of its document, from 1.
    pub line: usize,
    /// The same for equal specs, whatever their spelling, and another for others.
    pub spec_hash: Uuid,
}

/// Something wrong in a manifest file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, by the path that was asked for.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, without the place.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.file.display(), self.line, self.message)
    }
}

/// Why manifests cannot be read or watched at all.
#[derive(Debug, thiserror::Error)]
pub enum ManifestsError {
    /// The path is missing or closed.
    #[error("cannot read manifests from {}", path.display())]
    Read {
        /// The path asked for.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The system does not tell of changes.
    #[error("cannot watch {} for changes", path.display())]
    Watch {
        /// The path asked for.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: notify::Error,
    },
}

impl Manifests {
    /// Reads a file or a directory. It blocks: async code uses [`Manifests::load`].
    ///
    /// # Errors
    /// When the path is missing, or the directory cannot be listed. A single file that cannot be read is a problem among
    /// others.
    pub fn read(path: &Path) -> Result<Manifests, ManifestsError> {
        let files =
            manifest_files(path).map_err(|source| ManifestsError::Read { path: path.to_owned(), source })?;
        let mut reading = Reading::default();
        for file in files {
            match read_text(&file) {
                Ok(text) => reading.add_all(&file, &text),
                Err(problem) => reading.problems.push(problem),
            }
        }
        Ok(reading.finish())
    }

    /// What one file's text declares; nothing is read. `file` is what problems name.
    pub fn of_text(file: &Path, text: &str) -> Manifests {
        let mut reading = Reading::default();
        reading.add_all(file, text);
        reading.finish()
    }

    /// [`Manifests::read`] for async code.
    ///
    /// # Errors
    /// Those of [`Manifests::read`].
    pub async fn load(path: &Path) -> Result<Manifests, ManifestsError> {
        let owned = path.to_owned();
        tokio::task::spawn_blocking(move || Manifests::read(&owned)).await.unwrap_or_else(|error| {
            Err(ManifestsError::Read { path: path.to_owned(), source: io::Error::other(error) })
        })
    }
}

/// The uid of an object that comes from a file: the same on every start, so that it finds its rows again.
pub fn manifest_uid(kind: &str, namespace: &str, name: &str) -> Uuid {
    let of_group = Uuid::new_v5(&Uuid::NAMESPACE_DNS, crds::GROUP.as_bytes());
    Uuid::new_v5(&of_group, format!("{kind}/{namespace}/{name}").as_bytes())
}

/// What an object has of its own where no API server keeps it: what a file saved from a cluster says besides is not so.
fn own_metadata(metadata: ObjectMeta, namespace: String, uid: String) -> ObjectMeta {
    ObjectMeta {
        name: metadata.name,
        namespace: Some(namespace),
        uid: Some(uid),
        labels: metadata.labels,
        annotations: metadata.annotations,
        ..ObjectMeta::default()
    }
}

/// Whether a directory's file is read.
fn is_manifest_name(file: &Path) -> bool {
    let is_hidden = file.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let extension = file.extension().and_then(|extension| extension.to_str());
    !is_hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn manifest_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        if is_manifest_name(&file) && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read_text(file: &Path) -> Result<String, Problem> {
    let problem = |line, message| Problem { file: file.to_owned(), line, message };
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| problem(1, format!("the file cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(problem(1, format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        problem(line, "the text is not UTF-8".to_owned())
    })
}

/// How an object is told from others: kind, namespace, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    kind: String,
    namespace: String,
    name: String,
}

impl Identity {
    /// The identity a document claims, valid or not.
    fn of(root: &Node) -> Option<Identity> {
        let text = |path: &str| Some(root.find(path)?.as_str()?.to_owned());
        Some(Identity {
            kind: text("kind")?,
            namespace: text("metadata.namespace").unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
            name: text("metadata.name")?,
        })
    }

    fn uid(&self) -> Uuid {
        manifest_uid(&self.kind, &self.namespace, &self.name)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Where an identity was declared first, and whether that document is valid.
struct Declaration {
    file: PathBuf,
    line: usize,
    is_valid: bool,
}

/// A subscription that waits for all sources to be known.
struct Pending {
    subscription: Located<Subscription>,
    source: Identity,
    source_line: usize,
}

#[derive(Default)]
struct Reading {
    declared: BTreeMap<Identity, Declaration>,
    sources: Vec<Located<Source>>,
    pending: Vec<Pending>,
    secrets: BTreeMap<SecretName, Arc<SecretValues>>,
    problems: Vec<Problem>,
}

impl Reading {
    fn add_all(&mut self, file: &Path, text: &str) {
        for document in document::split(text) {
            self.add(file, &document);
        }
    }

    fn add(&mut self, file: &Path, document: &Document) {
        let root = match document.parse() {
            Ok(Some(root)) => root,
            Ok(None) => return,
            Err(located) => return self.problem(file, located.line, located.message),
        };
        let object = object::read(document, &root);
        let Some(identity) = self.declare(file, &root, object.is_ok()) else {
            return;
        };
        match object {
            Ok(object) => self.take(file, &root, identity, object),
            Err(wrong) => {
                for located in wrong {
                    self.problem(file, located.line, located.message);
                }
            }
        }
    }

    /// Notes the identity of a document; `None` if another document has it already, which is a problem. A document
    /// without one has problems of its own.
    fn declare(&mut self, file: &Path, root: &Node, is_valid: bool) -> Option<Option<Identity>> {
        let Some(identity) = Identity::of(root) else {
            return Some(None);
        };
        match self.declared.entry(identity.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Declaration { file: file.to_owned(), line: root.line(), is_valid });
                Some(Some(identity))
            }
            Entry::Occupied(first) => {
                let first = first.get();
                let place = format!("{}:{}", first.file.display(), first.line);
                let message = format!("{identity} is declared already, at {place}");
                self.problem(file, root.line_of("metadata.name"), message);
                None
            }
        }
    }

    fn take(&mut self, file: &Path, root: &Node, identity: Option<Identity>, object: Object) {
        // A valid object has a name and therefore an identity.
        let Some(identity) = identity else {
            return;
        };
        let (file, line, uid) = (file.to_owned(), root.line(), identity.uid().to_string());
        let Identity { namespace, name, .. } = identity;
        match object {
            Object::Secret(values) => {
                self.secrets.insert(SecretName { namespace, name }, Arc::new(values));
            }
            Object::Source(mut object) => {
                let spec_hash = object::spec_hash(&object.spec);
                object.metadata = own_metadata(object.metadata, namespace, uid);
                self.sources.push(Located { object: *object, file, line, spec_hash });
            }
            Object::Subscription(mut object) => {
                let spec_hash = object::spec_hash(&object.spec);
                let name = object.spec.source_ref.name.clone();
                let source = Identity { kind: "Source".to_owned(), namespace: namespace.clone(), name };
                object.metadata = own_metadata(object.metadata, namespace, uid);
                self.pending.push(Pending {
                    subscription: Located { object: *object, file, line, spec_hash },
                    source,
                    source_line: root.line_of("spec.sourceRef.name"),
                });
            }
        }
    }

    fn problem(&mut self, file: &Path, line: usize, message: String) {
        // A problem is one line wherever it is shown.
        let message = message.replace('\n', " ");
        self.problems.push(Problem { file: file.to_owned(), line, message });
    }

    fn finish(mut self) -> Manifests {
        let mut subscriptions = Vec::new();
        for Pending { subscription, source, source_line } in std::mem::take(&mut self.pending) {
            let missing = match self.declared.get(&source) {
                Some(declaration) if declaration.is_valid => {
                    subscriptions.push(subscription);
                    continue;
                }
                Some(Declaration { file, line, .. }) => {
                    format!(
                        "spec.sourceRef.name: {source} has problems of its own, see {}:{line}",
                        file.display()
                    )
                }
                None => format!("spec.sourceRef.name: {source} is not among the manifests"),
            };
            self.problem(&subscription.file, source_line, missing);
        }
        self.problems.sort();
        let of_sources = self.sources.iter().flat_map(named_by_source);
        let named: BTreeSet<SecretName> =
            of_sources.chain(subscriptions.iter().flat_map(named_by_subscription)).collect();
        self.secrets.retain(|secret, _| named.contains(secret));
        Manifests { sources: self.sources, subscriptions, secrets: self.secrets, problems: self.problems }
    }
}

/// The Secrets that a source's headers take values from.
fn named_by_source(source: &Located<Source>) -> impl Iterator<Item = SecretName> {
    let namespace = source.object.metadata.namespace.clone().unwrap_or_default();
    source.object.spec.fetch.headers.iter().filter_map(move |header| {
        let name = header.value_from.as_ref()?.secret_key_ref.name.clone();
        Some(SecretName { namespace: namespace.clone(), name })
    })
}

/// The Secrets that a subscription's targets are reached with.
fn named_by_subscription(subscription: &Located<Subscription>) -> impl Iterator<Item = SecretName> {
    let namespace = subscription.object.metadata.namespace.clone().unwrap_or_default();
    let keys = subscription.object.spec.delivery.iter().flat_map(|target| {
        let webhook = target.webhook.as_ref();
        [
            webhook.and_then(|webhook| webhook.secret_ref.as_ref()),
            webhook.and_then(|webhook| webhook.previous_secret_ref.as_ref()),
            target.slack.as_ref().map(|slack| &slack.url_secret_ref),
        ]
    });
    keys.flatten().map(move |key| SecretName { namespace: namespace.clone(), name: key.name.clone() })
}

#[cfg(test)]
mod tests;
