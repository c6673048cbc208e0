//! A set of parts that run together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{
    Image, Part, S3, Service, StackError,
    build::{self, Artifact},
    cache,
    certificates::Certificates,
    files,
    image::Runtime,
    network::Network,
    part,
    parts::{self, ControlPlane, Place},
    progress::say,
    service,
    state::{self, PostgresAccess, State},
};

/// Names the state file of a running stack, for programs that attach to it.
pub const STATE_VARIABLE: &str = "TIPSTAFF_STACK";

/// Keeps the data of stacks that end, if it is set.
pub const KEEP_VARIABLE: &str = "TIPSTAFF_STACK_KEEP";

/// The database that every stack's PostgreSQL server has from its start.
pub const DATABASE: &str = "tipstaff";

/// The bucket that every stack's object store has from its start.
pub const BUCKET: &str = "tipstaff";

/// How a stack is started.
#[derive(Clone, Debug, Default)]
pub struct StackOptions {
    /// Arguments for parts, after those that the stack gives them: `(Part::Kafka, "--override")`,
    /// `(Part::Kafka, "num.partitions=3")`.
    pub arguments: Vec<(Part, String)>,
}

/// Parts that run together, and their addresses.
///
/// A stack that was started here ([`Stack::start`]) is killed and its data removed when this value is dropped; one
/// that was attached to ([`Stack::shared`]) is left as it is.
pub struct Stack {
    pub(crate) state: State,
    services: BTreeMap<Part, Service>,
    is_owner: bool,
}

impl Stack {
    /// Builds what is not built yet, starts the parts and what they need, and waits until all are ready.
    ///
    /// # Errors
    /// When something cannot be built, or a part does not start: the error names it and shows the end of its log.
    pub async fn start(parts: &[Part], options: StackOptions) -> Result<Stack, StackError> {
        let name = format!("{}{}-{}", cache::TEST_PREFIX, std::process::id(), random_name());
        cache::tidy();
        let stack = Stack::prepare(name, true)?;
        stack.start_parts(parts, options, None).await
    }

    /// Starts all of [`Part::SERVERS`]. See [`Stack::start`].
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub async fn all() -> Result<Stack, StackError> {
        Stack::start(&Part::SERVERS, StackOptions::default()).await
    }

    /// Attaches to the running stack whose state file the variable `TIPSTAFF_STACK` names. Many tests may do so at once:
    /// leave its parts running, and keep to databases, topics, namespaces and keys of your own.
    ///
    /// # Errors
    /// When the variable is not set, or the stack or one of its parts does not run.
    pub async fn shared() -> Result<Stack, StackError> {
        let state = std::env::var_os(STATE_VARIABLE).filter(|value| !value.is_empty());
        let stack = Stack::open(Path::new(&state.ok_or(StackError::NoSharedStack)?))?;
        let mut ended = Vec::new();
        for service in stack.services() {
            if service.process_id().await.is_none() {
                ended.push(service.part());
            }
        }
        match ended.is_empty() {
            true => Ok(stack),
            false => Err(StackError::PartsEnded {
                name: stack.state.name.clone(),
                parts: part::names(ended),
                logs: stack.logs(),
            }),
        }
    }

