//! `delivery.plan`: finds the targets that want a version.

use std::collections::BTreeSet;

use async_trait::async_trait;
use changes::{Change, ChangeKind, Extent, Wanted, When};
use events::{Event, Handler, HandlerError, VersioningResult, run_reasons};
use regex::RegexBuilder;
use store::catalog::{PlanWork, TargetSettings, WantedBy};

use crate::{
    Tools,
    comparison::change,
    tools::{catalog_failed, permanent},
};

/// The memory that a target's regular expression may take, in bytes: as validation has it.
const REGEX_SIZE: usize = 1 << 20;

/// Plans deliveries.
pub(crate) struct Plan {
    tools: Tools,
}

impl Plan {
    pub(crate) fn new(tools: &Tools) -> Self {
        Self { tools: tools.clone() }
    }
}

#[async_trait]
impl Handler for Plan {
    async fn handle(&self, event: &Event) -> Result<Vec<Event>, HandlerError> {
        let version: VersioningResult = event.payload()?;
        let catalog = &self.tools.catalog;
        let Some(work) = catalog.plan_work(version.version_id).await.map_err(catalog_failed)? else {
            // Its subscription keeps fewer versions than that.
            return Ok(Vec::new());
        };
        let wanted = if work.is_planned { Vec::new() } else { self.wanted(&work).await? };
        let wanted: Vec<WantedBy<'_>> = wanted
            .into_iter()
            .map(|target| WantedBy { target: &target.name, digest: target.digest })
            .collect();
        let now = self.tools.clock.now();
        catalog.plan_deliveries(version.version_id, &wanted, now).await.map_err(catalog_failed)
    }
}

impl Plan {
    async fn wanted<'a>(&self, work: &'a PlanWork) -> Result<Vec<&'a TargetSettings>, HandlerError> {
        if work.targets.is_empty() {
            return Ok(Vec::new());
        }
        let change: Change = serde_json::from_str(work.change.get())
            .map_err(|error| permanent(run_reasons::CATALOG_UNAVAILABLE, error))?;
        let mut whole = None;
        let mut wanted = Vec::new();
        for target in &work.targets {
            let Some(when) = when(target) else {
                // Validation takes no such expression: better one message too many than one too few.
                wanted.push(target);
                continue;
            };
            let verdict = match when.wants(&change) {
                Wanted::NeedsWhole => {
                    if whole.is_none() {
                        whole = Some(self.whole(work, change.kind).await?);
                    }
                    whole.as_ref().map_or(Wanted::Yes, |whole| when.wants(whole))
                }
                verdict => verdict,
            };
            if verdict != Wanted::No {
                wanted.push(target);
            }
        }
        Ok(wanted)
    }

    /// The change with all that its size left out.
    async fn whole(&self, work: &PlanWork, kind: ChangeKind) -> Result<Change, HandlerError> {
        let (before, after) = match kind {
            // Its text is what was there.
            ChangeKind::Removed => (Some(work.extract_id), None),
            _ => (work.previous_extract_id, Some(work.extract_id)),
        };
        change(&self.tools, kind, before, after, Extent::Whole).await
    }
}

/// What a target wants; none when its expression cannot be compiled.
fn when(target: &TargetSettings) -> Option<When> {
    let matches = match &target.matches {
        Some(expression) => Some(RegexBuilder::new(expression).size_limit(REGEX_SIZE).build().ok()?),
        None => None,
    };
    let kinds: BTreeSet<ChangeKind> =
        target.kinds.iter().filter_map(|name| ChangeKind::named(name)).collect();
    Some(if target.kinds.is_empty() { When { matches, ..When::default() } } else { When { kinds, matches } })
}
