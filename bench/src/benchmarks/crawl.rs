//! The crawl role on real parts, all started for this and durable as in production.
//!
//! One run, in this order: documents are fetched that nobody has seen, and again when they are as they were, by the crawl
//! role alone, by a bare client (the floor) and through all phases, some times over; large ones, many at a time; and, with
//! the operator, one that is due while nothing else is.

mod due;
mod floor;
mod work;

use std::time::{Duration, Instant};

use events::BoxError;
use stack::Part;
use tests::{Installation, Process};

use crate::{
    parts::{self, CpuTimes},
    report::{Measure, Report, Unit},
    site::Site,
    statements::Statements,
    statistics::{growth_exponent, median, percentile},
    system::{has_ended, memory},
};
use floor::Floor;
use work::{Until, Work};

const PARTS: [Part; 5] = [Part::Etcd, Part::KubeApiserver, Part::Kafka, Part::Postgres, Part::Minio];
/// The floor's writers: more only wait for each other.
const FLOOR_WRITERS: usize = 8;
/// How many times fewer documents than all, to see how the cost grows.
const FEWER: [usize; 3] = [16, 4, 1];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Documents
    #[arg(long, default_value_t = 4_000)]
    documents: usize,
    /// How large each is, in bytes
    #[arg(long, default_value_t = 20_000)]
    bytes: usize,
    /// Hosts that they are spread over
    #[arg(long, default_value_t = 200)]
    hosts: usize,
    /// How often they are fetched, each time with other bytes and then again with the same
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Fetches at a time, by default as many as the worker's
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// Large documents, of which 64 are fetched at a time
    #[arg(long, default_value_t = 128)]
    large: usize,
    /// How large each of these is, in bytes
    #[arg(long, default_value_t = 8_000_000)]
    large_bytes: usize,
    /// Subscriptions that are due at times of their own while nothing else is; with 0 that is not measured
    #[arg(long, default_value_t = 40)]
    due: usize,
    /// Also show which SQL statements took most time; costs a little of it
    #[arg(long)]
    statements: bool,
}

