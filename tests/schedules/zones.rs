//! Time zones and moments, with a liking for those at which clocks change.

use std::{fmt, sync::LazyLock};

use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{Offset, TimeZone, TimeZoneDatabase},
};
use proptest::prelude::*;

/// Zones of every kind: without changes, with changes at each hour of the day, by half an hour and by a whole day.
const NAMES: [&str; 43] = [
    "UTC",
    "Etc/GMT+5",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Tokyo",
    "Africa/Lagos",
    "America/Phoenix",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Dublin",
    "Europe/Lisbon",
    "Europe/Moscow",
    "Europe/Istanbul",
    "Europe/Chisinau",
    "Europe/Volgograd",
    "Atlantic/Azores",
    "America/New_York",
    "America/Los_Angeles",
    "America/St_Johns",
    "America/Havana",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/Asuncion",
    "America/Caracas",
    "America/Nuuk",
    "America/Scoresbysund",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Windhoek",
    "Antarctica/Troll",
    "Antarctica/Casey",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Jerusalem",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Easter",
    "Pacific/Kwajalein",
];

static ZONES: LazyLock<Vec<Zone>> = LazyLock::new(|| NAMES.into_iter().map(Zone::named).collect());

/// A time zone and its changes from 1990 to 2060.
pub(crate) struct Zone {
    pub(crate) name: &'static str,
    pub(crate) time_zone: TimeZone,
    pub(crate) changes: Vec<Change>,
}

/// A moment at which a zone's offset changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) at: Timestamp,
    pub(crate) from: Offset,
    pub(crate) to: Offset,
}

impl Change {
    /// How far clocks are set forward, in minutes; less than zero where they are set back.
    pub(crate) fn minutes(&self) -> i32 {
        (self.to.seconds() - self.from.seconds()) / 60
    }

    /// What clocks would show without the change, and what they show with it.
    pub(crate) fn readings(&self) -> (DateTime, DateTime) {
        (self.from.to_datetime(self.at), self.to.to_datetime(self.at))
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.name, formatter)
    }
}

impl Zone {
    fn named(name: &'static str) -> Self {
        let time_zone = TimeZoneDatabase::bundled().get(name).unwrap();
        let start = "1990-01-01T00:00:00Z".parse().unwrap();
        let end: Timestamp = "2060-01-01T00:00:00Z".parse().unwrap();
        let changes = time_zone
            .following(start)
            .take_while(|change| change.timestamp() < end)
            .map(|change| Change {
                at: change.timestamp(),
                from: time_zone.to_offset(change.timestamp() - SignedDuration::from_secs(1)),
                to: change.offset(),
            })
            .filter(|change| change.from != change.to)
            .collect();
        Self { name, time_zone, changes }
    }

    /// The last change that is not after `now`.
    pub(crate) fn change_before(&self, now: Timestamp) -> Option<&Change> {
        self.changes.iter().rfind(|change| change.at <= now)
    }

    /// What clocks show.
    pub(crate) fn shows(&self, now: Timestamp) -> DateTime {
        self.time_zone.to_datetime(now)
    }
}

/// One of the zones.
pub(crate) fn zone(name: &str) -> &'static Zone {
    ZONES.iter().find(|zone| zone.name == name).unwrap()
}

/// A zone, and a moment that is often within days of one of its changes.
pub(crate) fn moments() -> impl Strategy<Value = (&'static Zone, Timestamp)> {
    let any_time = 631_152_000i64..2_840_140_800;
    let days = -3 * 86_400i64..86_400;
    let hours = -3 * 3_600i64..3 * 3_600;
    let around = prop_oneof![days, hours];
    prop::sample::select((0..ZONES.len()).collect::<Vec<_>>()).prop_flat_map(move |index| {
        let zone = &ZONES[index];
        let seconds = if zone.changes.is_empty() {
            any_time.clone().boxed()
        } else {
            prop_oneof![
                1 => any_time.clone(),
                4 => (prop::sample::select(&zone.changes[..]), around.clone())
                    .prop_map(|(change, away)| change.at.as_second() + away),
            ]
            .boxed()
        };
        seconds.prop_map(move |seconds| (zone, Timestamp::from_second(seconds).unwrap()))
    })
}
