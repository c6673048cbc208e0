//! What goes wrong, and when: chosen by the seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use sqlx::{Connection, PgConnection};
use stack::Part;
use tests::{Installation, Proxy, Random, Traffic};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{Fleet, Plan, Receiver, fleet::Harm};

const RECEIVER: &str = "receiver";
const PARTS: [Part; 4] = [Part::Kafka, Part::Postgres, Part::Minio, Part::KubeApiserver];
/// A piece of up to 16 KiB is held up so long by a slow object store.
const HELD_UP: Duration = Duration::from_millis(300);
/// So often in a hundred times the next fault does not wait for the one before.
const TOGETHER: usize = 90;
/// Some connections are the superuser's; this is more than there are.
const CONNECTIONS: usize = 250;

/// So much earlier than subscriptions are due, or later, their leader is killed.
const EARLIEST: Duration = Duration::from_secs(2);
const LATEST: Duration = Duration::from_secs(1);

/// Something that goes wrong for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it strikes.
    pub target: String,
    /// What happens to it.
    pub kind: Kind,
    /// How long.
    pub time: Duration,
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL; started again after the time. The receivers' connections end, and none are made.
    Killed,
    /// SIGTERM; started again after the time.
    Restarted,
    /// SIGSTOP for the time. The receivers take what comes and do not answer.
    Paused,
    /// All connections of the database are ended by the server.
    Disconnected,
    /// No connection to the database is left.
    Exhausted,
    /// The object store answers 503.
    Refused,
    /// The object store is slow.
    Slow,
    /// The receivers refuse.
    Down,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Restarted => "ended and started again",
            Self::Paused => "stopped for a while",
            Self::Disconnected => "all connections ended",
            Self::Exhausted => "connections exhausted",
            Self::Refused => "answers 503",
            Self::Slow => "slow",
            Self::Down => "refuses",
        }
    }
}

/// What faults strike.
pub struct Victims {
    /// The installation and its parts.
    pub tipstaff: Arc<Installation>,
    /// Its processes.
    pub fleet: Fleet,
    /// The way to the object store.
    pub proxy: Proxy,
    /// The receivers of webhooks.
    pub receiver: Receiver,
}

/// How often what happened.
pub type Counts = BTreeMap<String, usize>;

/// Strikes until `until`, and returns when everything is as it was.
pub async fn strike(victims: &Arc<Victims>, plan: &Plan, until: Instant) -> Counts {
    let (mut counts, leaders) =
        tokio::join!(strike_at_random(victims, plan, until), strike_leaders(victims, plan, until));
    counts.insert("operator: killed as subscriptions were due".to_owned(), leaders);
    counts
}

/// Kills whoever leads about when subscriptions are due: before their runs are made, meanwhile or after. Returns how often.
async fn strike_leaders(victims: &Victims, plan: &Plan, until: Instant) -> usize {
    let mut random = Random::new(plan.seed, 2);
    let mut count = 0;
    loop {
        let now = Timestamp::now().as_duration();
        let next = SignedDuration::from_mins(now.as_mins() + 1) - now;
        let due = Instant::now() + next.try_into().unwrap_or_default();
        let at = due - EARLIEST + (EARLIEST + LATEST).mul_f64(random.share());
        let time = random.time(Duration::from_secs(1), plan.longest_fault);
        if at.max(due) >= until {
            return count;
        }
        sleep_until(at).await;
        let asking = sqlx::query_scalar("select holder from leadership").fetch_one(&victims.tipstaff.pool);
        // A catalog that is away makes no runs either.
        if let Ok(Ok(leader)) = timeout(LATEST, asking).await {
            let leader: String = leader;
            eprintln!("chaos: {leader}, which leads: killed as subscriptions are due, {time:.1?}");
            victims.fleet.harm(&leader, Harm::Kill(time)).await;
            count += 1;
        }
        // Not twice at the same minute.
        sleep_until(due + LATEST).await;
    }
}

async fn strike_at_random(victims: &Arc<Victims>, plan: &Plan, until: Instant) -> Counts {
    let began = Instant::now();
    let mut random = Random::new(plan.seed, 0);
    let mut counts = Counts::new();
    let busy = Arc::new(Mutex::new(BTreeSet::new()));
    let mut active = JoinSet::new();
    while Instant::now() < until {
        let fault = choose(&mut random, plan, &victims.fleet);
        let gap = Duration::from_millis(100 + 100 * random.below(10) as u64);
        let is_alone = !random.percent(TOGETHER);
        if busy.lock().unwrap_or_else(PoisonError::into_inner).insert(fault.target.clone()) {
            let at = began.elapsed().as_secs_f64();
            eprintln!("chaos: {at:5.1} s: {}: {}, {:.1?}", fault.target, fault.kind.name(), fault.time);
            *counts.entry(format!("{}: {}", class(&fault.target), fault.kind.name())).or_default() += 1;
            let (victims, busy) = (victims.clone(), busy.clone());
            active.spawn(async move {
                inflict(&victims, &fault).await;
                let at = began.elapsed().as_secs_f64();
                eprintln!("chaos: {at:5.1} s: {} is back", fault.target);
                busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&fault.target);
            });
        }
        while active.len() >= if is_alone { 1 } else { plan.faults_at_once } {
            active.join_next().await.transpose().unwrap();
        }
        sleep(gap).await;
    }
    while let Some(ended) = active.join_next().await {
        ended.unwrap();
    }
    counts
}

