-- What changed is kept as it was written: it is read whole and seldom, and to take it apart for jsonb cost more than all the rest of
-- a version.
alter table versions alter column change type json using change::json;
-- Texts and changes are compressed with LZ4 where the server has it: several times as fast as what it does else, and as small.
do $$ begin
    alter table versions alter column change set compression lz4;
    alter table extracts alter column text set compression lz4;
exception when feature_not_supported then null;
end $$;
