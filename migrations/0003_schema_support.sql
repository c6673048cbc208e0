-- Which programs work with this schema: those that know the migration oldest_program. Programs of before an upgrade run on
-- beside those of after it, and come back with a rollback. A migration that only adds leaves the number; one that takes
-- away what they use raises it to its own version.
create table schema_support (
    only_row       boolean primary key default true check (only_row),
    oldest_program bigint  not null
);
insert into schema_support (oldest_program) values (3);
