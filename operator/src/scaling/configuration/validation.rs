//! What a workers file must be beyond its types.

use std::collections::BTreeSet;

use events::Role;
use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements};
use serde_json::Value;

use super::{Problem, RoleWorkers, Workers};
use crate::scaling::deployment::{OWN_LABELS, SPOOL};

/// The longest instance with which the longest name, of role `schedule`, still is a label's value.
const LONGEST_INSTANCE: usize = 40;
const MOST_REPLICAS: u32 = 1_000;
const LONGEST_DRAIN: u32 = 3_600;
const LONGEST_STABILISATION: u32 = 86_400;
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
/// Given as flags, which win over the environment.
const SET_BY_OPERATOR: [&str; 5] =
    ["TIPSTAFF_ROLES", "TIPSTAFF_LISTEN", "TIPSTAFF_DRAIN_SECONDS", "TIPSTAFF_SPOOL_DIR", "KAFKA_PREFIX"];
/// Whoever may read Deployments would read these.
const SECRETS: [&str; 5] = [
    "DATABASE_URL",
    "KAFKA_SASL_PASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    // With the mail server's password.
    "TIPSTAFF_SMTP_URL",
];

/// All that is wrong. `written` is the file as it was written.
pub(super) fn problems(workers: &Workers, written: &Value) -> Vec<Problem> {
    let mut found = Found::default();
    // What was understood, written again: a field that is missing there means nothing to anybody.
    match serde_json::to_value(workers) {
        Ok(understood) => found.unknown_fields("", written, &understood),
        Err(error) => found.add("", format!("it cannot be written again: {error}")),
    }
    found.of_file(workers);
    for (role, settings) in &workers.roles {
        found.of_role(role.0, settings);
    }
    found.0
}

