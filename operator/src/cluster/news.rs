//! News of how sources answer: who writes them are the workers, in the catalog, and there they are looked for.

use std::{collections::HashMap, time::Duration};

use crds::Source;
use events::error_chain;
use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use store::catalog::SourceNews;
use tokio::time::sleep;
use tracing::debug;

use super::objects::Guarded;
use crate::EngineHandle;

/// How often it is looked for news.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The sources of which there is news from now on.
pub(super) fn of_sources(engine: EngineHandle) -> impl Stream<Item = ObjectRef<Guarded<Source>>> {
    stream::unfold((engine, Told::default()), |(engine, mut told)| async move {
        sleep(LOOK_EVERY).await;
        let news = match engine.catalog.source_news(told.last_read).await {
            Ok((read_at, news)) => told.untold(read_at, news),
            Err(error) => {
                // The relay says so louder.
                debug!(error = error_chain(&error), "news of sources could not be looked for; trying again");
                Vec::new()
            }
        };
        let sources = news.into_iter().map(|news| ObjectRef::new(&news.name).within(&news.namespace));
        Some((stream::iter(sources), (engine, told)))
    })
    .flatten()
}

/// What was told already: the catalog has news of the last moments again each time.
#[derive(Default)]
struct Told {
    /// When the catalog was last read, by its clock.
    last_read: Option<Timestamp>,
    /// By the source's id, when the news were written that were told last.
    written_at: HashMap<i64, Timestamp>,
}

impl Told {
    /// What is new of it.
    fn untold(&mut self, read_at: Timestamp, mut news: Vec<SourceNews>) -> Vec<SourceNews> {
        let before = std::mem::take(&mut self.written_at);
        self.written_at = news.iter().map(|news| (news.id, news.written_at)).collect();
        self.last_read = Some(read_at);
        news.retain(|news| before.get(&news.id) != Some(&news.written_at));
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
