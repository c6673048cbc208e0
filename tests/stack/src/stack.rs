//! A set of parts that run together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    Part, Service, StackError, build, cache, files, part,
    parts::{self, Place},
    progress::say,
    service, start,
    state::{self, State},
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

    /// The folder of a part's data.
    #[must_use]
    pub fn data(&self, part: Part) -> PathBuf {
        self.state.data.join(part.name())
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
        let started = start::start(place, wanted).await;
        self.services = started.services;
        self.state.node = started.node;
        (self.state.postgres, self.state.s3) = match started.access {
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

pub(crate) fn random_name() -> String {
    let mut name = uuid::Uuid::new_v4().simple().to_string();
    name.truncate(16);
    name
}
