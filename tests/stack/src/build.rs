//! What the stack runs, built from package registries: once a version and machine, then kept in the cache folder.
//!
//! Every artifact is one row of [`recipe`]. Their sources are pinned by the go.mod, go.sum and pom.xml files in
//! `tests/stack/build`, which are part of this program.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use crate::{StackError, cache, files, progress::say};

/// Something that is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
#[non_exhaustive]
pub enum Artifact {
    /// The database of the API server.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// The controllers.
    KubeControllerManager,
    /// The command line client of Kubernetes.
    Kubectl,
    /// The scheduler of pods to nodes.
    KubeScheduler,
    /// The agent of a node.
    Kubelet,
    /// The service proxy of a node.
    KubeProxy,
    /// The name server of a cluster.
    Coredns,
    /// The object store.
    Minio,
    /// The broker and its console tools: a folder of jars.
    Kafka,
    /// The package manager of Kubernetes.
    Helm,
    /// A program that answers with the due times of robfig/cron, the cron library of Kubernetes.
    RobfigCron,
    /// A program that reads a configuration of kind as kind does.
    KindConfig,
    /// The tool that checks and tests Prometheus' rules.
    Promtool,
    /// The first process of nodes and of pods.
    Pause,
    /// A program for a pod, which says what it can reach from there.
    Probe,
}

/// How one artifact is built.
struct Recipe {
    /// Its name, and its program's file name.
    name: &'static str,
    version: &'static str,
    method: Method,
    /// On two cores, with nothing cached.
    usual: Duration,
}

enum Method {
    Go {
        module: Module,
        package: &'static str,
        /// Variables of the program that are set when it is linked: without them it reports no version.
        variables: &'static [(&'static str, &'static str)],
    },
    Maven {
        pom: &'static str,
    },
}

/// The files of a Go module, most of which do nothing but require the program.
#[derive(Clone, Copy, Hash)]
struct Module {
    requirements: &'static str,
    checksums: &'static str,
    /// The program itself, where it is ours.
    program: Option<&'static str>,
}

macro_rules! module {
    ($folder:literal) => {
        Module {
            requirements: include_str!(concat!("../build/", $folder, "/go.mod")),
            checksums: include_str!(concat!("../build/", $folder, "/go.sum")),
            program: None,
        }
    };
}

const KUBERNETES: Module = module!("kubernetes");
const KUBERNETES_VERSION: &str = "1.36.3";
const KUBERNETES_VARIABLES: &[(&str, &str)] = &[
    ("k8s.io/component-base/version.gitVersion", "v1.36.3"),
    ("k8s.io/component-base/version.gitMajor", "1"),
    ("k8s.io/component-base/version.gitMinor", "36"),
];

fn recipe(artifact: Artifact) -> Recipe {
    let go = |name, version, seconds, module, package, variables| Recipe {
        name,
        version,
        method: Method::Go { module, package, variables },
        usual: Duration::from_secs(seconds),
    };
    // The first program of Kubernetes takes longest: the others find most packages compiled.
    let kubernetes = |name, seconds, package| {
        go(name, KUBERNETES_VERSION, seconds, KUBERNETES, package, KUBERNETES_VARIABLES)
    };
    // A program of our own that requires nothing else.
    let own =
        |name, module, program| go(name, "1", 10, Module { program: Some(program), ..module }, ".", &[]);
    match artifact {
        Artifact::Etcd => go("etcd", "3.7.3", 60, module!("etcd"), "go.etcd.io/etcd/server/v3", &[]),
        Artifact::KubeApiserver => kubernetes("kube-apiserver", 270, "k8s.io/kubernetes/cmd/kube-apiserver"),
        Artifact::KubeControllerManager => {
            kubernetes("kube-controller-manager", 70, "k8s.io/kubernetes/cmd/kube-controller-manager")
        }
        Artifact::Kubectl => kubernetes("kubectl", 30, "k8s.io/kubernetes/cmd/kubectl"),
        Artifact::KubeScheduler => kubernetes("kube-scheduler", 30, "k8s.io/kubernetes/cmd/kube-scheduler"),
        Artifact::Kubelet => kubernetes("kubelet", 60, "k8s.io/kubernetes/cmd/kubelet"),
        Artifact::KubeProxy => kubernetes("kube-proxy", 30, "k8s.io/kubernetes/cmd/kube-proxy"),
        Artifact::Minio => go(
            "minio",
            "2026-02-12",
            150,
            module!("minio"),
            "github.com/minio/minio",
            &[("github.com/minio/minio/cmd.ReleaseTag", "RELEASE.2026-02-12T20-18-48Z")],
        ),
        Artifact::Helm => go(
            "helm",
            "3.19.5",
            60,
            module!("helm"),
            "helm.sh/helm/v3/cmd/helm",
            &[("helm.sh/helm/v3/internal/version.version", "v3.19.5")],
        ),
        Artifact::RobfigCron => {
            let program = Some(include_str!("../build/robfig-cron/main.go"));
            go("robfig-cron", "3.0.1", 10, Module { program, ..module!("robfig-cron") }, ".", &[])
        }
        Artifact::KindConfig => {
            let program = Some(include_str!("../build/kind-config/main.go"));
            go("kind-config", "0.33.0", 10, Module { program, ..module!("kind-config") }, ".", &[])
        }
        Artifact::Promtool => go(
            "promtool",
            "0.313.5",
            300,
            module!("promtool"),
            "github.com/prometheus/prometheus/cmd/promtool",
            &[],
        ),
        Artifact::Pause => own("pause", module!("pause"), include_str!("../build/pause/main.go")),
        Artifact::Probe => own("probe", module!("probe"), include_str!("../build/probe/main.go")),
        Artifact::Coredns => {
            let program = Some(include_str!("../build/coredns/main.go"));
            go("coredns", "1.15.0", 120, Module { program, ..module!("coredns") }, ".", &[])
        }
        Artifact::Kafka => Recipe {
            name: "kafka",
            version: "4.3.1",
            method: Method::Maven { pom: include_str!("../build/kafka/pom.xml") },
            usual: Duration::from_secs(30),
        },
    }
}

