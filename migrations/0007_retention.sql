-- Bodies that no artifact points at any more. A row stays for ever: its address is never used again, so that a deletion that
-- arrives late, from a process that stood still, meets nothing.
create table removed_blobs (
    blob_uri   text        primary key,
    source_id  bigint      not null references sources (id),
    fetch_hash text        not null,
    created_at timestamptz not null,
    -- When the bytes were gone. None: they are still to be deleted.
    deleted_at timestamptz
);
create index removed_blobs_waiting on removed_blobs (blob_uri) where deleted_at is null;
create index removed_blobs_content on removed_blobs (source_id, fetch_hash);

-- An artifact points at bytes that stay. Who removes artifacts of a source locks it alone, who adds one shares the lock: whoever
-- comes second sees what the first has done. A worker that is refused stores the bytes anew.
create function refuse_removed_blob() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(hashtextextended('bodies of ' || new.source_id, 0));
    if exists (select from removed_blobs where blob_uri = new.blob_uri) then
        raise exception 'the body at % was removed meanwhile', new.blob_uri using errcode = 'foreign_key_violation';
    end if;
    return new;
end $$;
create trigger refuse_removed_blob before insert on artifacts for each row execute function refuse_removed_blob();

-- Whose versions are not kept for ever.
create index subscriptions_retention on subscriptions (id) where deleted_at is null and settings ? 'retention';
-- What may be old enough.
create index runs_ended on runs (subscription_id, finished_at) where finished_at is not null;
-- What points at what may be removed.
create index artifacts_revisits on artifacts (revisit_of) where revisit_of is not null;
create index documents_version on documents (version_id) where version_id is not null;
create index documents_artifact on documents (artifact_id) where artifact_id is not null;
create index document_heads_version on document_heads (version_id);
create index document_heads_extract on document_heads (extract_id);
create index versions_extract on versions (extract_id);
create index versions_previous on versions (previous) where previous is not null;
create index deliveries_begun_by on deliveries (begun_by);
create index deliveries_run on deliveries (run_id) where run_id is not null;
create index subscriptions_list on subscriptions (list_read_by) where list_read_by is not null;
-- A head's artifact is another with each check. An index of it would make each check write to all indexes of the head; one of
-- the URL, which the artifact has too, finds it as well. The reference itself is given up, since it would look without:
-- that artifact has a document, which refers to it.
create index document_heads_url on document_heads (url);
alter table document_heads drop constraint document_heads_artifact_id_fkey;

-- What grows without end is vacuumed once a twentieth of it is gone, and not a fifth: a fifth of years is much.
alter table runs set (autovacuum_vacuum_scale_factor = 0.05);
alter table documents set (autovacuum_vacuum_scale_factor = 0.05);
alter table artifacts set (autovacuum_vacuum_scale_factor = 0.05);
alter table extracts set (autovacuum_vacuum_scale_factor = 0.05);
alter table versions set (autovacuum_vacuum_scale_factor = 0.05);
