//! Statements that answer many callers at once: what one document costs the database is mostly the statement's own cost.
//!
//! Whoever asks while a statement is under way waits for the next one, which has the questions of all who came meanwhile.
//! A question that comes alone is asked alone, at once; only those that come right after another wait for company.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{PgPool, Row, postgres::PgRow};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use super::CatalogError;

/// The most questions that a statement has. More would make those who came first wait longer than a statement of their own
/// takes.
const MOST: usize = 64;
/// With so many, a statement waits for no more company: most of what it costs is theirs by then.
const ENOUGH: usize = 16;
/// Of how many who may ask at the same time one is company enough: were it all of them, nobody would be left to do the rest.
const ONE_OF: usize = 4;
/// The [pace](Statement::PACE) of statements that tell what a document needs on its way, of which there are several.
pub(super) const LOOKING_UP: Duration = Duration::from_millis(20);
/// The [pace](Statement::PACE) of statements that store. Of 400 documents a second, which keep two processors busy with all
/// phases, [enough](ENOUGH) come within it.
pub(super) const STORING: Duration = Duration::from_millis(40);
/// The most bytes that the questions of a statement bring with them, unless one alone brings more.
const MOST_BYTES: usize = 4 << 20;
/// How many may wait; further callers wait to be let in.
const WAITING: usize = 1_024;
/// A statement that takes longer is not waited for by those who come after it.
const LONG: Duration = Duration::from_millis(50);
/// The most statements of a kind at a time.
const AT_A_TIME: usize = 3;

/// How much company a statement waits for. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Company(Arc<AtomicUsize>);

impl Default for Company {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(ENOUGH)))
    }
}

impl Company {
    /// So many may ask at the same time.
    pub(super) fn asked_by(&self, at_a_time: usize) {
        self.0.store(at_a_time.div_ceil(ONE_OF).clamp(1, ENOUGH), Ordering::Relaxed);
    }

    fn enough(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is asked of the database for many at once.
#[async_trait]
pub(super) trait Statement: Send + Sync + 'static {
    type Question: Send + Sync + 'static;
    type Answer: Send + 'static;

    /// How long after the beginning of a statement the next one begins at the earliest, unless there are [enough](Company)
    /// questions: what comes as fast as this waits for company, so that a busy database answers more with each.
    const PACE: Duration = Duration::ZERO;

    /// How many bytes a question brings with it, where that can be many: those of a statement are in memory together.
    fn size(_question: &Self::Question) -> usize {
        0
    }

    /// What no two questions of a statement may be about, where it writes.
    fn subject(_question: &Self::Question) -> Option<String> {
        None
    }

    /// The answers, in the order of the questions. When it fails, nothing was done for any of them.
    async fn ask(pool: &PgPool, questions: &[Self::Question]) -> Result<Vec<Self::Answer>, CatalogError>;
}

/// Where questions go to be asked together. Clones share it.
#[derive(Debug)]
pub(super) struct Batches<S: Statement> {
    asked: mpsc::Sender<Asked<S>>,
}

impl<S: Statement> Clone for Batches<S> {
    fn clone(&self) -> Self {
        Self { asked: self.asked.clone() }
    }
}

struct Asked<S: Statement> {
    question: S::Question,
    answer: oneshot::Sender<Result<S::Answer, CatalogError>>,
}

impl<S: Statement> Batches<S> {
    pub(super) fn new(pool: &PgPool, company: &Company) -> Self {
        let (asked, waiting) = mpsc::channel(WAITING);
        tokio::spawn(answer_all::<S>(pool.clone(), company.clone(), waiting));
        Self { asked }
    }

