-- What an authority for time stamps (RFC 3161) said of a root: it existed then. Roots form a chain, so that a time stamp
-- of one proves all before it, and not every root needs its own.
CREATE TABLE journal_root_stamp (
    number       integer PRIMARY KEY REFERENCES journal_root,
    response     bytea NOT NULL,                       -- DER of the TimeStampResp, with the authority's certificate
    stamped_at   timestamptz NOT NULL,                 -- as the authority says
    received_at  timestamptz NOT NULL
);
CREATE TRIGGER journal_root_stamp_final BEFORE UPDATE OR DELETE ON journal_root_stamp
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Daily backups (R-4-11-6, R-4-12-2-4) that succeeded: how long ago the last one was decides on the alarm.
CREATE TABLE backup_run (
    done_at      timestamptz PRIMARY KEY,
    origin       text NOT NULL,                        -- account and host
    command      text NOT NULL
);
CREATE TRIGGER backup_run_final BEFORE UPDATE OR DELETE ON backup_run
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT ON journal_root_stamp, backup_run TO prefca_issuer;
