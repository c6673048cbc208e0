//! Files of administrators: HTTP routes, and the workers file.

use std::{collections::HashSet, time::Duration};

use operator::scaling::{Workers, WorkersError};
use worker::http_routes;

/// A file of HTTP routes.
pub(crate) fn http_routes(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(routes) = http_routes::parse(&text) else { return };
    let names: HashSet<&str> = routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names.len(), routes.len(), "a name is one route's");
    for route in &routes {
        assert!(matches!(route.url.scheme(), "http" | "https") && route.url.has_host());
        assert!(route.url.username().is_empty() && route.url.password().is_none());
        assert!(route.timeout() >= Duration::from_secs(1));
        assert!(!route.emits.contains(&route.topic));
        let types: HashSet<&str> = route.emits.iter().map(|topic| topic.job_type()).collect();
        assert_eq!(types.len(), route.emits.len(), "a type is one topic's");
        let group = route.group();
        assert!(
            group.len() < 60
                && group
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte)),
            "{group}"
        );
    }
}

/// A workers file.
pub(crate) fn workers(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let workers = match Workers::parse(&text) {
        Ok(workers) => workers,
        Err(WorkersError::Invalid(problems)) => {
            assert!(!problems.is_empty());
            return;
        }
        Err(WorkersError::Unreadable(problem)) => {
            assert!(!problem.is_empty());
            return;
        }
    };
    for settings in workers.roles.values() {
        assert!(settings.min <= settings.max && settings.max >= 1 && settings.target_lag >= 1);
    }
    assert!(workers.drain_seconds >= 1);
    let written = serde_json::to_string(&workers).unwrap();
    assert_eq!(Workers::parse(&written).unwrap(), workers, "what was understood is understood again");
}
