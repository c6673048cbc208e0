//! The objects that make the load.

use super::site::Site;

/// Of how many pages one `kubectl apply` takes the objects: few, so that it ends in time on a busy machine.
const AT_ONCE: usize = 25;

/// Sources and Subscriptions, one of each for a page, due every minute, each with a webhook that is told of all changes. The
/// first `retained` keep two versions.
pub(super) fn manifests(site: &Site, count: usize, hosts: usize, retained: usize) -> Vec<String> {
    let objects = (0..count).map(|number| {
        let retention = if number < retained { "  retention: { versions: 2 }\n" } else { "" };
        format!(
            "---\napiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{ name: page-{number} }}\n\
             spec: {{ kind: html, baseURL: '{}', politeness: {{ minInterval: 0s }}, robotsMode: allow }}\n\
             ---\napiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: page-{number} }}\n\
             spec:\n  sourceRef: {{ name: page-{number} }}\n  schedule: '* * * * *'\n{retention}\
             \x20 delivery: [{{ name: desk, webhook: {{ url: '{}' }} }}]\n",
            site.page(number, hosts),
            site.hook()
        )
    });
    let objects: Vec<String> = objects.collect();
    objects.chunks(AT_ONCE).map(<[String]>::concat).collect()
}