/// One pass over all documents.
struct Pass {
    seconds: f64,
    /// CPU time of the worker for one document, in milliseconds.
    cpu_milliseconds: f64,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<Report, BoxError> {
    let count = arguments.documents;
    let mut report = Report::new(format!(
        "bench crawl: {count} documents of {} bytes from {} hosts, {} at a time",
        arguments.bytes, arguments.hosts, arguments.concurrency
    ));
    let tipstaff = Installation::on(parts::start(&PARTS, arguments.statements).await?, "bench").await;
    let statements = Statements::new(&tipstaff.pool, arguments.statements).await?;
    let site = Site::start(arguments.bytes).await?;
    progress("making sources and subscriptions");
    let work = Work::new(&tipstaff, &site.urls(arguments.hosts, count)).await?;
    let floor = Floor::new(&tipstaff).await?;

    let environment = [
        ("RUST_LOG", "info"),
        ("TIPSTAFF_ROLES", "crawl"),
        ("TIPSTAFF_CONCURRENCY", &arguments.concurrency.to_string()),
        ("TIPSTAFF_ALLOW_CIDRS", "127.0.0.0/8"),
        ("KAFKA_PARTITIONS", "6"),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let with_roles = |roles: &str| {
        let role = |(name, value)| (name, if name == "TIPSTAFF_ROLES" { roles.to_owned() } else { value });
        environment.clone().map(role)
    };
    let (comparing, all_phases) = (with_roles("parse,version"), with_roles("crawl,parse,version,deliver"));
    // The first pass and that of the first repeat pay for empty tables and the broker's compiler.
    let worker = tipstaff.worker(&environment);
    progress("warming up");
    site.change();
    work.fetch(&worker, 0..count, Until::Stored).await?;
    compare(&tipstaff, &work, &comparing).await?;
    worker.terminate().await;

    let (mut new, mut compared, mut same) = (Vec::new(), Vec::new(), Vec::new());
    let (mut new_floor, mut check_floor) = (Vec::new(), Vec::new());
    let (mut whole_new, mut whole_same) = (Vec::new(), Vec::new());
    let (mut fetched_growth, mut whole_growth) = (Vec::new(), Vec::new());
    for repeat in 1..=arguments.repeats {
        let of = format!("{repeat} of {}", arguments.repeats);
        let mut observed =
            Observed { statements: &statements, report: &mut report, is_last: repeat == arguments.repeats };
        let worker = tipstaff.worker(&environment);
        // One that was started just now has no connections and no caches.
        progress(&format!("warming up, {of}"));
        site.change();
        work.fetch(&worker, 0..count, Until::Stored).await?;
        compare(&tipstaff, &work, &comparing).await?;
        progress(&format!("new documents, {of}"));
        site.change();
        new.push(observed.pass(&tipstaff, &work, &worker, Until::Stored, "new documents").await?);
        progress(&format!("parsing and comparing them, {of}"));
        compared.push(compare(&tipstaff, &work, &comparing).await?);
        progress(&format!("the same again, {of}"));
        same.push(observed.pass(&tipstaff, &work, &worker, Until::Stored, "unchanged documents").await?);
        progress(&format!("floor, {of}"));
        site.change();
        let cpu = CpuTimes::now(&tipstaff, "worker", &worker).await;
        let started = Instant::now();
        floor.fetch(work.urls(), FLOOR_WRITERS).await?;
        new_floor.push(started.elapsed().as_secs_f64());
        if observed.is_last {
            let used = CpuTimes::now(&tipstaff, "worker", &worker).await.since(&cpu);
            observed.report.note(format!("CPU of the last floor of new documents: {used}"));
        }
        let started = Instant::now();
        floor.check(work.urls(), &site.etag(), FLOOR_WRITERS).await?;
        check_floor.push(started.elapsed().as_secs_f64());
        fetched_growth.push(growth(arguments, &work, &worker, &site, Until::Stored).await?);
        compare(&tipstaff, &work, &comparing).await?;
        worker.terminate().await;

        let worker = tipstaff.worker(&all_phases);
        progress(&format!("warming up all phases, {of}"));
        site.change();
        work.fetch(&worker, 0..count, Until::Ended).await?;
        work.planned(&worker).await?;
        progress(&format!("all phases, {of}"));
        site.change();
        let name = "changed documents through all phases";
        whole_new.push(observed.pass(&tipstaff, &work, &worker, Until::Ended, name).await?);
        work.planned(&worker).await?;
        let name = "unchanged documents through all phases";
        whole_same.push(observed.pass(&tipstaff, &work, &worker, Until::Ended, name).await?);
        whole_growth.push(growth(arguments, &work, &worker, &site, Until::Ended).await?);
        worker.terminate().await;
    }

    progress("large documents");
    let peak = large(arguments, &tipstaff, &site, &work).await?;
    let mut lateness = Vec::new();
    if arguments.due > 0 {
        progress("due while nothing else is");
        lateness = due::measure(&tipstaff, &site, arguments.due).await?;
    }

    let seconds = |passes: &[Pass]| passes.iter().map(|pass| pass.seconds).collect::<Vec<_>>();
    let ratios = |passes: &[Pass], floors: &[f64]| {
        passes.iter().zip(floors).map(|(pass, floor)| pass.seconds / floor).collect::<Vec<_>>()
    };
    let floor_seconds = median(&new_floor);
    report.add(
        Measure::repeated(format!("{count} new documents"), Unit::Seconds, seconds(&new))
            .over_floor(floor_seconds),
    );
    report.add(
        Measure::repeated(
            "the same, over the floor of the same repeat",
            Unit::Factor,
            ratios(&new, &new_floor),
        )
        .at_most(1.25),
    );
    let grows = format!("exponent by which that grows from {} documents on", count / FEWER[0]);
    report.add(Measure::repeated(&grows, Unit::Factor, fetched_growth).at_most(1.05));
    report.add(Measure::repeated(
        format!("parsing and comparing {count} changed documents"),
        Unit::Seconds,
        seconds(&compared),
    ));
    report.add(
        Measure::repeated(format!("{count} unchanged documents"), Unit::Seconds, seconds(&same))
            .over_floor(floor_seconds),
    );
    report.add(
        Measure::repeated("the same, over the floor of new ones", Unit::Factor, ratios(&same, &new_floor))
            .at_most(0.25),
    );
    report.add(Measure::repeated(
        "the same, over the floor of checks: a request and a row",
        Unit::Factor,
        ratios(&same, &check_floor),
    ));
    for (name, whole, alone) in [("changed", &whole_new, &new), ("unchanged", &whole_same, &same)] {
        let each_second = |pass: &Pass| count as f64 / pass.seconds;
        report.add(Measure::repeated(
            format!("{name} documents through all phases"),
            Unit::EachSecond,
            whole.iter().map(each_second).collect(),
        ));
        report.add(
            Measure::repeated(
                "the same, over those of the crawl role alone in the same repeat",
                Unit::Factor,
                alone.iter().zip(whole).map(|(alone, whole)| alone.seconds / whole.seconds).collect(),
            )
            .at_least(0.5),
        );
        if name == "changed" {
            report.add(Measure::repeated(&grows, Unit::Factor, whole_growth.clone()).at_most(1.05));
        }
    }
    let cpu = |passes: &[Pass]| passes.iter().map(|pass| pass.cpu_milliseconds).collect::<Vec<_>>();
    report.add(Measure::repeated("CPU of the worker, a new document", Unit::Milliseconds, cpu(&new)));
    report.add(Measure::repeated(
        "CPU of the worker, parsing and comparing one",
        Unit::Milliseconds,
        cpu(&compared),
    ));
    report.add(
        Measure::repeated("CPU of the worker, an unchanged document", Unit::Milliseconds, cpu(&same))
            .at_most(0.5),
    );
    report.add(
        Measure::new(
            format!("peak memory, 64 documents of {} bytes at a time", arguments.large_bytes),
            Unit::Megabytes,
            peak,
        )
        .at_most(150.0),
    );
    if arguments.due > 0 {
        report.add(
            Measure::new(
                "from due to the artifact, idle, median",
                Unit::Milliseconds,
                median(&lateness) * 1000.0,
            )
            .at_most(40.0),
        );
        report.add(Measure::new(
            "the same, 99 of 100",
            Unit::Milliseconds,
            percentile(&lateness, 0.99) * 1000.0,
        ));
    }
    Ok(report)
}

/// Passes over all documents; of the last ones the report says what they cost, and where.
struct Observed<'a> {
    statements: &'a Statements,
    report: &'a mut Report,
    is_last: bool,
}

impl Observed<'_> {
    async fn pass(
        &mut self,
        tipstaff: &Installation,
        work: &Work,
        worker: &Process,
        until: Until,
        name: &str,
    ) -> Result<Pass, BoxError> {
        let due = work.due(0..work.urls().len()).await?;
        self.statements.reset().await?;
        let cpu = CpuTimes::now(tipstaff, "worker", worker).await;
        let pass = work.fetch_due(worker, &due, until).await?;
        if self.is_last {
            let used = CpuTimes::now(tipstaff, "worker", worker).await.since(&cpu);
            self.report.note(format!("CPU of the last {name}: {used}"));
            self.statements.note(&format!("last {name}"), self.report).await?;
        }
        Ok(pass)
    }
}

