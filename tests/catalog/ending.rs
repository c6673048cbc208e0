//! The last of a run's documents ends it, once, whichever that is.

use std::sync::Arc;

use store::catalog::RunPhase;
use tokio::sync::Barrier;

use crate::place::{Place, fetched, minute, see_through};

/// How many documents finish at once.
const DOCUMENTS: usize = 6;
const ROUNDS: i64 = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn documents_that_finish_at_the_same_moment_end_their_run_once() {
    let place = Place::new().await;
    let subscription = place.subscription("many").await;
    // Each time that a run has ended, or ends otherwise than it did.
    place
        .execute(
            "create table endings (run_id uuid not null, reason text, unseen bigint not null);
             create function note_ending() returns trigger language plpgsql as $$ begin
                 insert into endings values (new.id, new.reason,
                     (select count(*) from documents where run_id = new.id and finished_at is null));
                 return new; end $$;
             create trigger note_ending after update of finished_at, phase, reason on runs for each row
                 when (new.finished_at is not null) execute function note_ending();",
        )
        .await;
    let urls: Vec<String> = (0..DOCUMENTS).map(|number| format!("https://example.org/{number}")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let processes = [place.catalog.clone(), place.other_process().await];
    for round in 1..=ROUNDS {
        let run = place.begun_run(&subscription, minute(round), &urls).await;
        let barrier = Arc::new(Barrier::new(DOCUMENTS));
        // Of each three rounds one finds what is new, one what is as it was, and one a document that fails.
        let (digit, fails) = (if round % 3 == 2 { 'a' } else { 'b' }, round % 3 == 0);
        let mut tasks = Vec::new();
        for (number, url) in urls.iter().enumerate() {
            let (barrier, catalog) = (barrier.clone(), processes[number % 2].clone());
            let url = (*url).to_owned();
            tasks.push(tokio::spawn(async move {
                barrier.wait().await;
                if fails && number == 0 {
                    catalog
                        .fail_document(run, &url, "Timeout", "it took too long", minute(round))
                        .await
                        .unwrap();
                } else {
                    // Half of them are as they were.
                    let digit = if number % 2 == 0 { digit } else { 'c' };
                    see_through(&catalog, run, &url, &fetched(digit), minute(round)).await;
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let ended = place.ended(run).await;
        let phase = if fails { RunPhase::Failed } else { RunPhase::Succeeded };
        assert_eq!(ended.phase, phase, "round {round}: {ended:?}");
    }
    assert_eq!(place.number("select count(distinct run_id) from endings").await, ROUNDS);
    assert_eq!(place.number("select count(*) from endings").await, ROUNDS, "each once");
    assert_eq!(place.number("select count(*) from endings where unseen > 0").await, 0, "none too early");
}