    /// Starts a stack that goes on when this program ends; `state` is where its state file is written. A stack of
    /// that state file or that name is ended first.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub async fn up(name: &str, state: &Path, parts: &[Part]) -> Result<Stack, StackError> {
        for earlier in [state, &Stack::default_state_file(name)?] {
            if earlier.exists() {
                Stack::down(earlier, false).await?;
            }
        }
        let mut stack = Stack::prepare(name.to_owned(), false)?;
        // From here on the stack can be ended with `down`, whatever happens to this program.
        stack.state.write(state)?;
        stack = stack.start_parts(parts, StackOptions::default(), Some(state)).await?;
        Ok(stack)
    }

    /// Opens a stack by its state file, whether its parts run or not.
    ///
    /// # Errors
    /// When there is no state file, or it cannot be read.
    pub fn open(state: &Path) -> Result<Stack, StackError> {
        let state = State::read(state)?;
        let services = state
            .plans
            .iter()
            .map(|plan| (plan.part, Service::attach(&state.folder, plan.clone())))
            .collect();
        Ok(Stack { state, services, is_owner: false })
    }

    /// Kills all parts of the stack of that state file, and removes its data; its logs too, unless they are to be kept.
    ///
    /// # Errors
    /// When there is no such stack, a part cannot be ended, or a folder cannot be removed.
    pub async fn down(state: &Path, keep_logs: bool) -> Result<(), StackError> {
        let stack = State::read(state)?;
        service::kill_all(&stack.folder).await?;
        stack.remove(keep_logs)?;
        match fs::remove_file(state) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StackError::file("remove", state)(error))
            }
            _ => Ok(()),
        }
    }

    /// The state file of a stack of that name, if no other was chosen.
    ///
    /// # Errors
    /// When neither `TIPSTAFF_STACK_CACHE` nor `HOME` is set.
    pub fn default_state_file(name: &str) -> Result<PathBuf, StackError> {
        Ok(cache::stack_folder(name)?.join(state::FILE))
    }

    /// The stack's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The folder of the parts' logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.state.folder.join("logs")
    }

    /// One part, to stop, kill, pause or restart it.
    ///
    /// # Errors
    /// When the stack was started without it.
    pub fn service(&self, part: Part) -> Result<&Service, StackError> {
        self.services.get(&part).ok_or_else(|| self.without(part))
    }

    pub(crate) fn without(&self, part: Part) -> StackError {
        StackError::NotInStack { part, present: part::names(self.services.keys().copied()) }
    }

    /// All parts, in the order in which they can start.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// New folders, and nothing in them.
    fn prepare(name: String, is_owner: bool) -> Result<Stack, StackError> {
        let folder = cache::stack_folder(&name)?;
        files::remove_folder(&folder)?;
        for inner in ["logs", "processes", "bin"] {
            files::create_folder(&folder.join(inner))?;
        }
        let state = State {
            data: new_data_folder(&name)?,
            name,
            folder,
            node: None,
            s3: None,
            postgres: None,
            plans: Vec::new(),
        };
        state.write(&state.folder.join(state::FILE))?;
        Ok(Stack { state, services: BTreeMap::new(), is_owner })
    }

    async fn start_parts(
        mut self,
        wanted: &[Part],
        options: StackOptions,
        state_file: Option<&Path>,
    ) -> Result<Stack, StackError> {
        let needed = part::needed(wanted);
        let wanted: BTreeSet<_> = Part::with_needs(wanted).into_iter().collect();
        if wanted.contains(&Part::Node) {
            parts::can_run_node()?;
        }
        build::build(&needed).await?;
        let place = Place {
            folder: self.state.folder.clone(),
            data: self.state.data.clone(),
            address: Ipv4Addr::LOCALHOST,
            node: None,
            dies_with_owner: self.is_owner,
            arguments: options.arguments,
        };
        let mut start = Start { place, wanted, started: Mutex::default() };
        // The node comes first: with it comes the address that the others listen on.
        if let Err(error) = start.node().await {
            return Err(self.give_up(error).await);
        }
        self.state.node = start.place.node;
        let (kubernetes, kafka, postgres, minio) =
            tokio::join!(start.kubernetes(), start.kafka(), start.postgres(), start.minio());
        self.services = start.started.into_inner().unwrap_or_else(PoisonError::into_inner);
        // All are waited for above, so that on an error every part that runs is known and is ended.
        let access = kubernetes.and(kafka).and_then(|()| Ok((postgres?, minio?)));
        (self.state.postgres, self.state.s3) = match access {
            Ok(access) => access,
            Err(error) => return Err(self.give_up(error).await),
        };
        self.state.plans = self.services().map(|service| service.plan().clone()).collect();
        if let Err(error) = self.complete(state_file).await {
            return Err(self.give_up(error).await);
        }
        Ok(self)
    }

    /// What is done once all addresses are known.
    async fn complete(&self, state_file: Option<&Path>) -> Result<(), StackError> {
        let own = self.state.folder.join(state::FILE);
        self.state.write(state_file.unwrap_or(&own))?;
        self.write_scripts()?;
        match self.service(Part::Postgres) {
            Ok(_) => self.create_database(DATABASE).await.map(|_| ()),
            Err(_) => Ok(()),
        }
    }

    async fn give_up(&self, error: StackError) -> StackError {
        for service in self.services.values() {
            // The first error is the one that tells what is wrong.
            let _ = service.kill().await;
        }
        error
    }
}

