-- External media with the archive (R-4-12-2-3, R-4-12-2-4). A medium has a name that its statement tells: directories
-- are called alike each month. Which segments an export brought is in journal_export, by the same moment and directory.
CREATE TABLE archive_export (
    medium       text NOT NULL,
    exported_at  timestamptz NOT NULL,
    directory    text NOT NULL,                        -- as it was called on the machine
    origin       text NOT NULL,
    first_month  date,                                 -- of those that are there as a whole; NULL: none was over
    last_month   date,
    PRIMARY KEY (medium, exported_at),
    CHECK ((first_month IS NULL) = (last_month IS NULL))
);
CREATE TRIGGER archive_export_final BEFORE UPDATE OR DELETE ON archive_export
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Readings of media (R-4-12-2-6) that were recorded.
CREATE TABLE archive_check (
    medium       text NOT NULL,
    checked_at   timestamptz NOT NULL,
    origin       text NOT NULL,
    stated_at    timestamptz,                          -- which export its statement is of; NULL: it cannot be read
    findings     bigint NOT NULL,
    PRIMARY KEY (medium, checked_at)
);
CREATE TRIGGER archive_check_final BEFORE UPDATE OR DELETE ON archive_check
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT ON archive_export, archive_check TO prefca_issuer;
