-- The latest skip of a subscription, which its status shows, is found without reading the others.
create index runs_skipped on runs (subscription_id, scheduled_for desc) where phase = 'Skipped';
