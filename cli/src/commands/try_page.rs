//! `tipstaff try`: what a subscription's selectors take from a page. Nothing is stored.

mod page;
mod report;
mod trial;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use content::pdf::{self, Limits};
use content::{Document, ExtractError, Kind, Query, Selection, SelectorSpec};
use crds::{Source, Subscription, ValidatedSource, ValidatedSubscription, Violation};
use ipnet::IpNet;
use tokio::task::spawn_blocking;

use super::show::{self, ReportFormat};
use crate::manifests::{Located, Manifests};
use crate::output::SubscriptionName;
use page::Page;
use trial::{Rules, Trial};

/// What to try, and on which page.
#[derive(Args)]
pub struct TryArguments {
    /// A manifest file, or a directory of them
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    manifests: PathBuf,
    /// The subscription; not needed where the manifests have one
    #[arg(value_name = "[NAMESPACE/]NAME")]
    subscription: Option<String>,
    /// A page's URL, or a file with one; the source's baseURL unless given
    #[arg(long, value_name = "FILE|URL")]
    page: Option<String>,
    /// An address range that is closed by default (private, loopback …) and may be fetched from; may be repeated
    #[arg(long = "allow-cidr", value_name = "CIDR", env = "TIPSTAFF_ALLOW_CIDRS", value_delimiter = ',')]
    allow_cidrs: Vec<IpNet>,
    /// How it is shown
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: ReportFormat,
}

