//! Slack: a message to an incoming webhook, whose URL is a credential.

use changes::{Delivery, Outcome, slack_message};
use events::run_reasons;
use http::HeaderMap;
use jiff::Timestamp;
use store::catalog::SecretKey;
use url::Url;

use super::{Answer, SendError, Sender, excerpt::Hidden, http::Post, secret_name};

/// What Slack says of a message that it took.
const TAKEN: &str = "ok";

impl Sender {
    /// Sends to a channel.
    pub(super) async fn send_slack(
        &self,
        url_secret: &SecretKey,
        namespace: &str,
        delivery: &Delivery,
        now: Timestamp,
    ) -> Result<Answer, SendError> {
        let url = self.secret(namespace, url_secret).await?;
        // What the parser says does not repeat what it was given.
        let url: Url = url.trim().parse().map_err(|source| SendError::SlackUrl {
            secret: secret_name(namespace, url_secret),
            key: url_secret.key.clone(),
            source,
        })?;
        let json = serde_json::to_vec(&slack_message(delivery))?;
        let hidden = Hidden::all_of(&url);
        let answer = self.post(Post { url: &url, headers: HeaderMap::new(), json, hidden }, now).await?;
        let was_taken = answer.body == TAKEN;
        let answer = Answer::from(answer);
        if answer.outcome == Outcome::Delivered && !was_taken {
            // A proxy's page, or an endpoint that is not Slack's.
            let outcome = Outcome::Retry { not_before: None };
            return Ok(Answer { outcome, reason: run_reasons::UNEXPECTED_ANSWER, ..answer });
        }
        Ok(answer)
    }
}
