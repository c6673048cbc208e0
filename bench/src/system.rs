//! What the machine says of itself and of processes (Linux: `/proc`).

use std::{fs, path::Path, process::Command};

use events::BoxError;

/// The unit of CPU times in `/proc`: the kernel's USER_HZ, the same on every architecture that Tipstaff runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// How much memory a process has, in megabytes (10^6 bytes).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// In use now.
    pub(crate) resident: f64,
    /// The most that was ever in use.
    pub(crate) peak: f64,
}

/// The memory of a process; `self` is this one.
pub(crate) fn memory(process: &str) -> Result<Memory, BoxError> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let megabytes = |field: &str| -> Result<f64, BoxError> {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).ok_or(format!("no {field}"))?;
        let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes * 1024.0 / 1e6)
    };
    Ok(Memory { resident: megabytes("VmRSS:")?, peak: megabytes("VmHWM:")? })
}

/// The CPU time, in seconds, that the calling thread has used, to the microsecond or better.
pub(crate) fn cpu_seconds_of_thread() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Whether a child of this process has ended; its status was not asked for.
pub(crate) fn has_ended(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_none_or(|state| state.trim_start().starts_with(['Z', 'X']))
}

/// The CPU time, in seconds, that a process has used.
pub(crate) fn cpu_seconds_of(process: u32) -> f64 {
    cpu_of(Path::new(&format!("/proc/{process}"))).map_or(0.0, |(_, _, seconds)| seconds)
}

/// The CPU time, in seconds, that a process and its living children have used.
pub(crate) fn cpu_seconds(process: u32) -> f64 {
    let mut total = 0.0;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some((id, parent, seconds)) = cpu_of(&entry.path())
            && (id == process || parent == process)
        {
            total += seconds;
        }
    }
    total
}

/// The CPU time, in seconds, that all processes have used since the machine started.
pub(crate) fn cpu_seconds_of_all() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_ascii_whitespace().skip(1);
    let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    // user, nice, system; then idle and waiting for disks; then interrupts.
    let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|index| ticks.get(*index)).sum();
    busy / TICKS_PER_SECOND
}

/// The id, the parent's id, and the CPU time in seconds.
fn cpu_of(folder: &Path) -> Option<(u32, u32, f64)> {
    let id = folder.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    let sum = ticks(11)? + ticks(12)?;
    Some((id, fields.get(1)?.parse().ok()?, sum / TICKS_PER_SECOND))
}

/// One line on where and of what figures were measured: date, commit, CPUs, build.
pub(crate) fn describe() -> String {
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d");
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let gibibytes = kibibytes
        .and_then(|text| text.trim().trim_end_matches("kB").trim().parse::<f64>().ok())
        .map_or(0.0, |kibibytes| kibibytes / 1024.0 / 1024.0);
    format!("{date}, commit {}, {build} build, {cpus} CPUs, {gibibytes:.0} GiB", commit())
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).output().ok().filter(|output| output.status.success());
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let is_changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|list| !list.is_empty());
    if is_changed { format!("{commit} with changes") } else { commit }
}