#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { field: field.into(), message: message.into() });
    }

    fn unknown_fields(&mut self, path: &str, written: &Value, understood: &Value) {
        match (written, understood) {
            (Value::Object(written), Value::Object(understood)) => {
                for (name, value) in written {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    match understood.get(name) {
                        Some(understood) => self.unknown_fields(&path, value, understood),
                        // Charts write `null` for what is not set.
                        None if value.is_null() => {}
                        None => self.add(path, "there is no such field; correct its name or remove it"),
                    }
                }
            }
            (Value::Array(written), Value::Array(understood)) => {
                for (index, (written, understood)) in written.iter().zip(understood).enumerate() {
                    self.unknown_fields(&format!("{path}[{index}]"), written, understood);
                }
            }
            _ => {}
        }
    }

    fn of_file(&mut self, workers: &Workers) {
        let instance = &workers.instance;
        if !is_dns_label(instance) || instance.len() > LONGEST_INSTANCE {
            self.add(
                "instance",
                format!("{instance:?} must begin names: write at most {LONGEST_INSTANCE} lower-case letters, digits and `-`"),
            );
        }
        if workers.image.is_empty() || workers.image.contains(char::is_whitespace) {
            self.add("image", format!("{:?} names no image; write repository:tag", workers.image));
        }
        if let Some(policy) = &workers.image_pull_policy
            && !PULL_POLICIES.contains(&policy.as_str())
        {
            self.add("imagePullPolicy", format!("{policy:?} is none of {}", PULL_POLICIES.join(", ")));
        }
        if !(1..=LONGEST_DRAIN).contains(&workers.drain_seconds) {
            self.add(
                "drainSeconds",
                format!("{} is not between 1 and {LONGEST_DRAIN}", workers.drain_seconds),
            );
        }
        if workers.stabilisation_seconds > LONGEST_STABILISATION {
            self.add(
                "stabilisationSeconds",
                format!("{} is longer than a day ({LONGEST_STABILISATION})", workers.stabilisation_seconds),
            );
        }
        if !is_quantity(&workers.spool_size_limit.0) {
            self.add("spoolSizeLimit", not_a_quantity(&workers.spool_size_limit.0));
        }
        for label in workers.pod_labels.keys().filter(|label| OWN_LABELS.contains(&label.as_str())) {
            self.add(
                format!("podLabels.{label}"),
                "the operator sets this label itself, to find its pods; remove it",
            );
        }
        for (index, volume) in workers.volumes.iter().enumerate().filter(|(_, volume)| volume.name == SPOOL) {
            self.add(
                format!("volumes[{index}].name"),
                format!("{:?} is the operator's own volume; choose another name", volume.name),
            );
        }
        self.of_environment("env", &workers.env);
        self.of_resources("resources", workers.resources.as_ref());
    }

    fn of_role(&mut self, role: Role, settings: &RoleWorkers) {
        let field = |name: &str| format!("roles.{role}.{name}");
        let RoleWorkers { min, max, target_lag, resources, env, .. } = settings;
        if !(1..=MOST_REPLICAS).contains(max) {
            self.add(
                field("max"),
                format!("{max} is not between 1 and {MOST_REPLICAS}; to stop a role, remove it"),
            );
        }
        if min > max {
            self.add(field("min"), format!("{min} is more than max, {max}"));
        }
        if *target_lag == 0 {
            self.add(
                field("targetLag"),
                "0 would ask for endless replicas; write how many events one replica may be behind",
            );
        }
        if settings.automount_service_account_token && settings.service_account_name.is_none() {
            self.add(
                field("serviceAccountName"),
                "name the account whose token the pods get: others share the one of the whole file",
            );
        }
        self.of_environment(&field("env"), env);
        self.of_resources(&field("resources"), resources.as_ref());
    }

    fn of_environment(&mut self, field: &str, variables: &[EnvVar]) {
        let mut names = BTreeSet::new();
        for (index, variable) in variables.iter().enumerate() {
            let EnvVar { name, value, value_from } = variable;
            let field = format!("{field}[{index}]");
            if name.is_empty() || name.contains(['=', '\0']) {
                self.add(format!("{field}.name"), format!("{name:?} cannot be a variable's name"));
            }
            if !names.insert(name) {
                self.add(format!("{field}.name"), format!("{name} is there twice; remove one"));
            }
            if SET_BY_OPERATOR.contains(&name.as_str()) {
                self.add(format!("{field}.name"), format!("the operator sets {name} itself; remove it"));
            }
            if value.is_some() && value_from.is_some() {
                self.add(&field, format!("{name} has both value and valueFrom; keep one"));
            }
            if value.as_ref().is_some_and(|value| is_secret(name, value)) {
                // Without the value, which would be in the log.
                self.add(
                    format!("{field}.value"),
                    format!("{name} is a secret; refer to one with valueFrom.secretKeyRef"),
                );
            }
        }
    }

    fn of_resources(&mut self, field: &str, resources: Option<&ResourceRequirements>) {
        let Some(resources) = resources else { return };
        for (kind, quantities) in [("limits", &resources.limits), ("requests", &resources.requests)] {
            for (resource, quantity) in quantities.iter().flatten() {
                if !is_quantity(&quantity.0) {
                    self.add(format!("{field}.{kind}.{resource}"), not_a_quantity(&quantity.0));
                }
            }
        }
    }
}

fn is_secret(name: &str, value: &str) -> bool {
    SECRETS.contains(&name) || (name == "KAFKA_PROPERTIES" && value.contains("password"))
}

fn is_dns_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(is_inner)
}

fn not_a_quantity(text: &str) -> String {
    format!("{text:?} is no quantity; write for instance 250m, 2 or 512Mi")
}

/// A positive quantity as Kubernetes writes them: a decimal number with a suffix or an exponent.
fn is_quantity(text: &str) -> bool {
    const SUFFIXES: [&str; 15] =
        ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let is_exponent = || {
        let digits =
            suffix.strip_prefix(['e', 'E']).map(|rest| rest.strip_prefix(['+', '-']).unwrap_or(rest));
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    number.parse::<f64>().is_ok() && (SUFFIXES.contains(&suffix) || suffix == "Ei" || is_exponent())
}
