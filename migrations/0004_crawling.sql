-- Evidence of an exchange, besides what was there: what was sent and when, where it led, what robots.txt said, and of
-- which stored body a server said that it has not changed.
alter table artifacts
    add column redirects       jsonb not null default '[]',
    add column request_headers jsonb not null default '[]',
    add column robots          text,
    add column sniffed_type    text,
    -- Page, Feed or Sitemap: what list of documents the first bytes of the body speak for.
    add column sniffed_list    text,
    add column etag            text,
    add column last_modified   text,
    add column requested_at    timestamptz,
    add column finished_at     timestamptz,
    add column revisit_of      bigint references artifacts (id);
-- What a source last had at a URL: for conditional requests, and for runs that come to it together.
create index artifacts_latest on artifacts (source_id, source_url, id desc);

-- A document refers to its artifact: runs that are due together share one.
alter table documents
    add column subscription_id bigint references subscriptions (id),
    add column artifact_id     bigint references artifacts (id),
    -- The page, feed or sitemap that the source names; its failure is the source's.
    add column is_base         boolean not null default true,
    -- Whether it may name further documents: the base, and the sitemaps of an index.
    add column is_list         boolean not null default true,
    -- What a feed or sitemap says of the entry: the same again need not be fetched.
    add column marker          text;
update documents d set subscription_id = r.subscription_id from runs r where r.id = d.run_id;
update documents d set artifact_id = a.id from artifacts a where a.run_id = d.run_id and a.source_url = d.url;
alter table documents alter column subscription_id set not null;
create index documents_history on documents (subscription_id, url, artifact_id desc) where artifact_id is not null;
create index documents_pending on documents (run_id) where phase = 'Pending';
create index documents_artifacts on documents (subscription_id, artifact_id) where artifact_id is not null;
-- Whose artifact it is, and whether it is a change for them, the documents tell now.
drop index artifacts_history;
alter table artifacts
    drop column subscription_id,
    drop column changed;

-- How a source answers.
alter table sources
    add column failures        integer not null default 0,
    add column failing_since   timestamptz,
    add column failing_reason  text,
    add column failing_message text,
    add column next_try_at     timestamptz,
    -- Before it, no due time fetches from a source that fails.
    add column held_back_until timestamptz,
    add column last_fetch_at   timestamptz,
    add column last_change_at  timestamptz,
    -- By the database's clock, for whoever looks for news.
    add column health_written_at timestamptz;
create index sources_news on sources (health_written_at) where health_written_at is not null;

-- Politeness: when a host was last asked, until when the slots that lie ahead are taken, and until when it asked for peace.
alter table hosts
    drop column crawl_delay_ms,
    drop column robots,
    drop column robots_status,
    drop column robots_fetched_at,
    add column last_request_at timestamptz,
    add column blocked_until   timestamptz;

-- robots.txt by origin (RFC 9309).
create table robots (
    origin            text        primary key,
    -- Rules: as they stand in the text; AllowAll: there are none; Unknown: nothing may be fetched until it answers.
    outcome           text        not null check (outcome in ('Rules', 'AllowAll', 'Unknown')),
    rules             bytea,
    asked_at          timestamptz not null,
    expires_at        timestamptz not null,
    -- Since when it was asked for in vain; what it said before is in force meanwhile.
    unreachable_since timestamptz,
    check ((outcome = 'Rules') = (rules is not null)),
    check (outcome <> 'Unknown' or unreachable_since is not null)
);

-- Older programs know nothing of a document's subscription.
update schema_support set oldest_program = 4;
