//! A [`Subscription`] with its values parsed.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, tz::TimeZone};
use serde::Serialize;

use super::{
    Violation, Violations, checks, schema,
    target::{ValidatedTarget, validated_target},
};
use crate::{
    CatchUp, ConcurrencyPolicy, Retention, Schedule, Selector, SelectorObject, Subscription,
    SubscriptionSpec,
    subscription::{AGE, LOCAL_TIME_ZONE, SOME_RETENTION},
};

/// Said when the object form of a selector names no expression, or several.
const ONE_EXPRESSION: &str = "must have exactly one of css, xpath and jsonPath";

/// Said when a selector's name cannot be used as one.
const SELECTOR_NAME: &str =
    "must be named with letters, digits and underscores, a letter first, at most 63 in all";

/// A valid subscription. No later code reads the raw spec.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedSubscription {
    /// The Source's name, in the subscription's namespace.
    pub source_name: String,
    /// The jurisdiction, a code of the user's choice.
    pub jurisdiction: Option<String>,
    /// When a run is due.
    pub schedule: Schedule,
    /// The time zone of the schedule.
    pub time_zone: TimeZone,
    /// How long after its due time a run may still start.
    pub starting_deadline: Option<SignedDuration>,
    /// What happens when a run is due while another has not ended.
    pub concurrency_policy: ConcurrencyPolicy,
    /// What happens with due times that passed while nothing could be started.
    pub catch_up: CatchUp,
    /// Over which time starts are spread.
    pub jitter: Duration,
    /// Whether the schedule is paused.
    pub suspend: bool,
    /// Named values taken out of each document.
    pub selectors: BTreeMap<String, ValidatedSelector>,
    /// CSS selectors, each of which parses, of what is cut out first.
    pub remove: Vec<String>,
    /// Regular expressions, each of which compiles, of what does not count as a change.
    pub ignore: Vec<String>,
    /// Where changes are delivered; no name occurs twice.
    pub delivery: Vec<ValidatedTarget>,
    /// How many versions are kept, and how long.
    pub retention: ValidatedRetention,
}

/// How one named value is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValidatedSelector {
    /// The expression.
    pub query: Query,
    /// The attribute that is taken in place of an element's text.
    pub attr: Option<String>,
    /// Whether all matches are taken; otherwise the first.
    pub all: bool,
    /// Whether a document may have none of it.
    pub optional: bool,
}

/// An expression that compiles, by its language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// A CSS selector.
    Css(String),
    /// An XPath 1.0 expression.
    Xpath(String),
    /// A JSONPath expression (RFC 9535).
    JsonPath(String),
}

/// How many versions are kept, and how long; without either, all of them for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ValidatedRetention {
    /// The number of versions kept of each document, at least one.
    pub versions: Option<u32>,
    /// The age from which a version is removed.
    pub age: Option<Duration>,
}

/// Checks everything about a subscription that can be known without asking anyone.
///
/// # Errors
/// All violations, in the order of the fields.
pub fn validate_subscription(subscription: &Subscription) -> Result<ValidatedSubscription, Vec<Violation>> {
    let mut violations = Violations::default();
    schema::check_subscription(subscription, &mut violations);
    let spec = &subscription.spec;
    let schedule = schedule(spec, &mut violations);
    let selectors = selectors(&spec.selectors, &mut violations);
    for (index, selector) in spec.remove.iter().enumerate() {
        violations.take(format!("spec.remove[{index}]"), checks::css(selector));
    }
    for (index, expression) in spec.ignore.iter().enumerate() {
        violations.take(format!("spec.ignore[{index}]"), checks::noise(expression));
    }
    let delivery = spec
        .delivery
        .iter()
        .enumerate()
        .filter_map(|(index, target)| {
            validated_target(target, &format!("spec.delivery[{index}]"), &mut violations)
        })
        .collect();
    let retention = spec.retention.as_ref().map(|spec| retention(spec, &mut violations)).unwrap_or_default();
    let validated = (|| {
        let schedule = schedule?;
        Some(ValidatedSubscription {
            source_name: spec.source_ref.name.clone(),
            jurisdiction: spec.jurisdiction.clone(),
            time_zone: schedule.time_zone().clone(),
            schedule,
            starting_deadline: spec.starting_deadline_seconds.map(SignedDuration::from_secs),
            concurrency_policy: spec.concurrency_policy,
            catch_up: spec.catch_up,
            // The schema has refused what is negative.
            jitter: Duration::from_secs(u64::try_from(spec.jitter_seconds).ok()?),
            suspend: spec.suspend,
            selectors,
            remove: spec.remove.clone(),
            ignore: spec.ignore.clone(),
            delivery,
            retention,
        })
    })();
    violations.finish(validated)
}

