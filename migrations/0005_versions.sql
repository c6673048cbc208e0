-- A fetched document is parsed and compared before it is finished: Fetched lies between Pending and Stored.
alter table documents drop constraint documents_phase_check, drop constraint documents_check;
alter table documents
    add constraint documents_phase_check check (phase in ('Pending', 'Fetched', 'Stored', 'Failed')),
    add constraint documents_check check ((phase in ('Pending', 'Fetched')) = (finished_at is null)),
    -- Whether a list that was read before does not name it any more.
    add column is_gone    boolean not null default false,
    -- Of what turned out to be a list: whether all that it names was brought in.
    add column is_whole   boolean,
    -- The version that was made of it.
    add column version_id bigint references versions (id);
drop index documents_pending;
create index documents_pending on documents (run_id) where finished_at is null;

alter table subscriptions
    -- Of what is selected, removed and ignored; what was compared under another is a new baseline.
    add column selection_hash text,
    -- The first run that read the source's list to its end: what later runs find there for the first time is new.
    add column list_read_by   uuid references runs (id),
    -- Since when its rules are what they are: a run that began before has read it under others.
    add column list_reset_at  timestamptz;

-- Of an extract everything is known but when it is asked for again: the same bytes give the same.
alter table extracts
    drop constraint extracts_artifact_id_subscription_id_parser_parser_version__key,
    alter column parser_version type integer using parser_version::integer,
    add constraint extracts_key unique (artifact_id, subscription_id, selectors_hash, parser_version);
alter table extracts rename column selectors_hash to selection_hash;

alter table versions
    add column kind       text        not null check (kind in ('Baseline', 'New', 'Changed', 'Removed', 'Returned')),
    add column run_id     uuid        not null references runs (id),
    -- What it was compared with. None: nothing.
    add column previous   bigint references versions (id),
    -- When the targets that want it were found. None: nobody has looked yet.
    add column planned_at timestamptz,
    -- When that was last asked for again, since nobody had.
    add column asked_at   timestamptz;
create index versions_unplanned on versions (created_at) where planned_at is null;
create index versions_run on versions (run_id);

-- How a document of a subscription was when it was last compared. Its row is locked to make a version.
create table document_heads (
    subscription_id bigint  not null references subscriptions (id),
    url             text    not null,
    -- The newest artifact whose text was compared, and the SHA-256 of its bytes.
    artifact_id     bigint  not null references artifacts (id),
    fetch_hash      text    not null,
    extract_id      bigint  not null references extracts (id),
    version_id      bigint  not null references versions (id),
    number          integer not null,
    selection_hash  text    not null,
    parser_version  integer not null,
    is_gone         boolean not null default false,
    -- Whether a list led to it.
    is_found        boolean not null,
    primary key (subscription_id, url)
);

-- What is sent to a target at once: a change, or a digest of several.
drop table deliveries;
create table deliveries (
    -- The same for all attempts.
    id              uuid        primary key,
    subscription_id bigint      not null references subscriptions (id),
    target          text        not null,
    -- Collecting: a digest that changes are still added to.
    phase           text        not null check (phase in ('Collecting', 'Pending', 'Delivered', 'GivenUp')),
    -- The run that saw the first of its changes: it goes on in that run's trace.
    begun_by        uuid        not null references runs (id),
    -- Of a digest of one run.
    run_id          uuid references runs (id),
    changes         integer     not null,
    -- How much JSON they take.
    bytes           bigint      not null,
    attempts        integer     not null default 0,
    last_error      text,
    -- When its event is to come.
    due_at          timestamptz not null,
    created_at      timestamptz not null,
    finished_at     timestamptz,
    check ((phase in ('Delivered', 'GivenUp')) = (finished_at is not null))
);
create index deliveries_open on deliveries (due_at) where finished_at is null;
create unique index deliveries_collecting on deliveries (subscription_id, target, coalesce(run_id, '00000000-0000-0000-0000-000000000000'))
    where phase = 'Collecting';
create index deliveries_history on deliveries (subscription_id, created_at desc);

create table delivery_versions (
    version_id  bigint not null references versions (id),
    target      text   not null,
    delivery_id uuid   not null references deliveries (id),
    primary key (version_id, target)
);
create index delivery_versions_delivery on delivery_versions (delivery_id);

create table delivery_attempts (
    delivery_id uuid        not null references deliveries (id),
    number      integer     not null,
    started_at  timestamptz not null,
    duration_ms integer     not null,
    -- Of HTTP; none where nothing was answered, or something else is spoken.
    status      integer,
    -- The beginning of the answer, or what went wrong.
    detail      text        not null,
    primary key (delivery_id, number)
);

-- How the targets of subscriptions answer. One that nothing was sent to has no row.
create table targets (
    subscription_id   bigint      not null references subscriptions (id),
    name              text        not null,
    -- Of its settings when it said that it is gone: nothing is sent to it until they change.
    gone_settings     text,
    failing_since     timestamptz,
    failing_reason    text,
    failing_message   text,
    next_attempt_at   timestamptz,
    last_delivered_at timestamptz,
    -- By the database's clock, for whoever looks for news.
    written_at        timestamptz not null,
    primary key (subscription_id, name)
);
create index targets_news on targets (written_at);

-- Older programs end a run while its documents still wait to be compared.
update schema_support set oldest_program = 5;
