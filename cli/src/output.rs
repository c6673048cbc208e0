//! What happens, told on standard output: one line an event for people, or one JSON object an event for programs.

pub(crate) mod columns;
mod notice;
mod table;
mod text;

use std::io::{self, Write};
use std::sync::Arc;

use events::Clock;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

pub(crate) use text::short_hash;

pub use notice::{
    Delivery, Document, Notice, ObjectName, ObjectVerdict, RunRow, RunStart, RunWait, Skips, Started,
    SubscriptionName, Summary, Version,
};

/// How events are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// Readable lines with the local time of day.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Standard output takes no more.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct OutputError(#[source] io::Error);

/// Tells events in the order in which it is given them.
#[derive(Clone, Debug)]
pub struct Printer {
    format: OutputFormat,
    clock: Arc<dyn Clock>,
    time_zone: TimeZone,
}

/// An event with its time, as JSON has it.
#[derive(Serialize)]
struct Timed<'a> {
    time: Timestamp,
    #[serde(flatten)]
    notice: &'a Notice,
}

impl Printer {
    /// Tells in a format, with the times of `clock` in the machine's time zone.
    pub fn new(format: OutputFormat, clock: Arc<dyn Clock>) -> Self {
        Self { format, clock, time_zone: TimeZone::system() }
    }

    /// Tells an event, and returns when it is written.
    ///
    /// # Errors
    /// When standard output is closed, as by the end of a program that reads it.
    pub async fn print(&self, notice: &Notice) -> Result<(), OutputError> {
        let mut line = self.render(notice);
        line.push('\n');
        // A terminal that stands still must not stop the runtime.
        let written = tokio::task::spawn_blocking(move || {
            let mut output = io::stdout().lock();
            output.write_all(line.as_bytes()).and_then(|()| output.flush())
        });
        written.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(OutputError)
    }

    fn render(&self, notice: &Notice) -> String {
        let time = self.clock.now();
        match self.format {
            OutputFormat::Text => text::render(notice, &time.to_zoned(self.time_zone.clone())),
            // Notices are plain data; writing them as JSON cannot fail.
            OutputFormat::Json => serde_json::to_string(&Timed { time, notice }).unwrap_or_default(),
        }
    }
}
