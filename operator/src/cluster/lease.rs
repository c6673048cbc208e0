//! Who leads, by a Lease (`coordination.k8s.io/v1`), with fencing.
//!
//! The rules are those of Kubernetes' own components: whoever sees the Lease unchanged for as long as it lasts, by its own
//! clock, may take it; every write names the version it was decided on, so that of two only one succeeds.
//! `leaseTransitions` is the epoch under which the leader makes runs: it grows with every holder, also when the Lease was
//! deleted, since the catalog remembers the last one.

use std::time::Duration;

use events::{Clock, error_chain};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use service::Check;
use store::catalog::{Catalog, CatalogError, Lead};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

/// How often a follower looks at the Lease: so soon it takes over from a leader that gave it back.
const FOLLOWER_LOOKS_EVERY: Duration = Duration::from_secs(1);
/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(5);
/// What the readiness calls it.
const PART: &str = "lease";

/// Which Lease, and who asks for it.
#[derive(Clone, Debug)]
pub(super) struct LeaseOptions {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Who this replica is.
    pub(super) identity: String,
    /// How long a leader that fell silent keeps the Lease.
    pub(super) duration: Duration,
}

/// The Lease could not be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the Lease {namespace}/{name} cannot be used; the operator needs get, create and update of Leases there"
)]
pub(super) struct LeaseError {
    namespace: String,
    name: String,
    #[source]
    source: kube::Error,
}

/// The Lease of one replica, held or not.
pub(super) struct LeaseHolder {
    options: LeaseOptions,
    leases: Api<Lease>,
    /// What the Lease was when it last changed, and when that was seen.
    seen: Option<(Lease, Instant)>,
}

impl LeaseHolder {
    pub(super) fn new(client: Client, options: LeaseOptions) -> Self {
        Self { leases: Api::namespaced(client, &options.namespace), options, seen: None }
    }

    /// Waits until this replica leads: it holds the Lease, and the catalog knows its epoch. Failures are shown in `check`
    /// and tried again: permissions, too, may come after the pod that needs them.
    pub(super) async fn acquire(&mut self, catalog: &Catalog, clock: &dyn Clock, check: &Check) -> Lead {
        loop {
            match self.try_to_acquire(catalog, clock.now()).await {
                Ok(lead) => {
                    check.well(PART);
                    if let Some(lead) = lead {
                        return lead;
                    }
                }
                Err(error) => {
                    let cause = error_chain(&error);
                    warn!(error = cause, "it is not known who leads; trying again");
                    check.ill(PART, cause);
                }
            }
            sleep(FOLLOWER_LOOKS_EVERY).await;
        }
    }

    async fn try_to_acquire(
        &mut self,
        catalog: &Catalog,
        now: Timestamp,
    ) -> Result<Option<Lead>, AcquireError> {
        self.look().await?;
        let current = self.seen.as_ref().map(|(lease, _)| lease);
        if !self.is_free() {
            return Ok(None);
        }
        let transitions = current.and_then(|lease| lease.spec.as_ref()?.lease_transitions).unwrap_or(0);
        let epoch = i64::from(transitions).max(catalog.epoch().await?) + 1;
        let lease = self.held_lease(current, epoch, now);
        if !self.write(lease).await? {
            debug!("another replica was faster to take the lease");
            return Ok(None);
        }
        match catalog.lead(epoch, &self.options.identity, now).await {
            Ok(lead) => Ok(Some(lead)),
            // For one, because this replica stood still just now for so long that another took over.
            Err(error) => {
                self.release().await;
                Err(error.into())
            }
        }
    }

