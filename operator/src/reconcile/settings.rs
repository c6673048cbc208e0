//! From a valid spec to the settings that the catalog keeps.

use std::time::Duration;

use crds::{
    HeaderValue, Query, SecretKeyReference, Target, ValidatedDigest, ValidatedFollow, ValidatedHeader,
    ValidatedRetention, ValidatedSelector, ValidatedSource, ValidatedSubscription, ValidatedTarget,
    WantedChange,
};
use store::catalog::{
    CatchUp, Concurrency, DigestSettings, FollowSettings, HeaderSetting, HeaderSource, RetentionSettings,
    SecretKey, SelectionSettings, SelectorQuery, SelectorSettings, SourceSettings, SubscriptionSettings,
    TargetPlace, TargetSettings,
};

/// What `Always` stands for.
const ALL_CHANGES: [WantedChange; 5] = [
    WantedChange::Changed,
    WantedChange::New,
    WantedChange::Removed,
    WantedChange::Returned,
    WantedChange::Baseline,
];

/// What the catalog keeps of a valid Source.
pub fn source_settings(valid: ValidatedSource) -> SourceSettings {
    SourceSettings {
        base_url: valid.base_url.into(),
        kind: valid.kind.name().to_owned(),
        obey_robots: valid.robots_mode == crds::RobotsMode::Obey,
        suspend: valid.suspend,
        user_agent: valid.fetch.user_agent,
        headers: valid.fetch.headers.into_iter().map(header).collect(),
        timeout_ms: millis(valid.fetch.timeout),
        max_bytes: valid.fetch.max_bytes,
        min_interval_ms: millis(valid.min_interval),
        follow: valid.follow.map(follow),
        cadence_ms: valid.cadence.map(millis),
    }
}

pub(super) fn subscription_settings(valid: ValidatedSubscription) -> SubscriptionSettings {
    SubscriptionSettings {
        schedule: valid.schedule.expression().to_owned(),
        // Validation takes named zones only.
        time_zone: valid.time_zone.iana_name().unwrap_or("Etc/UTC").to_owned(),
        starting_deadline_seconds: valid.starting_deadline.map(|deadline| deadline.as_secs()),
        concurrency: match valid.concurrency_policy {
            crds::ConcurrencyPolicy::Forbid => Concurrency::Forbid,
            crds::ConcurrencyPolicy::Allow => Concurrency::Allow,
            crds::ConcurrencyPolicy::Replace => Concurrency::Replace,
        },
        catch_up: match valid.catch_up {
            crds::CatchUp::Latest => CatchUp::Latest,
            crds::CatchUp::All => CatchUp::All,
            crds::CatchUp::None => CatchUp::None,
        },
        // The validated bound is an hour.
        jitter_seconds: u32::try_from(valid.jitter.as_secs()).unwrap_or(u32::MAX),
        suspend: valid.suspend,
        jurisdiction: valid.jurisdiction,
        retention: retention(valid.retention),
        selection: SelectionSettings {
            selectors: valid.selectors.into_iter().map(|(name, value)| (name, selector(value))).collect(),
            remove: valid.remove,
            ignore: valid.ignore,
        },
        targets: valid.delivery.into_iter().map(target).collect(),
    }
}

fn retention(ValidatedRetention { versions, age }: ValidatedRetention) -> Option<RetentionSettings> {
    (versions.is_some() || age.is_some()).then(|| RetentionSettings { versions, age_ms: age.map(millis) })
}

fn header(header: ValidatedHeader) -> HeaderSetting {
    let value = match header.value {
        HeaderValue::Plain(value) => HeaderSource::Plain(value),
        HeaderValue::Secret(secret) => HeaderSource::Secret { name: secret.name, key: secret.key },
    };
    HeaderSetting { name: header.name, value }
}

fn follow(follow: ValidatedFollow) -> FollowSettings {
    FollowSettings {
        links: follow.links,
        include: follow.include,
        exclude: follow.exclude,
        same_host: follow.same_host,
        limit: follow.limit,
    }
}

fn selector(selector: ValidatedSelector) -> SelectorSettings {
    SelectorSettings {
        query: match selector.query {
            Query::Css(css) => SelectorQuery::Css(css),
            Query::Xpath(xpath) => SelectorQuery::Xpath(xpath),
            Query::JsonPath(json_path) => SelectorQuery::JsonPath(json_path),
        },
        attr: selector.attr,
        all: selector.all,
        optional: selector.optional,
    }
}

