-- The catalog: what is watched, what was run, what was seen, and the events still to be published.
-- Times are instants (timestamptz), hashes are lower-case hexadecimal SHA-256.

create table sources (
    id         bigint generated always as identity primary key,
    uid        uuid        not null unique,
    namespace  text        not null,
    name       text        not null,
    generation bigint      not null,
    settings   jsonb       not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);
create unique index sources_live_name on sources (namespace, name) where deleted_at is null;

create table subscriptions (
    id                bigint generated always as identity primary key,
    uid               uuid        not null unique,
    namespace         text        not null,
    name              text        not null,
    source_id         bigint      not null references sources (id),
    generation        bigint      not null,
    settings          jsonb       not null,
    -- Every due time up to and including this instant has its run or its recorded skip.
    scheduled_through timestamptz not null,
    -- The last value of the annotation that asks for a run at once, and when it was honoured.
    last_request      text,
    last_request_at   timestamptz,
    created_at        timestamptz not null,
    updated_at        timestamptz not null,
    deleted_at        timestamptz
);
create unique index subscriptions_live_name on subscriptions (namespace, name) where deleted_at is null;
create index subscriptions_source on subscriptions (source_id) where deleted_at is null;

create table runs (
    id              uuid        primary key,
    subscription_id bigint      not null references subscriptions (id),
    scheduled_for   timestamptz not null,
    trigger         text        not null check (trigger in ('Schedule', 'Request', 'Backfill')),
    phase           text        not null check (phase in ('Pending', 'Running', 'Succeeded', 'Failed', 'Skipped')),
    reason          text,
    message         text,
    -- Whether any document of the run differed from what the subscription last stored of it.
    changed         boolean,
    trace_id        text        not null,
    created_at      timestamptz not null,
    started_at      timestamptz,
    finished_at     timestamptz,
    unique (subscription_id, scheduled_for, trigger),
    check ((phase in ('Pending', 'Running')) = (finished_at is null))
);
create index runs_active on runs (subscription_id) where finished_at is null;
-- Skips can be many more than runs: what a status shows is found without them.
create index runs_latest on runs (subscription_id, created_at desc) where phase <> 'Skipped';
create index runs_scheduled on runs (subscription_id, scheduled_for desc)
    where trigger = 'Schedule' and phase <> 'Skipped';
create index runs_changed on runs (subscription_id, finished_at desc) where changed;

-- One row per URL that a run has to bring in: the run ends when none is pending.
create table documents (
    run_id      uuid        not null references runs (id) on delete cascade,
    url         text        not null,
    phase       text        not null check (phase in ('Pending', 'Stored', 'Failed')),
    changed     boolean,
    reason      text,
    message     text,
    finished_at timestamptz,
    primary key (run_id, url),
    check ((phase = 'Pending') = (finished_at is null))
);

create table artifacts (
    id              bigint generated always as identity primary key,
    source_id       bigint      not null references sources (id),
    subscription_id bigint      not null references subscriptions (id),
    run_id          uuid        not null references runs (id),
    source_url      text        not null,
    final_url       text        not null,
    fetch_hash      text        not null check (fetch_hash ~ '^[0-9a-f]{64}$'),
    blob_uri        text        not null,
    status          integer     not null,
    headers         jsonb       not null,
    content_type    text,
    byte_size       bigint      not null,
    remote_address  text,
    changed         boolean     not null,
    fetched_at      timestamptz not null,
    unique (run_id, source_url)
);
create index artifacts_content on artifacts (source_id, fetch_hash);
create index artifacts_history on artifacts (subscription_id, source_url, id desc);

create table extracts (
    id              bigint generated always as identity primary key,
    artifact_id     bigint      not null references artifacts (id),
    subscription_id bigint      not null references subscriptions (id),
    parser          text        not null,
    parser_version  text        not null,
    selectors_hash  text        not null,
    fields          jsonb       not null,
    text            text        not null,
    text_hash       text        not null check (text_hash ~ '^[0-9a-f]{64}$'),
    created_at      timestamptz not null,
    unique (artifact_id, subscription_id, parser, parser_version, selectors_hash)
);

create table versions (
    id              bigint generated always as identity primary key,
    subscription_id bigint      not null references subscriptions (id),
    url             text        not null,
    number          integer     not null check (number > 0),
    extract_id      bigint      not null references extracts (id),
    text_hash       text        not null check (text_hash ~ '^[0-9a-f]{64}$'),
    change          jsonb       not null,
    created_at      timestamptz not null,
    unique (subscription_id, url, number)
);

create table deliveries (
    id           bigint generated always as identity primary key,
    version_id   bigint      not null references versions (id),
    target       text        not null,
    phase        text        not null check (phase in ('Pending', 'Delivered', 'GivenUp')),
    attempts     integer     not null default 0,
    last_error   text,
    created_at   timestamptz not null,
    finished_at  timestamptz,
    unique (version_id, target),
    check ((phase = 'Pending') = (finished_at is null))
);

-- Events to be published, now or later: an event that must wait is a row whose available_at lies ahead.
create table outbox (
    id           bigint generated always as identity primary key,
    topic        text        not null,
    key          text        not null,
    headers      jsonb       not null,
    payload      bytea       not null,
    available_at timestamptz not null
);
create index outbox_available on outbox (available_at, id);

-- Politeness and robots.txt state, shared by all workers.
create table hosts (
    host              text        primary key,
    next_slot_at      timestamptz,
    crawl_delay_ms    bigint,
    robots            text,
    robots_status     integer,
    robots_fetched_at timestamptz
);
