//! A day of very many subscriptions, simulated: the beat's plan and the politeness of hosts are the real ones, the time
//! that a transaction takes is given, and a fetch takes none.

mod day;
mod fleet;

use std::time::Instant;

use events::BoxError;
use jiff::SignedDuration;

use self::{
    day::{Day, Pace},
    fleet::Fleet,
};
use crate::{
    report::{Measure, Report, Unit},
    system::memory,
};

/// Hosts by the share of the day that the requests due to them take, up to this one.
const LOADS: [(f64, &str); 4] = [
    (0.1, "hosts asked up to 10 % of the time"),
    (0.5, "hosts asked 10 % to 50 % of the time"),
    (1.0, "hosts asked 50 % to 100 % of the time"),
    (f64::INFINITY, "hosts of which more is due than they may be asked"),
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Subscriptions, each with a document of its own
    #[arg(long, default_value_t = 1_000_000)]
    subscriptions: usize,
    /// Hosts, of which the n-th largest has one n-th as many subscriptions as the largest
    #[arg(long, default_value_t = 100_000)]
    hosts: usize,
    /// Hours to simulate
    #[arg(long, default_value_t = 24)]
    hours: i64,
    /// Runs that the beat commits in a second: `bench operator` measures it
    #[arg(long, default_value_t = 7_700.0)]
    runs_per_second: f64,
    /// Milliseconds between two requests to a host
    #[arg(long, default_value_t = 1_000)]
    interval_milliseconds: i64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Report, BoxError> {
    let title = format!(
        "bench scale: {} subscriptions on {} hosts for {} hours, simulated",
        arguments.subscriptions, arguments.hosts, arguments.hours
    );
    let mut report = Report::new(title);
    let started = Instant::now();
    let before = memory("self")?.resident;
    let fleet = Fleet::new(arguments.subscriptions, arguments.hosts)?;
    report.add(Measure::new("memory of the plan", Unit::Megabytes, memory("self")?.resident - before));
    report.add(Measure::new("to put all into it", Unit::Seconds, started.elapsed().as_secs_f64()));
    let largest = fleet.subscriptions_of_the_largest_host();
    report.add(Measure::new("subscriptions of the largest host", Unit::Count, largest as f64));

    let pace = Pace {
        length: SignedDuration::from_hours(arguments.hours),
        runs_per_second: arguments.runs_per_second,
        interval: SignedDuration::from_millis(arguments.interval_milliseconds),
    };
    let started = Instant::now();
    let day = Day::of(fleet, &pace)?;
    let took = started.elapsed().as_secs_f64();
    add_beat(&mut report, &day);
    add_politeness(&mut report, day, &pace);
    report.add(Measure::new("to simulate it", Unit::Seconds, took));
    report.add(Measure::new("memory, the most ever", Unit::Megabytes, memory("self")?.peak));
    Ok(report)
}

fn add_beat(report: &mut Report, day: &Day) {
    let count = |name: &str, value: u64| Measure::new(name, Unit::Count, value as f64);
    report.add(count("due times", day.due_times));
    report.add(count("due times in the fullest minute", day.fullest_minute));
    let lateness = Lateness::of(day.beat_lateness.clone());
    report.add(Measure::new("the beat's lateness p50", Unit::Seconds, lateness.at(0.5)));
    report.add(Measure::new("  p99", Unit::Seconds, lateness.at(0.99)));
    report.add(Measure::new("  the most", Unit::Seconds, lateness.at(1.0)));
    report.add(count("skipped, mostly since the run before still waited for its host", day.skipped));
}

fn add_politeness(report: &mut Report, day: Day, pace: &Pace) {
    let shortest = day.shortest_gap.map_or(f64::NAN, |gap| gap.as_secs_f64());
    report.add(Measure::new("shortest time between two requests to a host", Unit::Seconds, shortest));
    let mut classes: [(u64, Vec<f32>); LOADS.len()] = Default::default();
    for host in day.hosts {
        let load = host.due as f64 * pace.interval.as_secs_f64() / pace.length.as_secs_f64();
        let class = LOADS.iter().position(|(most, _)| load <= *most).unwrap_or(LOADS.len() - 1);
        if let (Some((hosts, lateness)), true) = (classes.get_mut(class), host.due > 0) {
            *hosts += 1;
            lateness.extend(host.lateness);
        }
    }
    for ((_, name), (hosts, lateness)) in LOADS.iter().zip(classes) {
        report.add(Measure::new(*name, Unit::Count, hosts as f64));
        report.add(Measure::new("  requests", Unit::Count, lateness.len() as f64));
        let lateness = Lateness::of(lateness);
        report.add(Measure::new("  lateness by politeness p50", Unit::Seconds, lateness.at(0.5)));
        report.add(Measure::new("  p99", Unit::Seconds, lateness.at(0.99)));
        report.add(Measure::new("  the most", Unit::Seconds, lateness.at(1.0)));
    }
}

/// Seconds, sorted once: they are very many.
struct Lateness(Vec<f32>);

impl Lateness {
    fn of(mut seconds: Vec<f32>) -> Self {
        seconds.sort_unstable_by(f32::total_cmp);
        Self(seconds)
    }

    /// Nearest rank; 0 of none.
    fn at(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().map_or(0.0, f64::from)
    }
}