fn target(target: ValidatedTarget) -> TargetSettings {
    let place = match target.target {
        Target::Webhook { url, secret, previous_secret } => TargetPlace::Webhook {
            url: url.into(),
            secret: secret.map(secret_key),
            previous_secret: previous_secret.map(secret_key),
        },
        Target::Slack { url_secret } => TargetPlace::Slack { url_secret: secret_key(url_secret) },
        Target::Email { to } => TargetPlace::Email { to },
        Target::Kafka { topic } => TargetPlace::Kafka { topic },
        Target::S3 { bucket, prefix } => TargetPlace::S3 { bucket, prefix },
    };
    TargetSettings {
        name: target.name,
        place,
        kinds: kinds(&target.changes),
        matches: target.matches,
        digest: match target.digest {
            ValidatedDigest::None => DigestSettings::None,
            ValidatedDigest::PerRun => DigestSettings::Run,
            ValidatedDigest::Window(window) => DigestSettings::WindowMs(millis(window)),
        },
    }
}

fn kinds(changes: &[WantedChange]) -> Vec<String> {
    let wanted = if changes.contains(&WantedChange::Always) { &ALL_CHANGES[..] } else { changes };
    // Their names are those of the versions' kinds.
    wanted.iter().map(|change| format!("{change:?}")).collect()
}

fn secret_key(secret: SecretKeyReference) -> SecretKey {
    SecretKey { name: secret.name, key: secret.key }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crds::{Subscription, validate_subscription};
    use serde_json::{Value, json};

    use super::*;

    fn settings(spec: &str) -> SubscriptionSettings {
        let spec: Value = serde_saphyr::from_str(spec).unwrap();
        let manifest = json!({
            "apiVersion": "tipstaff.dev/v1alpha1",
            "kind": "Subscription",
            "metadata": { "name": "opinions", "namespace": "courts" },
            "spec": spec,
        });
        let subscription: Subscription = serde_json::from_value(manifest).unwrap();
        subscription_settings(validate_subscription(&subscription).unwrap())
    }

    #[test]
    fn each_selector_and_target_is_as_its_spec_has_it() {
        let settings = settings(
            r#"
sourceRef: {name: court}
schedule: "@daily"
selectors:
  title: h1
  links: {css: a, attr: href, all: true}
  date: {xpath: //time, optional: true}
  items: {jsonPath: $.items}
remove: [nav]
ignore: [printed]
retention: {versions: 3, age: 48h}
delivery:
  - name: hook
    webhook: {url: "https://example.org/hook", secretRef: {name: a, key: b}, previousSecretRef: {name: c, key: d}}
    when: {changes: [New, Changed], matches: sanctions}
    digest: {window: 15m}
  - {name: chat, slack: {urlSecretRef: {name: a, key: b}}, digest: {perRun: true}}
  - {name: mail, email: {to: [clerk@example.org]}, when: {changes: [Baseline, Always]}}
  - {name: topic, kafka: {topic: changes}}
  - {name: archive, s3: {bucket: archive, prefix: changes/}}
"#,
        );
        let kept = RetentionSettings { versions: Some(3), age_ms: Some(48 * 3_600_000) };
        assert_eq!(settings.retention, Some(kept));
        let selector = |query, attr: Option<&str>, all, optional| SelectorSettings {
            query,
            attr: attr.map(str::to_owned),
            all,
            optional,
        };
        let selectors = [
            ("title", selector(SelectorQuery::Css("h1".into()), None, false, false)),
            ("links", selector(SelectorQuery::Css("a".into()), Some("href"), true, false)),
            ("date", selector(SelectorQuery::Xpath("//time".into()), None, false, true)),
            ("items", selector(SelectorQuery::JsonPath("$.items".into()), None, false, false)),
        ];
        assert_eq!(
            settings.selection,
            SelectionSettings {
                selectors: selectors.map(|(name, selector)| (name.to_owned(), selector)).into(),
                remove: vec!["nav".into()],
                ignore: vec!["printed".into()],
            }
        );
        let key = |name: &str, key: &str| SecretKey { name: name.into(), key: key.into() };
        let target = |name: &str, place, kinds: &[&str], matches: Option<&str>, digest| TargetSettings {
            name: name.into(),
            place,
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            matches: matches.map(str::to_owned),
            digest,
        };
        let hook = TargetPlace::Webhook {
            url: "https://example.org/hook".into(),
            secret: Some(key("a", "b")),
            previous_secret: Some(key("c", "d")),
        };
        let chat = TargetPlace::Slack { url_secret: key("a", "b") };
        let mail = TargetPlace::Email { to: vec!["clerk@example.org".into()] };
        let archive = TargetPlace::S3 { bucket: "archive".into(), prefix: "changes/".into() };
        let all = ["Changed", "New", "Removed", "Returned", "Baseline"];
        assert_eq!(
            settings.targets,
            [
                target(
                    "hook",
                    hook,
                    &["New", "Changed"],
                    Some("sanctions"),
                    DigestSettings::WindowMs(900_000)
                ),
                target("chat", chat, &[], None, DigestSettings::Run),
                target("mail", mail, &all, None, DigestSettings::None),
                target(
                    "topic",
                    TargetPlace::Kafka { topic: "changes".into() },
                    &[],
                    None,
                    DigestSettings::None
                ),
                target("archive", archive, &[], None, DigestSettings::None),
            ]
        );
    }
}
