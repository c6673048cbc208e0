//! The order in which the parts of a stack start: side by side, as far as they do not need each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
    sync::{Mutex, PoisonError},
};

use crate::{
    BUCKET, Image, Part, S3, Service, StackError,
    build::Artifact,
    certificates::Certificates,
    image::Runtime,
    network::Network,
    parts::{self, ControlPlane, Place},
    service,
    stack::random_name,
    state::PostgresAccess,
};

/// What runs afterwards, whether all parts do or not.
pub(crate) struct Started {
    pub(crate) services: BTreeMap<Part, Service>,
    pub(crate) node: Option<Network>,
    /// Who may use the servers that know their clients; or why a part did not start.
    pub(crate) access: Result<(Option<PostgresAccess>, Option<S3>), StackError>,
}

pub(crate) async fn start(place: Place, wanted: BTreeSet<Part>) -> Started {
    let mut start = Start { place, wanted, started: Mutex::default() };
    let access = start.all().await;
    Started {
        services: start.started.into_inner().unwrap_or_else(PoisonError::into_inner),
        node: start.place.node,
        access,
    }
}

/// A stack's parts as they are started.
struct Start {
    place: Place,
    wanted: BTreeSet<Part>,
    started: Mutex<BTreeMap<Part, Service>>,
}

impl Start {
    async fn all(&mut self) -> Result<(Option<PostgresAccess>, Option<S3>), StackError> {
        // The node comes first: with it comes the address that the others listen on.
        self.node().await?;
        // All are waited for, so that on an error every part that runs is known.
        let (kubernetes, kafka, postgres, minio) =
            tokio::join!(self.kubernetes(), self.kafka(), self.postgres(), self.minio());
        kubernetes.and(kafka)?;
        Ok((postgres?, minio?))
    }

    async fn node(&mut self) -> Result<(), StackError> {
        if !self.wanted.contains(&Part::Node) {
            return Ok(());
        }
        // Every attempt chooses another network: the last one counts.
        let network = Mutex::new(None);
        self.create(async || {
            let (plan, chosen) = parts::node(&self.place).await?;
            *network.lock().unwrap_or_else(PoisonError::into_inner) = Some(chosen);
            Ok(plan)
        })
        .await?;
        self.place.node = network.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.place.address = self.place.node.map_or(self.place.address, Network::host);
        Ok(())
    }

    /// The API server, and what is of use with it alone.
    async fn kubernetes(&self) -> Result<(), StackError> {
        let (apiserver, containerd) = tokio::join!(self.apiserver(), self.containerd());
        let apiserver = apiserver?;
        containerd?;
        let Some((plane, server)) = apiserver else {
            return Ok(());
        };
        let place = &self.place;
        let (controllers, scheduler, kubelet, proxy, names) = tokio::join!(
            self.create_wanted(Part::KubeControllerManager, async || {
                parts::controller_manager(place, &plane, server).await
            }),
            self.create_wanted(Part::KubeScheduler, async || parts::scheduler(place, &plane, server).await),
            self.create_wanted(Part::Kubelet, async || parts::kubelet(place, &plane, server).await),
            // It waits for the node that the kubelet makes known.
            self.create_wanted(Part::KubeProxy, async || parts::kube_proxy(place, &plane, server).await),
            self.create_wanted(Part::Coredns, async || parts::coredns(place, &plane, server).await),
        );
        controllers.and(scheduler).and(kubelet).and(proxy).and(names)
    }

    async fn apiserver(&self) -> Result<Option<(ControlPlane, SocketAddrV4)>, StackError> {
        if !self.wanted.contains(&Part::Etcd) {
            return Ok(None);
        }
        let etcd = self.create(async || parts::etcd(&self.place).await).await?;
        if !self.wanted.contains(&Part::KubeApiserver) {
            return Ok(None);
        }
        let certificates = Certificates::create(self.place.folder.join("kubernetes"), self.place.address)?;
        let plane = ControlPlane { certificates };
        let server = self.create(async || parts::apiserver(&self.place, &plane, etcd).await).await?;
        Ok(Some((plane, server)))
    }

    async fn containerd(&self) -> Result<(), StackError> {
        if !self.wanted.contains(&Part::Containerd) {
            return Ok(());
        }
        self.create(async || parts::containerd(&self.place).await).await?;
        let runtime = Runtime::of(&self.place.folder, &self.place.data);
        let pause = Artifact::Pause.path()?;
        runtime
            .import(&Image {
                name: parts::PAUSE_IMAGE,
                files: pause.parent().unwrap_or(&pause),
                entrypoint: &["/pause"],
                environment: &[],
                user: "65535:65535",
            })
            .await
    }

    async fn kafka(&self) -> Result<(), StackError> {
        self.create_wanted(Part::Kafka, async || parts::kafka(&self.place).await).await?;
        self.create_wanted(Part::SecondBroker, async || parts::second_broker(&self.place).await).await
    }

    async fn postgres(&self) -> Result<Option<PostgresAccess>, StackError> {
        if !self.wanted.contains(&Part::Postgres) {
            return Ok(None);
        }
        // Every attempt prepares the server anew, with a password of its own: the last one counts.
        let access = Mutex::new(None);
        self.create(async || {
            let (plan, user) = parts::postgres(&self.place).await?;
            *access.lock().unwrap_or_else(PoisonError::into_inner) = Some(user);
            Ok(plan)
        })
        .await?;
        Ok(access.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    async fn minio(&self) -> Result<Option<S3>, StackError> {
        if !self.wanted.contains(&Part::Minio) {
            return Ok(None);
        }
        let mut s3 = S3 {
            endpoint: String::new(),
            region: "us-east-1".to_owned(),
            bucket: BUCKET.to_owned(),
            access_key: random_name(),
            secret_key: format!("{}{}", random_name(), random_name()),
        };
        let address = self.create(async || parts::minio(&self.place, &s3).await).await?;
        s3.endpoint = format!("http://{address}");
        Ok(Some(s3))
    }

    async fn create_wanted(
        &self,
        part: Part,
        plan: impl AsyncFn() -> Result<service::Plan, StackError>,
    ) -> Result<(), StackError> {
        if self.wanted.contains(&part) {
            self.create(plan).await?;
        }
        Ok(())
    }

    async fn create(
        &self,
        plan: impl AsyncFn() -> Result<service::Plan, StackError>,
    ) -> Result<SocketAddrV4, StackError> {
        let service = Service::create(&self.place.folder, plan).await?;
        let address = service.address();
        self.started.lock().unwrap_or_else(PoisonError::into_inner).insert(service.part(), service);
        Ok(address)
    }
}