impl Artifact {
    /// The folder that holds the built artifact.
    fn folder(self) -> Result<PathBuf, StackError> {
        let Recipe { name, version, method, .. } = recipe(self);
        Ok(cache::folder()?.join(match method {
            // A program of our own changes without its version.
            Method::Go { module: module @ Module { program: Some(_), .. }, .. } => {
                let mut hasher = DefaultHasher::new();
                module.hash(&mut hasher);
                format!("{name}-{version}-{:016x}", hasher.finish())
            }
            Method::Go { .. } | Method::Maven { .. } => format!("{name}-{version}"),
        }))
    }

    /// The built program; for Kafka, the folder of its jars. It may not be built yet.
    ///
    /// # Errors
    /// When neither `TIPSTAFF_STACK_CACHE` nor `HOME` is set.
    pub fn path(self) -> Result<PathBuf, StackError> {
        let folder = self.folder()?;
        Ok(match recipe(self).method {
            Method::Go { .. } => folder.join(recipe(self).name),
            Method::Maven { .. } => folder,
        })
    }
}

/// Builds what is not in the cache yet; what is there already costs nothing.
///
/// Another process that builds the same is waited for. Progress is printed to standard error.
///
/// # Errors
/// When a build fails (the error shows the end of its log), or Go or Maven is missing.
pub async fn build(artifacts: &[Artifact]) -> Result<(), StackError> {
    let artifacts = artifacts.to_vec();
    tokio::task::spawn_blocking(move || artifacts.into_iter().try_for_each(build_one)).await?
}

fn build_one(artifact: Artifact) -> Result<(), StackError> {
    let folder = artifact.folder()?;
    if folder.exists() {
        return Ok(());
    }
    let Recipe { name, version, method, usual } = recipe(artifact);
    let label = format!("{name} {version}");
    let cache = cache::folder()?;
    files::create_folder(&cache)?;
    let _lock = lock(&cache.join(format!("{name}-{version}.lock")), &label)?;
    if folder.exists() {
        return Ok(());
    }
    // An interrupted build leaves it; the lock says that no other one works in it.
    let work = cache.join(format!("building-{name}-{version}"));
    files::remove_folder(&work)?;
    let built = work.join("built");
    files::create_folder(&built)?;
    let command = match method {
        Method::Go { module, package, variables } => {
            go_build(&work, module, package, variables, &built.join(name))?
        }
        Method::Maven { pom } => maven_copy(&work, pom, &built)?,
    };
    let log = cache.join(format!("build-{name}-{version}.log"));
    say(&format!(
        "building {label}, once on this machine; with nothing cached it takes about {}. Log: {}",
        minutes(usual),
        log.display()
    ));
    let start = Instant::now();
    run(command, &label, &log)?;
    fs::rename(&built, &folder).map_err(StackError::file("move the build to", &folder))?;
    files::remove_folder(&work)?;
    say(&format!("built {label} in {}", minutes(start.elapsed())));
    Ok(())
}

