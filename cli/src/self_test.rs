//! `tipstaff self-test`: has an installation fetch a page, by a Source and a Subscription that are made for it and removed.

use std::{
    fmt::Debug,
    future::Future,
    io::{self, Write},
    time::Duration,
};

use crds::{
    LastRun, REQUESTED_AT_ANNOTATION, RunPhase, Source, Subscription, SubscriptionStatus, conditions,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

/// How often the API server is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the API server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long the operator may take to let go of an object that is deleted.
const REMOVE_WITHIN: Duration = Duration::from_secs(20);

/// What to test, and how.
#[derive(Clone, Debug)]
pub struct SelfTestOptions {
    /// Where the objects are made; the client's own namespace without it.
    pub namespace: Option<String>,
    /// The page that is fetched.
    pub url: Url,
    /// How long the run may take to succeed.
    pub within: Duration,
}

/// The installation does not do what it should, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// No client for the API server.
    #[error("no way to the API server is configured: neither a kubeconfig nor a service account")]
    Client(#[source] kube::Error),
    /// The API server refused, or did not answer.
    #[error("cannot {action}")]
    ApiServer {
        /// What was tried.
        action: String,
        /// Why it failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("cannot {action}: the API server did not answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent {
        /// What was tried.
        action: String,
    },
    /// The run failed.
    #[error("the run {run} failed: {reason}: {message}; docs/status.md says what to do about {reason}")]
    RunFailed {
        /// Its id.
        run: String,
        /// Why, as one word.
        reason: String,
        /// Why, as a sentence.
        message: String,
    },
    /// It took too long.
    #[error("no run succeeded within {} s: {seen}", within.as_secs())]
    TooLate {
        /// How long was waited.
        within: Duration,
        /// How far it was, and what to look at.
        seen: String,
    },
    /// The end was asked for.
    #[error("interrupted")]
    Interrupted,
    /// What was made is still there.
    #[error("{object} is deleted and not gone after {} s: does the operator run?", REMOVE_WITHIN.as_secs())]
    NotRemoved {
        /// Which object.
        object: String,
    },
    /// The output takes no more.
    #[error("cannot write to the standard output")]
    Output(#[from] io::Error),
}

/// Makes a Source and a Subscription, waits until a run of it succeeded, and removes both, whatever came of it. Tells each step.
///
/// # Errors
/// When the run failed or took too long, the API server refused, or `stop` is cancelled.
pub async fn run(
    options: &SelfTestOptions,
    stop: &CancellationToken,
    output: &mut dyn Write,
) -> Result<(), SelfTestError> {
    let client = Client::try_default().await.map_err(SelfTestError::Client)?;
    let namespace = options.namespace.as_deref().unwrap_or(client.default_namespace()).to_owned();
    let id = Uuid::new_v4().simple().to_string();
    let test = SelfTest {
        name: format!("self-test-{}", &id[..8]),
        sources: Api::namespaced(client.clone(), &namespace),
        subscriptions: Api::namespaced(client, &namespace),
        namespace,
        options,
    };
    let tested = tokio::select! {
        () = stop.cancelled() => Err(SelfTestError::Interrupted),
        tested = test.run_through(output) => tested,
    };
    let removed = test.remove().await;
    // What is wrong with the installation is said first.
    tested.and(removed)?;
    writeln!(output, "removed both")?;
    Ok(())
}

struct SelfTest<'a> {
    name: String,
    namespace: String,
    sources: Api<Source>,
    subscriptions: Api<Subscription>,
    options: &'a SelfTestOptions,
}

impl SelfTest<'_> {
    async fn run_through(&self, output: &mut dyn Write) -> Result<(), SelfTestError> {
        let SelfTestOptions { url, within, .. } = self.options;
        let Self { name, namespace, .. } = self;
        let begin = Instant::now();
        let spec = json!({ "kind": "auto", "baseURL": url });
        self.create(&self.sources, "Source", json!({ "spec": spec })).await?;
        // It is never due by itself: the annotation asks for its one run.
        let spec = json!({ "sourceRef": { "name": name }, "schedule": "@yearly", "suspend": true });
        let annotations = json!({ REQUESTED_AT_ANNOTATION: name });
        let made = json!({ "metadata": { "annotations": annotations }, "spec": spec });
        self.create(&self.subscriptions, "Subscription", made).await?;
        writeln!(output, "made Source and Subscription {namespace}/{name} of {}", without_query(url))?;

        let run = self.ended_run(begin + *within).await?;
        let LastRun { id, reason, .. } = &run;
        let reason = reason.as_deref().unwrap_or("without a reason");
        writeln!(output, "run {id} succeeded after {:.1} s: {reason}", begin.elapsed().as_secs_f64())?;
        Ok(())
    }

    async fn create<K>(
        &self,
        api: &Api<K>,
        kind: &str,
        mut object: serde_json::Value,
    ) -> Result<(), SelfTestError>
    where
        K: Clone + Debug + DeserializeOwned + Serialize,
    {
        let action = format!("create the {kind} {}/{}", self.namespace, self.name);
        object["apiVersion"] = format!("{}/{}", crds::GROUP, crds::VERSION).into();
        object["kind"] = kind.into();
        object["metadata"]["name"] = self.name.as_str().into();
        let object = serde_json::from_value(object).map_err(|error| SelfTestError::ApiServer {
            action: action.clone(),
            source: Box::new(kube::Error::SerdeError(error)),
        })?;
        answered(action, api.create(&PostParams::default(), &object)).await.map(|_| ())
    }

    /// Waits for the run that was asked for; one that succeeded is returned.
    async fn ended_run(&self, deadline: Instant) -> Result<LastRun, SelfTestError> {
        let mut seen = String::new();
        loop {
            let action = format!("read the Subscription {}/{}", self.namespace, self.name);
            let looked = answered(action, self.subscriptions.get(&self.name));
            match timeout_at(deadline, looked).await {
                Ok(found) => {
                    let status = found?.status.unwrap_or_default();
                    match ended(&status) {
                        Some(ended) => return ended,
                        None => seen = progress(&status, &self.namespace),
                    }
                }
                Err(_) => return Err(SelfTestError::TooLate { within: self.options.within, seen }),
            }
            if timeout_at(deadline, sleep(LOOK_EVERY)).await.is_err() {
                return Err(SelfTestError::TooLate { within: self.options.within, seen });
            }
        }
    }

    /// The Subscription first: a Source that is in use stays.
    async fn remove(&self) -> Result<(), SelfTestError> {
        self.remove_one(&self.subscriptions, "Subscription").await?;
        self.remove_one(&self.sources, "Source").await
    }

    async fn remove_one<K>(&self, api: &Api<K>, kind: &str) -> Result<(), SelfTestError>
    where
        K: Clone + Debug + DeserializeOwned + ResourceExt,
    {
        let object = format!("the {kind} {}/{}", self.namespace, self.name);
        let parameters = DeleteParams::default();
        match answered(format!("delete {object}"), api.delete(&self.name, &parameters)).await {
            Err(error) if is_not_found(&error) => return Ok(()),
            deleted => deleted?,
        };
        let gone = async {
            while answered(format!("read {object}"), api.get_opt(&self.name)).await?.is_some() {
                sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        timeout(REMOVE_WITHIN, gone)
            .await
            .unwrap_or(Err(SelfTestError::NotRemoved { object: object.clone() }))
    }
}

async fn answered<T>(
    action: String,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, SelfTestError> {
    match timeout(ANSWER_WITHIN, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(SelfTestError::ApiServer { action, source: Box::new(source) }),
        Err(_) => Err(SelfTestError::Silent { action }),
    }
}

fn is_not_found(error: &SelfTestError) -> bool {
    match error {
        SelfTestError::ApiServer { source, .. } => {
            matches!(&**source, kube::Error::Api(status) if status.code == 404)
        }
        _ => false,
    }
}

/// The end of the run, if it has ended.
fn ended(status: &SubscriptionStatus) -> Option<Result<LastRun, SelfTestError>> {
    let run = status.last_run.clone()?;
    match run.phase {
        RunPhase::Succeeded => Some(Ok(run)),
        RunPhase::Pending | RunPhase::Running => None,
        RunPhase::Failed | RunPhase::Skipped => Some(Err(SelfTestError::RunFailed {
            run: run.id,
            reason: run.reason.unwrap_or_default(),
            message: condition(status, conditions::SUCCEEDING).unwrap_or_default(),
        })),
    }
}

/// How far it is, and what to look at when it gets no further.
fn progress(status: &SubscriptionStatus, namespace: &str) -> String {
    match (&status.last_run, condition(status, conditions::READY)) {
        (Some(run), _) => {
            format!("the run {} is {:?} (do workers of the roles schedule and crawl run?)", run.id, run.phase)
        }
        (None, Some(message)) => format!("no run was made ({message})"),
        (None, None) => format!(
            "the Subscription has no status (does an operator lead, and has it the namespace {namespace} in force?)"
        ),
    }
}

/// A condition's message.
fn condition(status: &SubscriptionStatus, kind: &str) -> Option<String> {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind)?;
    Some(found.message.clone())
}

fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.into()
}
