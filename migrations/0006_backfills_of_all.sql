-- Of a backfill: whether it goes over all that is stored of the subscription's documents, and not only over what is the latest.
alter table runs add column is_of_all boolean not null default false;
