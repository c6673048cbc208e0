//! News of how sources answer and of how targets take what is sent: who writes them are the workers, in the catalog, and
//! there they are looked for.

use std::{collections::HashMap, hash::Hash, time::Duration};

use crds::Source;
use events::error_chain;
use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use store::catalog::{Catalog, CatalogError, SourceNews, TargetNews};
use tokio::time::sleep;
use tracing::debug;

use super::objects::Guarded;

/// How often it is looked for news.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The sources of which there is news from now on.
pub(super) fn of_sources(catalog: Catalog) -> impl Stream<Item = ObjectRef<Guarded<Source>>> {
    looked_for(catalog, |catalog, last_read| async move { catalog.source_news(last_read).await })
        .map(|news| ObjectRef::new(&news.name).within(&news.namespace))
}

/// The catalog's ids of subscriptions, of whose targets there is news from now on.
pub(super) fn of_targets(catalog: Catalog) -> impl Stream<Item = i64> {
    looked_for(catalog, |catalog, last_read| async move { catalog.target_news(last_read).await })
        .map(|news| news.subscription_id)
}

/// What was written about something.
trait News {
    type Id: Eq + Hash;

    /// What it is about.
    fn id(&self) -> Self::Id;

    /// When it was written, by the catalog's clock.
    fn written_at(&self) -> Timestamp;
}

impl News for SourceNews {
    type Id = i64;

    fn id(&self) -> i64 {
        self.id
    }

    fn written_at(&self) -> Timestamp {
        self.written_at
    }
}

impl News for TargetNews {
    type Id = (i64, String);

    fn id(&self) -> (i64, String) {
        (self.subscription_id, self.name.clone())
    }

    fn written_at(&self) -> Timestamp {
        self.written_at
    }
}

/// Looks again and again, for what was written since it was read last.
fn looked_for<N, F>(catalog: Catalog, look: impl Fn(Catalog, Option<Timestamp>) -> F) -> impl Stream<Item = N>
where
    N: News,
    F: Future<Output = Result<(Timestamp, Vec<N>), CatalogError>>,
{
    stream::unfold((catalog, look, Told::default()), |(catalog, look, mut told)| async move {
        sleep(LOOK_EVERY).await;
        let news = match look(catalog.clone(), told.last_read).await {
            Ok((read_at, news)) => told.untold(read_at, news),
            Err(error) => {
                // The relay says so louder.
                debug!(error = error_chain(&error), "news could not be looked for; trying again");
                Vec::new()
            }
        };
        Some((stream::iter(news), (catalog, look, told)))
    })
    .flatten()
}

/// What was told already: the catalog has news of the last moments again each time.
struct Told<Id> {
    /// When the catalog was last read, by its clock.
    last_read: Option<Timestamp>,
    /// When the news of something were written that were told last.
    written_at: HashMap<Id, Timestamp>,
}

impl<Id> Default for Told<Id> {
    fn default() -> Self {
        Self { last_read: None, written_at: HashMap::new() }
    }
}

impl<Id: Eq + Hash> Told<Id> {
    /// What is new of it.
    fn untold<N: News<Id = Id>>(&mut self, read_at: Timestamp, mut news: Vec<N>) -> Vec<N> {
        let before = std::mem::take(&mut self.written_at);
        self.written_at = news.iter().map(|news| (news.id(), news.written_at())).collect();
        self.last_read = Some(read_at);
        news.retain(|news| before.get(&news.id()) != Some(&news.written_at()));
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_news_are_told_once_and_later_ones_again() {
        let at = |second| Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(second);
        let mut told = Told::default();
        let mut tell = |read_at, news: &[(i64, i64)]| {
            let news = news.iter().map(|(id, second)| SourceNews {
                id: *id,
                namespace: "courts".to_owned(),
                name: id.to_string(),
                written_at: at(*second),
            });
            let untold = told.untold(at(read_at), news.collect());
            assert_eq!(told.last_read, Some(at(read_at)));
            untold.into_iter().map(|news| news.id).collect::<Vec<_>>()
        };
        assert_eq!(tell(10, &[(1, 8), (2, 9)]), [1, 2]);
        assert_eq!(tell(15, &[(1, 8), (2, 9)]), [0_i64; 0]);
        // One whose transaction ended after theirs, and one that has more to tell.
        assert_eq!(tell(20, &[(3, 7), (1, 8), (2, 18)]), [3, 2]);
        assert_eq!(tell(60, &[]), [0_i64; 0]);
        assert_eq!(tell(65, &[(1, 64)]), [1]);
    }
}