fn schedule(spec: &SubscriptionSpec, violations: &mut Violations) -> Option<Schedule> {
    if spec.time_zone.eq_ignore_ascii_case("local") {
        violations.add("spec.timeZone", LOCAL_TIME_ZONE);
        // The expression is still worth checking.
        violations.take("spec.schedule", Schedule::parse(&spec.schedule, "UTC"));
        return None;
    }
    Schedule::parse(&spec.schedule, &spec.time_zone)
        .inspect_err(|error| {
            let field = if error.is_time_zone() { "spec.timeZone" } else { "spec.schedule" };
            violations.add(field, error.to_string());
            if error.is_time_zone() {
                violations.take("spec.schedule", Schedule::parse(&spec.schedule, "UTC"));
            }
        })
        .ok()
}

fn selectors(
    selectors: &BTreeMap<String, Selector>,
    violations: &mut Violations,
) -> BTreeMap<String, ValidatedSelector> {
    selectors
        .iter()
        .filter_map(|(name, selector)| {
            let path = format!("spec.selectors.{name}");
            if !is_selector_name(name) {
                violations.add(&path, SELECTOR_NAME);
            }
            validated_selector(selector, &path, violations).map(|selector| (name.clone(), selector))
        })
        .collect()
}

fn is_selector_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

fn validated_selector(
    selector: &Selector,
    path: &str,
    violations: &mut Violations,
) -> Option<ValidatedSelector> {
    let object = match selector {
        Selector::Css(css) => {
            let query = Query::Css(css.clone());
            violations.take(path, checks::selector(&query))?;
            return Some(ValidatedSelector { query, attr: None, all: false, optional: false });
        }
        Selector::Object(object) => object,
    };
    let SelectorObject { css, xpath, json_path, attr, all, optional } = object;
    let (field, query) = match (css, xpath, json_path) {
        (Some(css), None, None) => ("css", Query::Css(css.clone())),
        (None, Some(xpath), None) => ("xpath", Query::Xpath(xpath.clone())),
        (None, None, Some(json_path)) => ("jsonPath", Query::JsonPath(json_path.clone())),
        _ => {
            violations.add(path, ONE_EXPRESSION);
            return None;
        }
    };
    if json_path.is_some() && attr.is_some() {
        violations.add(format!("{path}.attr"), "must not be given with jsonPath: JSON has no attributes");
    }
    violations.take(format!("{path}.{field}"), checks::selector(&query))?;
    Some(ValidatedSelector { query, attr: attr.clone(), all: *all, optional: *optional })
}

fn retention(retention: &Retention, violations: &mut Violations) -> ValidatedRetention {
    if retention.versions.is_none() && retention.age.is_none() {
        violations.add("spec.retention", SOME_RETENTION);
    }
    ValidatedRetention {
        // The schema has refused what is not positive.
        versions: retention.versions.and_then(|versions| u32::try_from(versions).ok()),
        age: retention.age.and_then(|age| violations.take("spec.retention.age", checks::bounded(age, AGE))),
    }
}