    /// # Errors
    /// When the statement fails for this question, or the catalog for all.
    pub(super) async fn ask(&self, question: S::Question) -> Result<S::Answer, CatalogError> {
        let (answer, answered) = oneshot::channel();
        // Both fail only when the runtime, and with it the other side, ends.
        self.asked.send(Asked { question, answer }).await.map_err(|_| CatalogError::Ended)?;
        answered.await.map_err(|_| CatalogError::Ended)?
    }
}

async fn answer_all<S: Statement>(pool: PgPool, company: Company, mut waiting: mpsc::Receiver<Asked<S>>) {
    let mut under_way = JoinSet::new();
    let mut left: Vec<Asked<S>> = Vec::new();
    let mut next_at = Instant::now();
    loop {
        if left.is_empty() && waiting.recv_many(&mut left, MOST).await == 0 {
            return;
        }
        while left.len() < company.enough()
            && Instant::now() < next_at
            && let Ok(1..) = timeout_at(next_at, waiting.recv_many(&mut left, MOST)).await
        {}
        next_at = Instant::now() + S::PACE;
        // All who wait are looked at: many with the same subject do not stand in the way of others.
        while let Ok(asked) = waiting.try_recv() {
            left.push(asked);
        }
        // Who does not wait any more wants nothing done.
        left.retain(|asked| !asked.answer.is_closed());
        let (mut count, mut bytes, mut subjects) = (0, 0, HashSet::new());
        let mut is_next = |asked: &Asked<S>| {
            let size = S::size(&asked.question);
            let is_next = count < MOST
                && (count == 0 || bytes + size <= MOST_BYTES)
                && S::subject(&asked.question).is_none_or(|subject| subjects.insert(subject));
            if is_next {
                count += 1;
                bytes += size;
            }
            is_next
        };
        let (next, again) = std::mem::take(&mut left).into_iter().partition(|asked| is_next(asked));
        left = again;
        under_way.spawn(answer(pool.clone(), next));
        // One that waits for somebody's lock does not hold up those that come after it.
        let _ = timeout(LONG, under_way.join_next()).await;
        while under_way.len() >= AT_A_TIME {
            under_way.join_next().await;
        }
    }
}

async fn answer<S: Statement>(pool: PgPool, asked: Vec<Asked<S>>) {
    let (questions, answers): (Vec<_>, Vec<_>) =
        asked.into_iter().map(|asked| (asked.question, asked.answer)).unzip();
    if questions.is_empty() {
        return;
    }
    match S::ask(&pool, &questions).await {
        // Who has stopped waiting does not care.
        Ok(found) => answers.into_iter().zip(found).for_each(|(answer, found)| drop(answer.send(Ok(found)))),
        Err(error) if questions.len() > 1 && error.is_of_a_question() => {
            // One of them cannot be answered, and spoils it for the others.
            for (question, answer) in questions.iter().zip(answers) {
                let found = S::ask(&pool, std::slice::from_ref(question)).await;
                drop(
                    answer.send(found.and_then(|found| found.into_iter().next().ok_or(CatalogError::Ended))),
                );
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            answers
                .into_iter()
                .for_each(|answer| drop(answer.send(Err(CatalogError::Together(error.clone())))));
        }
    }
}

/// Which question a row answers, by its column `question`, counted from 0; SQL counts from 1.
pub(super) fn question_of(row: &PgRow) -> Result<usize, sqlx::Error> {
    let number: i64 = row.try_get("question")?;
    usize::try_from(number - 1).map_err(|error| sqlx::Error::Decode(error.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use futures::future::join_all;
    use sqlx::postgres::PgPoolOptions;

    /// How many questions each statement had, by the test that asked them.
    static STATEMENTS: Mutex<Vec<(&str, usize)>> = Mutex::new(Vec::new());

    fn statements(test: &str) -> Vec<usize> {
        let all = STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|(asked_by, _)| *asked_by == test).map(|(_, count)| *count).collect()
    }

    struct Asking;

    #[async_trait]
    impl Statement for Asking {
        type Question = &'static str;
        type Answer = ();

        const PACE: Duration = Duration::from_secs(3600);

        async fn ask(_: &PgPool, questions: &[&'static str]) -> Result<Vec<()>, CatalogError> {
            let asked = (questions[0], questions.len());
            STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
            Ok(vec![(); questions.len()])
        }
    }

    /// Asks alone, then so many together, and says how long these waited, in seconds.
    async fn waited(test: &'static str, at_a_time: usize, count: usize) -> f64 {
        let pool = PgPoolOptions::new().connect_lazy("postgres://nobody@localhost/nothing").unwrap();
        let company = Company::default();
        company.asked_by(at_a_time);
        let batches = Batches::<Asking>::new(&pool, &company);
        batches.ask(test).await.unwrap();
        let since = Instant::now();
        join_all((0..count).map(|_| batches.ask(test))).await;
        since.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn a_quarter_of_those_who_may_ask_waits_for_no_more_company() {
        assert!(waited("eight", 32, 8).await < 1.0);
        assert_eq!(statements("eight"), [1, 8]);
        assert!(waited("seven", 32, 7).await > 3000.0);
        assert_eq!(statements("seven"), [1, 7]);
        assert!(waited("sixteen", 1_000, 16).await < 1.0);
        assert!(waited("one", 1, 1).await < 1.0);
    }
}