/// A stack's parts as they are started.
struct Start {
    place: Place,
    wanted: BTreeSet<Part>,
    started: Mutex<BTreeMap<Part, Service>>,
}

impl Start {
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

    /// etcd, the API server, what speaks to it alone, and what runs on the node: each needs the one before.
    async fn kubernetes(&self) -> Result<(), StackError> {
        let (plane, containerd) = tokio::join!(self.control_plane(), self.containerd());
        let plane = plane?;
        containerd?;
        let Some((plane, apiserver)) = plane else {
            return Ok(());
        };
        // kube-proxy waits for the node that the kubelet makes known.
        let (kubelet, proxy, names) = tokio::join!(
            self.create_wanted(Part::Kubelet, async || parts::kubelet(&self.place, &plane, apiserver).await),
            self.create_wanted(Part::KubeProxy, async || {
                parts::kube_proxy(&self.place, &plane, apiserver).await
            }),
            self.create_wanted(Part::Coredns, async || parts::coredns(&self.place, &plane, apiserver).await),
        );
        kubelet.and(proxy).and(names)
    }

    async fn control_plane(&self) -> Result<Option<(ControlPlane, SocketAddrV4)>, StackError> {
        if !self.wanted.contains(&Part::Etcd) {
            return Ok(None);
        }
        let etcd = self.create(async || parts::etcd(&self.place).await).await?;
        if !self.wanted.contains(&Part::KubeApiserver) {
            return Ok(None);
        }
        let certificates = Certificates::create(self.place.folder.join("kubernetes"), self.place.address)?;
        let plane = ControlPlane { certificates };
        let apiserver = self.create(async || parts::apiserver(&self.place, &plane, etcd).await).await?;
        let (controllers, scheduler) = tokio::join!(
            self.create_wanted(Part::KubeControllerManager, async || {
                parts::controller_manager(&self.place, &plane, apiserver).await
            }),
            self.create_wanted(Part::KubeScheduler, async || {
                parts::scheduler(&self.place, &plane, apiserver).await
            }),
        );
        controllers.and(scheduler)?;
        Ok(Some((plane, apiserver)))
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
        self.create_wanted(Part::Kafka, async || parts::kafka(&self.place).await).await
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

impl Drop for Stack {
    fn drop(&mut self) {
        if !self.is_owner {
            return;
        }
        for service in self.services.values_mut().rev() {
            service.kill_blocking();
        }
        // Parts of a start that was given up half-way are not among the services yet.
        service::kill_all_blocking(&self.state.folder);
        if std::thread::panicking() || std::env::var_os(KEEP_VARIABLE).is_some() {
            // Groups without processes tell nothing. What cannot be removed now goes when the data is tidied away.
            let _ = self.state.remove_control_groups();
            let (folder, data) = (self.state.folder.display(), self.state.data.display());
            say(&format!("kept: data in {data}, logs and keys in {folder}"));
            return;
        }
        match self.state.remove(true) {
            Ok(()) => say(&format!("ended; logs are in {}", self.logs().display())),
            Err(error) => say(&format!("ended; {error}")),
        }
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Stack")
            .field("name", &self.state.name)
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

/// In the system's folder for temporary files, and open for passing through: the account that PostgreSQL runs under
/// cannot reach into root's home.
fn new_data_folder(name: &str) -> Result<PathBuf, StackError> {
    let parent = std::env::temp_dir();
    let failed = || StackError::file("create a folder in", &parent);
    let folder = tempfile::Builder::new()
        .prefix(&format!("tipstaff-stack-{name}-"))
        .permissions(fs::Permissions::from_mode(0o711))
        .tempdir_in(&parent)
        .map_err(failed())?;
    Ok(folder.keep())
}

fn random_name() -> String {
    let mut name = uuid::Uuid::new_v4().simple().to_string();
    name.truncate(16);
    name
}
