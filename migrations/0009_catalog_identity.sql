-- Which catalog this is, also in a copy of it. The bucket that it uses says so, and no other catalog uses that bucket: keys begin with
-- a source's number, which two catalogs give twice, and what one removes the other may need.
create table catalog_identity (
    only_row boolean primary key default true check (only_row),
    id       uuid    not null default gen_random_uuid()
);
insert into catalog_identity default values;