/// The most memory, in megabytes, that a worker takes while it fetches many large documents at a time.
async fn large(
    arguments: &Arguments,
    tipstaff: &Installation,
    site: &Site,
    work: &Work,
) -> Result<f64, BoxError> {
    site.set_bytes(arguments.large_bytes);
    site.change();
    let environment = [
        ("RUST_LOG", "info"),
        ("TIPSTAFF_ROLES", "crawl"),
        ("TIPSTAFF_CONCURRENCY", "64"),
        ("TIPSTAFF_ALLOW_CIDRS", "127.0.0.0/8"),
        ("KAFKA_PARTITIONS", "6"),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let worker = tipstaff.worker(&environment);
    work.fetch(&worker, 0..arguments.large.min(arguments.documents), Until::Stored).await?;
    let peak = memory(&worker.id().to_string())?.peak;
    worker.terminate().await;
    work.give_up().await?;
    site.set_bytes(arguments.bytes);
    Ok(peak)
}

/// The exponent by which it takes longer when there are more documents, each with new bytes.
async fn growth(
    arguments: &Arguments,
    work: &Work,
    worker: &Process,
    site: &Site,
    until: Until,
) -> Result<f64, BoxError> {
    let mut points = Vec::new();
    for some in FEWER.map(|fewer| arguments.documents / fewer) {
        progress(&format!("{some} of the documents, new ones"));
        site.change();
        points.push((some as f64, work.fetch(worker, 0..some, until).await?.seconds));
        if matches!(until, Until::Ended) {
            work.planned(worker).await?;
        }
    }
    Ok(growth_exponent(&points))
}

/// Has what was fetched parsed and compared by a worker of its own, so that the fetching is measured alone.
async fn compare(
    tipstaff: &Installation,
    work: &Work,
    environment: &[(&'static str, String)],
) -> Result<Pass, BoxError> {
    let worker = tipstaff.worker(environment);
    let pass = work.compared(&worker).await?;
    worker.terminate().await;
    Ok(pass)
}

/// Says on standard error how far it is: a run takes a while.
fn progress(text: &str) {
    use std::io::Write;
    // Progress that cannot be told is no reason to stop.
    let _ =
        writeln!(std::io::stderr(), "{} bench crawl: {text}", jiff::Timestamp::now().strftime("%H:%M:%S"));
}

/// Fails when the worker has ended, or what is waited for takes too long.
fn patience(worker: &Process, since: Instant) -> Result<(), BoxError> {
    if has_ended(worker.id()) {
        return Err(format!("the worker ended early; its log:\n{}", worker.log()).into());
    }
    if since.elapsed() > PATIENCE {
        return Err(format!("the worker has not done its work in {PATIENCE:?}").into());
    }
    Ok(())
}

/// As long as anything here may take.
const PATIENCE: Duration = Duration::from_secs(600);
