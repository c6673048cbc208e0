//! Clients of the API server, and what it says of the requests that it served.

use std::{collections::BTreeMap, path::Path};

use events::BoxError;
use http::Request;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use stack::Stack;

/// Verbs of `apiserver_request_total` that write.
const WRITING: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

pub(super) struct ApiServer {
    /// The administrator, who is let through whatever the load.
    pub(super) administrator: Client,
    /// Somebody with the operator's permissions.
    pub(super) operator: Client,
}

/// Writes served, by kind of object and verb.
#[derive(Clone, Debug, Default)]
pub(super) struct Writes(BTreeMap<(String, String), f64>);

impl ApiServer {
    pub(super) async fn connect(stack: &Stack) -> Result<Self, BoxError> {
        let operator = stack.kubeconfig_for("tipstaff-operator", &[])?;
        Ok(Self {
            administrator: client(&stack.kubeconfig_path()?).await?,
            operator: client(&operator).await?,
        })
    }

    pub(super) async fn writes(&self) -> Result<Writes, BoxError> {
        let request = Request::get("/metrics").body(Vec::new())?;
        Ok(Writes::parse(&self.administrator.request_text(request).await?))
    }
}

async fn client(kubeconfig: &Path) -> Result<Client, BoxError> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

impl Writes {
    fn parse(metrics: &str) -> Self {
        let mut writes = Self::default();
        for line in metrics.lines() {
            let Some((labels, count)) =
                line.strip_prefix("apiserver_request_total{").and_then(|line| line.rsplit_once("} "))
            else {
                continue;
            };
            let label = |name: &str| {
                let value = labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""));
                value.unwrap_or_default().trim_end_matches('"').to_owned()
            };
            let (verb, subresource) = (label("verb"), label("subresource"));
            if !WRITING.contains(&verb.as_str()) {
                continue;
            }
            let resource = match subresource.as_str() {
                "" => label("resource"),
                subresource => format!("{}/{subresource}", label("resource")),
            };
            *writes.0.entry((resource, verb)).or_default() += count.trim().parse().unwrap_or(0.0);
        }
        writes
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        let differences = self
            .0
            .iter()
            .map(|(key, count)| (key.clone(), count - before.0.get(key).copied().unwrap_or_default()));
        Self(differences.filter(|(_, count)| *count > 0.0).collect())
    }

    /// Renewals of leases: the operator's, and one of the API server's own.
    pub(super) fn lease_renewals(&self) -> f64 {
        self.sum(|resource| resource == "leases")
    }

    /// All others that can be the operator's.
    pub(super) fn of_operator(&self) -> f64 {
        self.sum(|resource| {
            ["sources", "subscriptions", "events"].iter().any(|kind| resource.split('/').next() == Some(kind))
        })
    }

    fn sum(&self, is_counted: impl Fn(&str) -> bool) -> f64 {
        let counted = self.0.iter().filter(|((resource, _), _)| is_counted(resource));
        counted.map(|(_, count)| count).sum()
    }
}

impl std::fmt::Display for Writes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list: Vec<String> =
            self.0.iter().map(|((resource, verb), count)| format!("{count} {verb} {resource}")).collect();
        f.write_str(if list.is_empty() { "none" } else { "" })?;
        f.write_str(&list.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted_by_kind_and_verb() {
        let line = |verb: &str, resource: &str, subresource: &str, code: u32, count: u32| {
            format!(
                "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",dry_run=\"\",group=\"g\",\
                 resource=\"{resource}\",scope=\"resource\",subresource=\"{subresource}\",verb=\"{verb}\",\
                 version=\"v1\"}} {count}\n"
            )
        };
        let before = Writes::parse(&line("PATCH", "subscriptions", "status", 200, 3));
        let text = line("PATCH", "subscriptions", "status", 200, 5)
            + &line("PATCH", "subscriptions", "status", 409, 1)
            + &line("PATCH", "subscriptions", "", 200, 2)
            + &line("PUT", "leases", "", 200, 4)
            + &line("GET", "subscriptions", "", 200, 100)
            + "apiserver_request_total_other{verb=\"PUT\"} 7\n";
        let writes = Writes::parse(&text).since(&before);
        assert_eq!((writes.of_operator(), writes.lease_renewals()), (5.0, 4.0), "{writes}");
    }
}
