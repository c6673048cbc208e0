//! Invariant 3: every artifact's blob exists and has the hash that the row says; and the site has had those bytes there.

use std::collections::HashMap;

use super::{Findings, Violation};

pub(super) fn check(findings: &Findings<'_>) -> Vec<Violation> {
    let whose: HashMap<&str, &str> =
        findings.catalog.runs.iter().map(|run| (run.id.as_str(), run.subscription.as_str())).collect();
    let wrong = |artifact: &crate::catalog::ArtifactRow| match findings.bucket.hashes.get(&artifact.blob) {
        None => Some(format!("its blob {} does not exist", artifact.blob)),
        Some(hash) if *hash != artifact.hash => {
            Some(format!("its blob {} has the hash {hash}", artifact.blob))
        }
        Some(_) => {
            let path = artifact.url.splitn(4, '/').nth(3).unwrap_or_default();
            let was_there = findings.site.ever_had(&format!("/{path}"), &artifact.hash);
            (!was_there).then(|| format!("the site never had those bytes at {}", artifact.url))
        }
    };
    findings
        .catalog
        .artifacts
        .iter()
        .filter_map(|artifact| {
            let name = whose.get(artifact.run.as_str()).copied().unwrap_or_default();
            let what = format!("{name}: artifact {}: {}", artifact.id, wrong(artifact)?);
            Some(Violation::new(3, what).of(name).at(&artifact.url))
        })
        .collect()
}
