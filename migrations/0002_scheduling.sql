-- Who makes runs. Each operator that begins to lead takes an epoch above all before it, and every transaction that
-- makes runs reads it: one of an older epoch is refused.
create table leadership (
    only_row boolean     primary key default true check (only_row),
    epoch    bigint      not null,
    holder   text,
    since    timestamptz
);
insert into leadership (epoch) values (0);

-- A skipped row can stand for many due times: those from skipped_from to scheduled_for.
alter table runs
    add column skipped_from timestamptz,
    add column due_times    integer not null default 1 check (due_times > 0),
    -- How often the lost event of a run without progress was sent again, and when last.
    add column restarts     integer not null default 0,
    add column restarted_at timestamptz,
    add check (skipped_from is null or phase = 'Skipped' and skipped_from <= scheduled_for);
create index runs_skipped on runs (subscription_id, scheduled_for desc) where phase = 'Skipped';

-- The last value of the annotation that asks for stored artifacts to be extracted again, and when it was honoured.
alter table subscriptions
    add column last_backfill    text,
    add column last_backfill_at timestamptz;

-- Whose event it is: a run whose event waits here is not stuck.
alter table outbox add column run_id uuid;
create index outbox_run on outbox (run_id);