/// Locks out other processes that would build the same; the lock ends with the file's handle.
fn lock(path: &Path, label: &str) -> Result<fs::File, StackError> {
    let file = fs::File::create(path).map_err(StackError::file("create", path))?;
    if file.try_lock().is_err() {
        say(&format!("waiting for another process that builds {label}"));
        file.lock().map_err(StackError::file("lock", path))?;
    }
    Ok(file)
}

fn go_build(
    work: &Path,
    module: Module,
    package: &str,
    variables: &[(&str, &str)],
    program: &Path,
) -> Result<Command, StackError> {
    let program_file = module.program.map(|program| ("main.go", program));
    for (name, text) in
        [("go.mod", module.requirements), ("go.sum", module.checksums)].into_iter().chain(program_file)
    {
        let path = work.join(name);
        fs::write(&path, text).map_err(StackError::file("write", &path))?;
    }
    let mut linker = "-s -w".to_owned();
    for (variable, value) in variables {
        linker.push_str(&format!(" -X {variable}={value}"));
    }
    let mut command = Command::new("go");
    command
        .current_dir(work)
        .env("CGO_ENABLED", "0")
        // The caller's flags and workspace are for the caller's own code.
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags"])
        .arg(linker)
        .arg("-o")
        .arg(program)
        .arg(package);
    Ok(command)
}

fn maven_copy(work: &Path, pom: &str, jars: &Path) -> Result<Command, StackError> {
    let path = work.join("pom.xml");
    fs::write(&path, pom).map_err(StackError::file("write", &path))?;
    let mut command = Command::new("mvn");
    command
        .current_dir(work)
        .args(["--batch-mode", "dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", jars.display()));
    Ok(command)
}

fn run(mut command: Command, label: &str, log: &Path) -> Result<(), StackError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = fs::File::create(log).map_err(StackError::file("create", log))?;
    let errors = output.try_clone().map_err(StackError::file("write to", log))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|source| StackError::CannotRun { program: program.clone(), source })?;
    let status =
        wait_and_tell(&mut child, label).map_err(|source| StackError::CannotRun { program, source })?;
    if status.success() {
        return Ok(());
    }
    Err(StackError::BuildFailed {
        artifact: label.to_owned(),
        reason: crate::error::outcome(status),
        log: log.to_owned(),
        log_end: files::end_of_log(log, 0),
    })
}

#[allow(clippy::disallowed_methods, reason = "builds run in a thread for blocking work")]
fn wait_and_tell(child: &mut Child, label: &str) -> std::io::Result<ExitStatus> {
    const TELL_EVERY: Duration = Duration::from_secs(20);
    let start = Instant::now();
    let mut told = start;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            say(&format!("still building {label}: {}", minutes(start.elapsed())));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn minutes(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn the_sources_require_the_versions_that_the_table_names() {
        for artifact in Artifact::value_variants() {
            let Recipe { name, version, method, .. } = recipe(*artifact);
            match method {
                Method::Go { module, .. } if module.checksums.is_empty() => {
                    assert!(!module.requirements.contains("require"), "{name} requires what is not checked");
                }
                Method::Go { module, package, .. } => {
                    let tool = module
                        .requirements
                        .lines()
                        .any(|line| line.trim().trim_start_matches("tool ") == package);
                    assert!(tool || module.program.is_some(), "{package} is no tool of its go.mod");
                    // MinIO's module version is v0.0.0-<time of the commit>-<commit>.
                    let pinned = version.replace('-', "");
                    let required = module.requirements.lines().any(|line| {
                        let mut words = line.trim().trim_start_matches("require ").split(' ');
                        words.next().is_some_and(|required| match module.program {
                            None => package.starts_with(required),
                            Some(program) => program.contains(&format!("\"{required}")),
                        }) && words.next().is_some_and(|required| {
                            required == format!("v{version}")
                                || required.starts_with(&format!("v0.0.0-{pinned}"))
                        })
                    });
                    assert!(required, "{name} {version} is not what its go.mod requires");
                }
                Method::Maven { pom } => {
                    assert_eq!(pom.matches(&format!("<version>{version}</version>")).count(), 3);
                }
            }
        }
    }

    #[test]
    fn a_failed_build_shows_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo compiling; echo 'no such package' >&2; exit 3"]);
        let message = run(command, "thing 1.0", &log).unwrap_err().to_string();
        assert!(message.contains("thing 1.0"), "{message}");
        assert!(message.contains("exit status: 3"), "{message}");
        assert!(message.contains("compiling\nno such package"), "{message}");
        let missing = run(Command::new("no-such-program"), "thing 1.0", &log).unwrap_err();
        assert!(missing.to_string().contains("scripts/setup.sh"), "{missing}");
    }
}
