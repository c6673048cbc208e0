//! Which versions and runs a subscription does not keep, in SQL. `$1` is the time, `$2` what has settled by then.

/// The live subscriptions that do not keep everything: of each `id`; how many `versions` of a document are kept, those that are
/// younger than `kept_after`, and either that is none keeps none; runs that ended by `runs_until` are not needed for
/// themselves. With an age, that is what it says; without, it is the oldest version of what no list led to.
pub(super) fn keeping() -> String {
    let retention = "settings -> 'retention' ->>";
    format!(
        "select id, scheduled_through, list_read_by, ({retention} 'versions')::integer as versions,
             $1 - ({retention} 'age_ms')::bigint * interval '1 millisecond' as kept_after,
             coalesce($1 - ({retention} 'age_ms')::bigint * interval '1 millisecond', (
                 select max(oldest.created_at) from document_heads h cross join lateral (
                     select v.created_at from versions v where v.subscription_id = h.subscription_id and v.url = h.url
                     order by v.number limit 1) oldest
                 where h.subscription_id = subscriptions.id and not h.is_found)) as runs_until
         from subscriptions where deleted_at is null and settings ? 'retention' and not exists (
             select from runs where subscription_id = subscriptions.id and finished_at is null and trigger = 'Backfill')"
    )
}

/// Whether there are versions or runs that `k` does not keep.
pub(super) fn has_not_kept() -> String {
    format!(
        "(exists (select from (select k.*) k {VERSIONS_NOT_KEPT}) or exists (select from (select k.*) k {RUNS_NOT_KEPT}))"
    )
}

/// Joins the versions `v` that `k` does not keep. Not the newest of a document, and none that a delivery that is not finished,
/// or not even planned, carries or is compared with.
pub(super) const VERSIONS_NOT_KEPT: &str = "
    join document_heads h on h.subscription_id = k.id
    join versions v on v.subscription_id = h.subscription_id and v.url = h.url
        and v.number <= h.number - greatest(k.versions, 1) and v.created_at <= least(k.kept_after, $2)
        and not exists (
            select from versions carried
            where (carried.id = v.id or carried.previous = v.id)
                and (carried.planned_at is null or exists (
                    select from delivery_versions dv join deliveries d on d.id = dv.delivery_id
                    where dv.version_id = carried.id and d.finished_at is null)))";

/// Joins the runs `r` of which `k` needs nothing: by age, or because all their documents are from before the oldest version that
/// is kept of them. What a status shows of runs stays, and so does the latest fetch of each URL, the run that read the
/// source's list first, and whatever a version, a delivery, a document of another run or an event that waits points at.
pub(super) const RUNS_NOT_KEPT: &str = "
    join runs r on r.subscription_id = k.id and r.finished_at <= least(k.runs_until, $2)
        and k.runs_until is not null
        and (r.trigger <> 'Schedule' or r.scheduled_for <= k.scheduled_through)
        and (k.kept_after is not null
            or exists (select from documents d where d.run_id = r.id)
            and not exists (select from documents d where d.run_id = r.id and (d.finished_at < (
                select v.created_at from versions v where v.subscription_id = d.subscription_id and v.url = d.url
                order by v.number limit 1)) is not true))
        and k.list_read_by is distinct from r.id
        and r.id not in (
            (select id from runs where subscription_id = k.id and phase <> 'Skipped'
             order by created_at desc, scheduled_for desc limit 1)
            union all (select id from runs where subscription_id = k.id and phase <> 'Skipped' and trigger = 'Schedule'
             order by scheduled_for desc limit 1)
            union all (select id from runs where subscription_id = k.id and phase = 'Skipped'
             order by scheduled_for desc limit 1)
            union all (select id from runs where subscription_id = k.id and changed order by finished_at desc limit 1))
        and not exists (select from versions v where v.run_id = r.id)
        and not exists (select from deliveries d where d.begun_by = r.id)
        and not exists (select from outbox o where o.run_id = r.id)
        and not exists (select from documents d where d.run_id = r.id and d.artifact_id is not null and not exists (
            select from documents later where later.subscription_id = d.subscription_id and later.url = d.url
                and later.artifact_id > d.artifact_id))
        and not exists (select from artifacts a where a.run_id = r.id and (
            a.fetched_at >= $2
            or not exists (select from artifacts later where later.source_id = a.source_id
                and later.source_url = a.source_url and later.id > a.id)
            or exists (select from documents d where d.artifact_id = a.id and d.run_id <> r.id)
            or exists (select from document_heads h where h.url = a.source_url and h.artifact_id = a.id)
            or exists (select from extracts e where e.artifact_id = a.id and (
                exists (select from versions v where v.extract_id = e.id)
                or exists (select from document_heads h where h.extract_id = e.id)))))";
