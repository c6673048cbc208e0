//! Politeness: when a host may be asked, for all workers together.
//!
//! A host has the time of its last request, which no worker comes closer to than the interval, and the end of the slots
//! that were promised to requests which have to wait. So requests that come together are spread, and one that is late
//! for its slot goes as soon as the host has rested, without a slot being lost.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use sqlx::Row;

use super::{Catalog, CatalogError, failed, sql_time};

/// A request for a slot.
#[derive(Clone, Copy, Debug)]
pub struct SlotRequest<'a> {
    /// The host, with its port where that is not the scheme's own.
    pub host: &'a str,
    /// The shortest time between two requests.
    pub interval: SignedDuration,
    /// How far off a slot may be to be taken at once: the caller waits for it.
    pub patience: SignedDuration,
    /// Whether a slot was promised, and has come.
    pub is_promised: bool,
}

/// Slots of a host that are to be kept.
#[derive(Clone, Copy, Debug)]
pub struct KeptSlots<'a> {
    /// The host, with its port where that is not the scheme's own.
    pub host: &'a str,
    /// How many.
    pub count: usize,
    /// The time between two of them.
    pub interval: SignedDuration,
}

/// When a host may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// At this time, which is now or at most the patience off. The slot is taken.
    Granted(Timestamp),
    /// Not before this time, which is kept for the caller.
    Promised(Timestamp),
}

impl Catalog {
    /// Takes a host's next slot, or promises one.
    ///
    /// # Errors
    /// When the catalog fails; then none is taken.
    pub async fn claim_slot(&self, request: &SlotRequest<'_>, now: Timestamp) -> Result<Slot, CatalogError> {
        loop {
            let row = sqlx::query(
                // The host's row is locked before anything is computed from it. A slot that a crash of the server takes away
                // costs a host one request that comes too early, which is not worth waiting for its disk each time.
                "with hurried as materialized (
                     select set_config('synchronous_commit', 'off', true)),
                 host as materialized (
                     select h.* from hosts h, hurried where h.host = $1 for update of h),
                 free as materialized (
                     select host, next_slot_at, greatest($2, last_request_at + $3, blocked_until) as at from host),
                 slot as materialized (
                     select host, next_slot_at, at,
                         at <= $2 + $4 and ($5 or next_slot_at is null or next_slot_at <= at) as is_granted,
                         greatest(at, next_slot_at) as promised_at
                     from free)
                 update hosts h set
                     last_request_at = case when s.is_granted then s.at else h.last_request_at end,
                     next_slot_at = case when s.is_granted then greatest(s.next_slot_at, s.at + $3)
                                         else s.promised_at + $3 end
                 from slot s where h.host = s.host
                 returning s.is_granted, case when s.is_granted then s.at else s.promised_at end as at",
            )
            .bind(request.host)
            .bind(sql_time(now))
            .bind(sql_interval(request.interval))
            .bind(sql_interval(request.patience))
            .bind(request.is_promised)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("claim a slot of a host"))?;
            let Some(row) = row else {
                self.add_host(request.host).await?;
                continue;
            };
            let at = row.get::<jiff_sqlx::Timestamp, _>("at").to_jiff();
            return Ok(if row.get("is_granted") { Slot::Granted(at) } else { Slot::Promised(at) });
        }
    }

    /// Keeps slots of hosts for requests that follow each other at the interval: for each host as many as are asked for.
    /// Returns the first of each.
    ///
    /// # Errors
    /// When the catalog fails; then none is kept.
    pub async fn keep_slots(
        &self,
        wanted: &[KeptSlots<'_>],
        now: Timestamp,
    ) -> Result<HashMap<String, Timestamp>, CatalogError> {
        let hosts: Vec<&str> = wanted.iter().map(|slots| slots.host).collect();
        sqlx::query("insert into hosts (host) select unnest($1::text[]) on conflict do nothing")
            .bind(&hosts)
            .execute(&self.pool)
            .await
            .map_err(failed("add hosts"))?;
        let rows = sqlx::query(
            // In one order for all who do this, so that no two wait for each other.
            "with host as materialized (
                 select host, last_request_at, next_slot_at, blocked_until from hosts
                 where host = any($2::text[]) order by host for update),
             kept as materialized (
                 select h.host, greatest($1, h.last_request_at + w.interval, h.blocked_until, h.next_slot_at) as first,
                     w.interval * w.count as length
                 from host h
                 join unnest($2::text[], $3::integer[], $4::interval[]) as w (host, count, interval) on w.host = h.host)
             update hosts h set next_slot_at = k.first + k.length from kept k where h.host = k.host
             returning h.host, k.first",
        )
        .bind(sql_time(now))
        .bind(&hosts)
        .bind(wanted.iter().map(|slots| i32::try_from(slots.count).unwrap_or(i32::MAX)).collect::<Vec<_>>())
        .bind(wanted.iter().map(|slots| sql_interval(slots.interval)).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await
        .map_err(failed("keep slots of hosts"))?;
        rows.iter()
            .map(|row| Ok((row.try_get("host")?, row.try_get::<jiff_sqlx::Timestamp, _>("first")?.to_jiff())))
            .collect::<Result<_, _>>()
            .map_err(failed("read slots of hosts"))
    }

    /// Leaves a host in peace until a time, as it asked for.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn block_host(&self, host: &str, until: Timestamp) -> Result<(), CatalogError> {
        sqlx::query(
            "insert into hosts (host, blocked_until) values ($1, $2)
             on conflict (host) do update set blocked_until = greatest(hosts.blocked_until, excluded.blocked_until)",
        )
        .bind(host)
        .bind(sql_time(until))
        .execute(&self.pool)
        .await
        .map_err(failed("note that a host wants peace"))?;
        Ok(())
    }

    async fn add_host(&self, host: &str) -> Result<(), CatalogError> {
        sqlx::query("insert into hosts (host) values ($1) on conflict do nothing")
            .bind(host)
            .execute(&self.pool)
            .await
            .map_err(failed("add a host"))?;
        Ok(())
    }
}

fn sql_interval(duration: SignedDuration) -> sqlx::postgres::types::PgInterval {
    // Intervals of the specification are days at most.
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    sqlx::postgres::types::PgInterval { months: 0, days: 0, microseconds }
}