/// What is struck, whichever of its kind it is.
fn class(target: &str) -> &str {
    target.trim_end_matches(|last: char| last == '-' || last.is_ascii_digit())
}

fn choose(random: &mut Random, plan: &Plan, fleet: &Fleet) -> Fault {
    let second = Duration::from_secs(1);
    let time = random.time(second, plan.longest_fault);
    let part = PARTS[random.below(PARTS.len())];
    let names: Vec<&str> = fleet.names().collect();
    // Two are operators, the others workers: half of the faults of processes are the operators'.
    let process = if random.percent(40) { random.below(2) } else { random.below(names.len()) };
    let fault = |target: &str, kind| Fault { target: target.to_owned(), kind, time };
    let postgres = Part::Postgres.name();
    let minio = Part::Minio.name();
    match random.below(100) {
        0..20 => fault(names[process], Kind::Killed),
        20..28 => fault(names[process], Kind::Restarted),
        28..50 => fault(names[process], Kind::Paused),
        50..62 => fault(part.name(), Kind::Killed),
        62..76 => fault(part.name(), Kind::Paused),
        76..82 => fault(postgres, Kind::Disconnected),
        82..86 => fault(postgres, Kind::Exhausted),
        86..91 => fault(minio, Kind::Refused),
        91..95 => fault(minio, Kind::Slow),
        95..97 => fault(RECEIVER, Kind::Down),
        97..99 => fault(RECEIVER, Kind::Killed),
        _ => fault(RECEIVER, Kind::Paused),
    }
}

async fn inflict(victims: &Victims, fault: &Fault) {
    let part = PARTS.into_iter().find(|part| part.name() == fault.target);
    match (fault.kind, part) {
        (Kind::Killed, Some(part)) => {
            let service = victims.tipstaff.stack.service(part).unwrap();
            service.kill().await.unwrap();
            sleep(fault.time).await;
            service.start().await.unwrap();
        }
        (Kind::Paused, Some(part)) => {
            let service = victims.tipstaff.stack.service(part).unwrap();
            service.pause().await;
            sleep(fault.time).await;
            service.resume().await;
        }
        (Kind::Killed, None) if fault.target == RECEIVER => victims.receiver.kill(fault.time).await,
        (Kind::Paused, None) if fault.target == RECEIVER => {
            victims.receiver.set_paused(true);
            sleep(fault.time).await;
            victims.receiver.set_paused(false);
        }
        (Kind::Killed, None) => victims.fleet.harm(&fault.target, Harm::Kill(fault.time)).await,
        (Kind::Restarted, _) => victims.fleet.harm(&fault.target, Harm::Restart(fault.time)).await,
        (Kind::Paused, None) => victims.fleet.harm(&fault.target, Harm::Pause(fault.time)).await,
        (Kind::Disconnected, _) => disconnect(victims.tipstaff.database_url()).await,
        (Kind::Exhausted, _) => exhaust(victims.tipstaff.database_url(), fault.time).await,
        (Kind::Refused, _) => traffic(&victims.proxy, Traffic::Refused, fault.time).await,
        (Kind::Slow, _) => traffic(&victims.proxy, Traffic::Slow(HELD_UP), fault.time).await,
        (Kind::Down, _) => {
            victims.receiver.set_down(true);
            sleep(fault.time).await;
            victims.receiver.set_down(false);
        }
    }
}

async fn traffic(proxy: &Proxy, traffic: Traffic, time: Duration) {
    proxy.set(traffic);
    sleep(time).await;
    proxy.set(Traffic::Flows);
}

/// A server that cannot be asked has no connections to end.
async fn disconnect(url: &str) {
    if let Ok(mut connection) = PgConnection::connect(url).await {
        let _ = sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .execute(&mut connection)
        .await;
        let _ = connection.close().await;
    }
}

/// Takes all connections, those of the superuser too, and keeps them for a time.
async fn exhaust(url: &str, time: Duration) {
    let mut taken = Vec::new();
    while let Ok(connection) = PgConnection::connect(url).await {
        taken.push(connection);
        if taken.len() == CONNECTIONS {
            break;
        }
    }
    sleep(time).await;
}
