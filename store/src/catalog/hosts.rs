//! Politeness: when a host may be asked, for all workers together.
//!
//! A host has the time of its last request, which no worker comes closer to than the interval, and the end of the slots
//! that were promised to requests which have to wait. So requests that come together are spread, and one that is late
//! for its slot goes as soon as the host has rested, without a slot being lost.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use sqlx::{PgPool, Row};

use super::{Catalog, CatalogError, batches::Statement, failed, sql_time, sql_times};

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
        let claim = Claim {
            host: request.host.to_owned(),
            interval: request.interval,
            patience: request.patience,
            is_promised: request.is_promised,
            now,
        };
        self.slots.ask(claim).await
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
        add_hosts(&self.pool, &hosts).await?;
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
}

/// [`SlotRequest`], and when it is made.
pub(super) struct Claim {
    host: String,
    interval: SignedDuration,
    patience: SignedDuration,
    is_promised: bool,
    now: Timestamp,
}

/// Takes or promises the next slot of each of some hosts.
#[derive(Debug)]
pub(super) struct ClaimedSlots;

#[async_trait]
impl Statement for ClaimedSlots {
    type Question = Claim;
    type Answer = Slot;

    // Shorter than that of others: a slot begins when it was asked for, and the next request may come too early by what this
    // one waits here.
    const PACE: Duration = Duration::from_millis(10);

    fn subject(claim: &Claim) -> Option<String> {
        Some(claim.host.clone())
    }

    async fn ask(pool: &PgPool, claims: &[Claim]) -> Result<Vec<Slot>, CatalogError> {
        let mut slots = claim(pool, &claims.iter().collect::<Vec<_>>()).await?;
        let unknown: Vec<&Claim> = claims.iter().filter(|claim| !slots.contains_key(&claim.host)).collect();
        if !unknown.is_empty() {
            let hosts: Vec<&str> = unknown.iter().map(|claim| claim.host.as_str()).collect();
            add_hosts(pool, &hosts).await?;
            slots.extend(claim(pool, &unknown).await?);
        }
        Ok(claims.iter().filter_map(|claim| slots.get(&claim.host).copied()).collect())
    }
}

/// The slots of those hosts that have a row.
async fn claim(pool: &PgPool, claims: &[&Claim]) -> Result<HashMap<String, Slot>, CatalogError> {
    let rows = sqlx::query(
        // The hosts' rows are locked before anything is computed from them, in one order for all who do this. A slot that
        // a crash of the server takes away costs a host one request that comes too early, which is not worth waiting for
        // its disk each time.
        "with hurried as materialized (
             select set_config('synchronous_commit', 'off', true)),
         host as materialized (
             select h.* from hosts h, hurried where h.host = any($1::text[]) order by h.host for update of h),
         free as materialized (
             select h.host, h.next_slot_at, c.now, c.interval, c.patience, c.is_promised,
                 greatest(c.now, h.last_request_at + c.interval, h.blocked_until) as at
             from host h
             join unnest($1::text[], $2::timestamptz[], $3::interval[], $4::interval[], $5::boolean[])
                 as c (host, now, interval, patience, is_promised) on c.host = h.host),
         slot as materialized (
             select host, next_slot_at, at, interval,
                 at <= now + patience and (is_promised or next_slot_at is null or next_slot_at <= at) as is_granted,
                 greatest(at, next_slot_at) as promised_at
             from free)
         update hosts h set
             last_request_at = case when s.is_granted then s.at else h.last_request_at end,
             next_slot_at = case when s.is_granted then greatest(s.next_slot_at, s.at + s.interval)
                                 else s.promised_at + s.interval end
         from slot s where h.host = s.host
         returning h.host, s.is_granted, case when s.is_granted then s.at else s.promised_at end as at",
    )
    .bind(claims.iter().map(|claim| claim.host.as_str()).collect::<Vec<_>>())
    .bind(sql_times(claims.iter().map(|claim| claim.now)))
    .bind(claims.iter().map(|claim| sql_interval(claim.interval)).collect::<Vec<_>>())
    .bind(claims.iter().map(|claim| sql_interval(claim.patience)).collect::<Vec<_>>())
    .bind(claims.iter().map(|claim| claim.is_promised).collect::<Vec<_>>())
    .fetch_all(pool)
    .await
    .map_err(failed("claim slots of hosts"))?;
    rows.iter()
        .map(|row| {
            let at = row.try_get::<jiff_sqlx::Timestamp, _>("at")?.to_jiff();
            let slot = if row.try_get("is_granted")? { Slot::Granted(at) } else { Slot::Promised(at) };
            Ok((row.try_get("host")?, slot))
        })
        .collect::<Result<_, _>>()
        .map_err(failed("read slots of hosts"))
}

async fn add_hosts(pool: &PgPool, hosts: &[&str]) -> Result<(), CatalogError> {
    // In one order: whoever adds the same ones at the same time waits for one after the other.
    let add = "insert into hosts (host) select host from unnest($1::text[]) host order by host on conflict do nothing";
    sqlx::query(add).bind(hosts).execute(pool).await.map_err(failed("add hosts"))?;
    Ok(())
}

fn sql_interval(duration: SignedDuration) -> sqlx::postgres::types::PgInterval {
    // Intervals of the specification are days at most.
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    sqlx::postgres::types::PgInterval { months: 0, days: 0, microseconds }
}
