-- Which catalog this is. The bucket that it uses says so, and no other catalog uses that bucket: keys begin with a source's number,
-- which two catalogs give twice, and what one removes the other may need.
create table catalog_identity (
    only_row boolean primary key default true check (only_row),
    id       uuid    not null
);
-- It follows from when the catalog was made, to the microsecond, and how many nanoseconds that took: so a copy from before this
-- migration gets the same when it is brought back and migrated. It is a hash of that, of which a uuid has room for the first half.
insert into catalog_identity (id)
    select substr(encode(sha256(convert_to(extract(epoch from installed_on) || ' ' || execution_time, 'UTF8')), 'hex'), 1, 32)::uuid
    from _sqlx_migrations where version = 1;
