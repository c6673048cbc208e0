//! Where a delivery is stored in a bucket of the user's.

use jiff::tz::TimeZone;

use crate::delivery::Delivery;

/// The key of the object: `{prefix}{namespace}/{subscription}/{yyyy}/{mm}/{dd}/{id}.json`, by the day of the delivery in
/// UTC. A further attempt writes the same object again.
pub fn object_key(prefix: &str, delivery: &Delivery) -> String {
    let data = &delivery.data;
    let day = delivery.timestamp.to_zoned(TimeZone::UTC).strftime("%Y/%m/%d").to_string();
    format!("{prefix}{}/{}/{day}/{}.json", data.subscription.namespace, data.subscription.name, data.id)
}
