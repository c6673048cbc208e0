//! An independent watch of the Subscriptions: how many are ready, and how often they were written.

use std::{collections::HashMap, time::Duration};

use crds::Subscription;
use events::BoxError;
use futures::{StreamExt, pin_mut};
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::api_server::ApiServer;

/// When nothing was written for so long, nothing more will be.
const QUIET: Duration = Duration::from_secs(3);
const SETTLED_WITHIN: Duration = Duration::from_secs(600);

/// What was seen so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Objects that are there.
    pub(super) objects: usize,
    /// Those whose status says Ready=True of their own generation.
    pub(super) ready: usize,
    /// Writes of objects.
    pub(super) writes: usize,
    /// When the last one came.
    pub(super) last: Instant,
}

pub(super) struct Observer {
    seen: watch::Receiver<Seen>,
    watching: AbortHandle,
}

impl Observer {
    /// Watches, and returns when all objects have been seen.
    pub(super) async fn start(server: &ApiServer, namespace: &str, count: usize) -> Result<Self, BoxError> {
        let api: Api<Subscription> = Api::namespaced(server.administrator.clone(), namespace);
        let (sender, seen) = watch::channel(Seen { objects: 0, ready: 0, writes: 0, last: Instant::now() });
        let watching = tokio::spawn(observe(api, sender)).abort_handle();
        let observer = Self { seen, watching };
        observer.wait_for("the objects made", |seen| seen.objects == count).await?;
        Ok(observer)
    }

    pub(super) fn seen(&self) -> Seen {
        *self.seen.borrow()
    }

    /// Waits until what is seen is as wanted.
    pub(super) async fn wait_for(
        &self,
        what: &str,
        is_so: impl FnMut(&Seen) -> bool,
    ) -> Result<Seen, BoxError> {
        let mut seen = self.seen.clone();
        let found = timeout(SETTLED_WITHIN, seen.wait_for(is_so)).await;
        match found {
            Ok(Ok(seen)) => Ok(*seen),
            Ok(Err(_)) => Err("the watch ended".into()),
            Err(_) => Err(format!("waited in vain for {what}; seen: {:?}", self.seen()).into()),
        }
    }

    /// Waits until nothing is written any more.
    pub(super) async fn settled(&self) -> Result<(), BoxError> {
        super::until("an end of writes", SETTLED_WITHIN, Duration::from_millis(100), async || {
            Ok((self.seen().last.elapsed() >= QUIET).then_some(()))
        })
        .await
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn observe(api: Api<Subscription>, seen: watch::Sender<Seen>) {
    let objects = watcher(api, watcher::Config::default()).default_backoff().touched_objects();
    pin_mut!(objects);
    // Whether each is ready, and the state that was seen last.
    let mut known: HashMap<String, (bool, Option<String>)> = HashMap::new();
    while let Some(object) = objects.next().await {
        // An interrupted watch is taken up again.
        let Ok(object) = object else { continue };
        let (is_ready, version) = (is_ready(&object), object.resource_version());
        let before = known.insert(object.name_any(), (is_ready, version.clone()));
        // A watch that starts again shows what was seen before.
        if before.as_ref().is_some_and(|(_, before)| *before == version) {
            continue;
        }
        let was_ready = before.as_ref().is_some_and(|(was_ready, _)| *was_ready);
        seen.send_modify(|seen| {
            seen.objects = known.len();
            seen.ready = seen.ready + usize::from(is_ready) - usize::from(was_ready);
            seen.writes += usize::from(before.is_some());
            seen.last = Instant::now();
        });
    }
}

fn is_ready(object: &Subscription) -> bool {
    object.status.as_ref().is_some_and(|status| {
        status.observed_generation == object.metadata.generation
            && status
                .conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}
