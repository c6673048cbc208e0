//! The script: it changes the site, asks for runs, and waits until they have looked before it changes the same again.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sqlx::PgPool;
use tests::Random;
use tokio::time::{Instant, sleep};

use crate::{Ledger, Objects, Plan, SeenRuns, Site, World, documents::Documents};

const LOOK_EVERY: Duration = Duration::from_millis(300);

/// The script and how far it is.
pub struct Script {
    world: Arc<World>,
    site: Arc<Site>,
    objects: Objects,
    pool: PgPool,
    at_once: usize,
    order: Random,
    acts: Vec<Act>,
    /// What must be found.
    pub ledger: Ledger,
    /// What became of the runs.
    pub seen: SeenRuns,
    /// The longest time between a change and the end of a run that succeeded, and whose it was.
    pub longest_outage: (Duration, String),
    /// How many times the site was changed or made to fail, and looked at.
    pub steps: usize,
}

/// What is played on one source.
struct Act {
    random: Random,
    documents: Documents,
    steps: usize,
    waiting: Vec<Waiting>,
}

/// A subscription that is to look at what was changed.
struct Waiting {
    subscription: usize,
    /// Since when the site is as it is, in microseconds.
    since: i64,
    began: Instant,
    token: String,
    /// When the token was first sent, and whether the API server took it.
    asked_at: Option<i64>,
    is_taken: bool,
}

impl Script {
    /// Prepares the site.
    pub fn new(plan: &Plan, world: &Arc<World>, site: &Arc<Site>, objects: &Objects, pool: &PgPool) -> Self {
        let acts = world.sources.iter().enumerate().map(|(number, source)| Act {
            random: Random::new(plan.seed, 1_000 + number as u64),
            documents: Documents::new(source, site),
            steps: 0,
            waiting: Vec::new(),
        });
        Self {
            acts: acts.collect(),
            world: world.clone(),
            site: site.clone(),
            objects: objects.clone(),
            pool: pool.clone(),
            at_once: plan.at_once,
            order: Random::new(plan.seed, 1),
            ledger: Ledger::default(),
            seen: SeenRuns::default(),
            longest_outage: (Duration::ZERO, String::new()),
            steps: 0,
        }
    }

    /// Plays until `until`, and then waits for what it has begun, until `give_up` at the latest. Returns what was not
    /// looked at by then.
    pub async fn play(&mut self, until: Instant, give_up: Instant) -> Vec<String> {
        loop {
            // The catalog is away at times: then nothing was seen.
            if self.seen.look(&self.pool).await.is_ok() {
                self.settle();
            }
            let now = Instant::now();
            // Each source is looked at once at least, however slow the machine is: some are due without being asked.
            let some_are_new = self.acts.iter().any(|act| act.steps == 0);
            if now < until || (some_are_new && now < give_up) {
                self.begin_steps();
            } else if self.waiting() == 0 || now >= give_up {
                break;
            }
            self.ask().await;
            sleep(LOOK_EVERY).await;
        }
        let waiting = self.acts.iter().flat_map(|act| &act.waiting);
        waiting.map(|waiting| self.world.subscriptions[waiting.subscription].name.clone()).collect()
    }

    fn waiting(&self) -> usize {
        self.acts.iter().filter(|act| !act.waiting.is_empty()).count()
    }

    /// Where nothing is waited for, the next thing happens: first on sources on which the least has happened.
    fn begin_steps(&mut self) {
        for _ in self.waiting()..self.at_once {
            let idle = |act: &&Act| act.waiting.is_empty();
            let Some(least) = self.acts.iter().filter(idle).map(|act| act.steps).min() else { return };
            let numbers: Vec<usize> = (0..self.acts.len())
                .filter(|number| self.acts[*number].waiting.is_empty() && self.acts[*number].steps == least)
                .collect();
            let chosen = self.order.below(numbers.len());
            self.begin_step(numbers[chosen]);
        }
    }

    fn begin_step(&mut self, number: usize) {
        let (source, act) = (&self.world.sources[number], &mut self.acts[number]);
        let changes = act.documents.step(&self.site, &mut act.random);
        for subscription in &source.subscriptions {
            let name = &self.world.subscriptions[*subscription].name;
            for change in &changes {
                let url = self.world.url(source, &change.path);
                self.ledger.add(name, &url, change.kind, change.edition);
            }
            act.waiting.push(Waiting {
                subscription: *subscription,
                since: Timestamp::now().as_microsecond(),
                began: Instant::now(),
                token: format!("{}", act.steps),
                asked_at: None,
                is_taken: false,
            });
        }
        act.steps += 1;
        self.steps += 1;
    }

    /// Takes note of the runs that have ended. Where one failed, another is asked for.
    fn settle(&mut self) {
        for act in &mut self.acts {
            act.waiting.retain_mut(|waiting| {
                let name = &self.world.subscriptions[waiting.subscription].name;
                let Some(asked_at) = waiting.asked_at else { return true };
                let asked_for =
                    |run: &&crate::seen::SeenRun| run.trigger == "Request" && run.finished_at.is_some();
                if !self.seen.since(name, asked_at).any(|run| asked_for(&run)) {
                    return true;
                }
                if self.seen.since(name, waiting.since).any(|run| run.phase == "Succeeded") {
                    let time = waiting.began.elapsed();
                    if time > self.longest_outage.0 {
                        self.longest_outage = (time, name.clone());
                    }
                    return false;
                }
                waiting.token.push_str("-again");
                (waiting.asked_at, waiting.is_taken) = (None, false);
                true
            });
        }
    }

    async fn ask(&mut self) {
        let mut wanted = Vec::new();
        for waiting in
            self.acts.iter_mut().flat_map(|act| &mut act.waiting).filter(|waiting| !waiting.is_taken)
        {
            let name = &self.world.subscriptions[waiting.subscription].name;
            if waiting.asked_at.is_none() {
                waiting.asked_at = Some(Timestamp::now().as_microsecond());
                self.ledger.request(name);
            }
            wanted.push((name.clone(), waiting.token.clone()));
        }
        let taken = self.objects.request_all(&wanted).await;
        let waiting =
            self.acts.iter_mut().flat_map(|act| &mut act.waiting).filter(|waiting| !waiting.is_taken);
        for (waiting, is_taken) in waiting.zip(taken) {
            waiting.is_taken = is_taken;
        }
    }
}