/// There is nothing to try.
#[derive(Debug, thiserror::Error)]
enum TryError {
    #[error("the manifests have no valid subscription")]
    NoSubscription,
    #[error("the manifests have several subscriptions; name one of {}", names.join(", "))]
    SeveralSubscriptions { names: Vec<String> },
    #[error("the manifests have no valid subscription {wanted}; they have {}", names.join(", "))]
    NoSuchSubscription { wanted: String, names: Vec<String> },
    #[error("the source of {subscription:#} is not among the manifests, or not valid")]
    NoSource { subscription: SubscriptionName },
    #[error("{object} is not valid: {}", violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid { object: String, violations: Vec<Violation> },
    #[error("spec.{0}")]
    Selection(#[from] content::SelectionError),
    #[error("a run would fail with {}", source.reason())]
    Document {
        #[from]
        source: ExtractError,
    },
}

/// A valid subscription with its source.
struct Tried {
    name: SubscriptionName,
    subscription: ValidatedSubscription,
    source_name: String,
    source: ValidatedSource,
}

/// Tries the selectors and prints what they take. Returns whether a run would have kept what came.
///
/// # Errors
/// When the manifests have no such subscription, or the page cannot be had or read.
pub async fn run(arguments: &TryArguments) -> Result<bool, events::BoxError> {
    let manifests = Manifests::load(&arguments.manifests).await?;
    // As `local` has it, a problem disturbs no other object.
    manifests.problems.iter().for_each(|problem| show::remark(&problem.to_string()));
    let tried = chosen(&manifests, arguments.subscription.as_deref())?;
    let page = page::get(arguments.page.as_deref(), &tried, &manifests, &arguments.allow_cidrs).await?;
    let trial = try_on(page, &tried).await?;
    let shown = match arguments.output {
        ReportFormat::Json => show::json(&trial)?,
        ReportFormat::Text => report::render(&trial),
    };
    show::print(&shown)?;
    Ok(trial.is_good())
}

async fn try_on(page: Page, tried: &Tried) -> Result<Trial, events::BoxError> {
    let rules = rules(&tried.subscription)?;
    let kind = Kind::of(&page.bytes, page.content_type.as_deref());
    let pdf_text = if kind == Kind::Pdf {
        let reader = worker::pdf_reader::program()?;
        Some(pdf::text(&reader, &page.bytes, Limits::default()).await.map_err(not_read)?)
    } else {
        None
    };
    let subscription = format!("{:#}", tried.name);
    let source = format!("{}/{}", tried.name.namespace, tried.source_name);
    // Reading megabytes of markup takes a while.
    let trial = spawn_blocking(move || {
        let document = Document { bytes: &page.bytes, content_type: page.content_type.as_deref(), kind };
        Trial::new(&document, pdf_text.as_deref(), &rules).map(|trial| trial.of(subscription, source, &page))
    });
    Ok(trial.await?.map_err(TryError::from)?)
}

fn not_read(error: pdf::PdfError) -> TryError {
    ExtractError::from(error).into()
}

/// The one subscription that there is, or the one that is named.
fn chosen(manifests: &Manifests, wanted: Option<&str>) -> Result<Tried, TryError> {
    let named = |located: &Located<Subscription>| object_name(&located.object.metadata);
    let names = || manifests.subscriptions.iter().map(|located| format!("{:#}", named(located))).collect();
    let is_wanted = |located: &&Located<Subscription>| {
        let name = named(located);
        wanted.is_none_or(|wanted| wanted == format!("{name:#}") || wanted == name.subscription)
    };
    let found: Vec<_> = manifests.subscriptions.iter().filter(is_wanted).collect();
    let subscription = match (found.as_slice(), wanted) {
        ([only], _) => *only,
        ([], Some(wanted)) if !manifests.subscriptions.is_empty() => {
            return Err(TryError::NoSuchSubscription { wanted: wanted.to_owned(), names: names() });
        }
        ([], _) => return Err(TryError::NoSubscription),
        _ => return Err(TryError::SeveralSubscriptions { names: names() }),
    };
    let name = named(subscription);
    let source_name = subscription.object.spec.source_ref.name.clone();
    let is_source = |located: &&Located<Source>| {
        let found = object_name(&located.object.metadata);
        found.namespace == name.namespace && found.subscription == source_name
    };
    let source = manifests.sources.iter().find(is_source);
    let Some(source) = source else { return Err(TryError::NoSource { subscription: name }) };
    let invalid = |kind: &str, name: &str| {
        let object = format!("{kind} {name}");
        move |violations| TryError::Invalid { object, violations }
    };
    Ok(Tried {
        subscription: crds::validate_subscription(&subscription.object)
            .map_err(invalid("Subscription", &name.subscription))?,
        source: crds::validate_source(&source.object).map_err(invalid("Source", &source_name))?,
        source_name,
        name,
    })
}

/// Namespace and name of an object of whatever kind.
fn object_name(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> SubscriptionName {
    SubscriptionName {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        subscription: metadata.name.clone().unwrap_or_default(),
    }
}

fn rules(subscription: &ValidatedSubscription) -> Result<Rules, TryError> {
    let ValidatedSubscription { selectors, remove, ignore, .. } = subscription;
    let optional = selectors.iter().filter(|(_, selector)| selector.optional);
    let specs: BTreeMap<String, SelectorSpec> = selectors
        .iter()
        .map(|(name, selector)| {
            let query = match &selector.query {
                crds::Query::Css(text) => Query::Css(text.clone()),
                crds::Query::Xpath(text) => Query::Xpath(text.clone()),
                crds::Query::JsonPath(text) => Query::JsonPath(text.clone()),
            };
            (name.clone(), SelectorSpec { query, attr: selector.attr.clone(), all: selector.all })
        })
        .collect();
    Ok(Rules {
        names: selectors.keys().cloned().collect(),
        optional: optional.map(|(name, _)| name.clone()).collect(),
        remove: remove.clone(),
        ignore: ignore.clone(),
        selection: Selection::new(&specs, remove, ignore)?,
        without_ignore: Selection::new(&specs, remove, &[])?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MANIFESTS: &str = "\
apiVersion: tipstaff.dev/v1alpha1
kind: Source
metadata: {name: court}
spec: {kind: html, baseURL: 'https://court.example/opinions'}
---
apiVersion: tipstaff.dev/v1alpha1
kind: Subscription
metadata: {name: opinions}
spec:
  sourceRef: {name: court}
  schedule: '@daily'
  selectors:
    title: h1
    docket: {css: .docket, optional: true}
  remove: [nav]
  ignore: ['^Printed on']
---
apiVersion: tipstaff.dev/v1alpha1
kind: Subscription
metadata: {name: orders}
spec: {sourceRef: {name: court}, schedule: '@daily'}
";

    fn manifests() -> Manifests {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("court.yaml");
        std::fs::write(&file, MANIFESTS).unwrap();
        let manifests = Manifests::read(&file).unwrap();
        assert_eq!(manifests.problems, []);
        manifests
    }

    #[test]
    fn one_subscription_is_chosen_by_its_name() {
        let manifests = manifests();
        for wanted in ["opinions", "default/opinions"] {
            let tried = chosen(&manifests, Some(wanted)).unwrap();
            assert_eq!(format!("{:#}", tried.name), "default/opinions");
            assert_eq!(tried.source.base_url.as_str(), "https://court.example/opinions");
        }
        let refused = |wanted| chosen(&manifests, wanted).err().unwrap().to_string();
        assert!(refused(None).ends_with("name one of default/opinions, default/orders"));
        assert!(refused(Some("nothing")).contains("no valid subscription nothing"));
        let none = chosen(&Manifests::default(), None).err().unwrap();
        assert!(matches!(none, TryError::NoSubscription));
    }

    #[test]
    fn the_rules_are_those_of_the_spec() {
        let rules = rules(&chosen(&manifests(), Some("opinions")).unwrap().subscription).unwrap();
        assert_eq!(rules.names, ["docket", "title"]);
        assert!(rules.optional.contains("docket") && !rules.optional.contains("title"));
        assert_eq!((rules.remove, rules.ignore), (vec!["nav".to_owned()], vec!["^Printed on".to_owned()]));
    }
}