    /// Keeps the Lease until it is another's.
    ///
    /// A leader that cannot reach the API server leads on: the clock must not stop with it. Should another replica
    /// reach it and take over, this one's epoch is over, whether it knows or not.
    pub(super) async fn keep(&mut self, clock: &dyn Clock) {
        loop {
            sleep(self.renewal_interval()).await;
            match self.renew(clock.now()).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => warn!(error = error_chain(&error), "the lease was not renewed; trying again"),
            }
        }
    }

    /// Renews the Lease and says whether it is still this replica's.
    async fn renew(&mut self, now: Timestamp) -> Result<bool, LeaseError> {
        self.look().await?;
        let Some((lease, _)) = &self.seen else {
            // Somebody deleted it: whoever is first makes it anew, under the next epoch.
            return Ok(false);
        };
        if holder(lease) != Some(&self.options.identity) {
            return Ok(false);
        }
        let mut renewed = lease.clone();
        if let Some(spec) = &mut renewed.spec {
            spec.renew_time = Some(MicroTime(now));
            spec.lease_duration_seconds = Some(self.seconds());
        }
        // Where the write met another one, the next turn sees whose.
        self.write(renewed).await?;
        Ok(true)
    }

    /// Gives the Lease back, so that another replica need not wait for it to run out.
    pub(super) async fn release(&mut self) {
        let released = async {
            self.look().await?;
            let Some((lease, _)) = &self.seen else { return Ok(()) };
            if holder(lease) != Some(&self.options.identity) {
                return Ok(());
            }
            let mut released = lease.clone();
            if let Some(spec) = &mut released.spec {
                spec.holder_identity = None;
                spec.acquire_time = None;
                spec.renew_time = None;
            }
            self.write(released).await.map(|_| ())
        };
        if let Err(error) = released.await {
            warn!(error = error_chain(&error), "the lease was not given back and has to run out");
        }
    }

    /// Reads the Lease and notes when it last changed.
    async fn look(&mut self) -> Result<(), LeaseError> {
        let found = self.request(self.leases.get_opt(&self.options.name)).await?;
        self.note(found);
        Ok(())
    }

    fn note(&mut self, found: Option<Lease>) {
        let Some(found) = found else {
            self.seen = None;
            return;
        };
        let is_as_before = self.seen.as_ref().is_some_and(|(before, _)| before.spec == found.spec);
        let since = match &self.seen {
            Some((_, since)) if is_as_before => *since,
            _ => Instant::now(),
        };
        self.seen = Some((found, since));
    }

    /// Whether nobody holds the Lease, or its holder has not renewed it for as long as it lasts.
    ///
    /// A replica that was started anew under its old name is no exception: what it holds was given to its predecessor, who
    /// may still be at work.
    fn is_free(&self) -> bool {
        let Some((lease, since)) = &self.seen else { return true };
        let lasts = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
        let lasts = Duration::from_secs(u64::try_from(lasts).unwrap_or_default());
        holder(lease).is_none() || since.elapsed() >= lasts
    }

    fn held_lease(&self, current: Option<&Lease>, epoch: i64, now: Timestamp) -> Lease {
        let metadata = current.map_or_else(
            || ObjectMeta { name: Some(self.options.name.clone()), ..ObjectMeta::default() },
            |lease| lease.metadata.clone(),
        );
        let spec = LeaseSpec {
            holder_identity: Some(self.options.identity.clone()),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_duration_seconds: Some(self.seconds()),
            lease_transitions: Some(i32::try_from(epoch).unwrap_or(i32::MAX)),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Writes the Lease and says whether it succeeded: not when somebody else has written it since it was read.
    async fn write(&mut self, lease: Lease) -> Result<bool, LeaseError> {
        let parameters = PostParams { field_manager: Some(crds::FIELD_MANAGER.to_owned()), dry_run: false };
        let written = if lease.metadata.resource_version.is_none() {
            self.request(self.leases.create(&parameters, &lease)).await
        } else {
            self.request(self.leases.replace(&self.options.name, &parameters, &lease)).await
        };
        match written {
            Ok(written) => {
                self.note(Some(written));
                Ok(true)
            }
            Err(LeaseError { source: kube::Error::Api(refusal), .. })
                if matches!(refusal.code, 404 | 409) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn request<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, LeaseError> {
        let answered = timeout(REQUEST.min(self.renewal_interval()).max(FOLLOWER_LOOKS_EVERY), request).await;
        answered.unwrap_or_else(|_| Err(kube::Error::Service("no answer in time".into()))).map_err(|source| {
            LeaseError { namespace: self.options.namespace.clone(), name: self.options.name.clone(), source }
        })
    }

    /// Three renewals may fail before the Lease runs out.
    fn renewal_interval(&self) -> Duration {
        self.options.duration / 4
    }

    /// The API takes whole seconds, at least one.
    fn seconds(&self) -> i32 {
        i32::try_from(self.options.duration.as_secs().max(1)).unwrap_or(i32::MAX)
    }
}

fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

#[derive(Debug, thiserror::Error)]
enum AcquireError {
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}
