-- What every process wrote down (R-4-11-2-1, R-4-12-2-1). The records lie in the files of the archive; here is what
-- proves that they are all there and unchanged, and how many items each relying party was given.

-- Who writes. A key is taken over with the first segment and never changed.
CREATE TABLE journal_stream (
    stream       text PRIMARY KEY,
    key          bytea NOT NULL,                       -- SubjectPublicKeyInfo, Ed25519
    first_seen   timestamptz NOT NULL
);
CREATE TRIGGER journal_stream_final BEFORE UPDATE OR DELETE ON journal_stream
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE journal_segment (
    stream       text NOT NULL REFERENCES journal_stream,
    number       integer NOT NULL CHECK (number > 0),
    began        timestamptz NOT NULL,
    sealed_at    timestamptz NOT NULL,
    records      bigint NOT NULL,
    octets       bigint NOT NULL,
    sha256       bytea NOT NULL CHECK (length(sha256) = 32),       -- of all its octets
    previous     bytea NOT NULL CHECK (length(previous) = 32),     -- of the segment before, as its head says
    merkle_root  bytea NOT NULL CHECK (length(merkle_root) = 32),  -- over its records (RFC 9162)
    file         text NOT NULL,                                    -- below the archive directory, compressed
    file_sha256  bytea NOT NULL CHECK (length(file_sha256) = 32),
    collected_at timestamptz NOT NULL,                             -- time stamp of the archived item (R-4-12-2-5)
    PRIMARY KEY (stream, number)
);
CREATE TRIGGER journal_segment_final BEFORE UPDATE OR DELETE ON journal_segment
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- One Merkle tree over all segments collected since the one before; each statement names the one before.
CREATE TABLE journal_root (
    number       integer PRIMARY KEY CHECK (number > 0),
    statement    bytea NOT NULL,                       -- JSON: what is signed
    signature    bytea NOT NULL,                       -- Ed25519, by the key of the stream that it names
    made_at      timestamptz NOT NULL
);
CREATE TRIGGER journal_root_final BEFORE UPDATE OR DELETE ON journal_root
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE journal_root_leaf (
    number       integer NOT NULL REFERENCES journal_root,
    position     integer NOT NULL,                     -- from 0
    stream       text NOT NULL,
    segment      integer NOT NULL,
    PRIMARY KEY (number, position),
    UNIQUE (stream, segment),
    FOREIGN KEY (stream, segment) REFERENCES journal_segment (stream, number)
);
CREATE TRIGGER journal_root_leaf_final BEFORE UPDATE OR DELETE ON journal_root_leaf
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- How often each thing happened, counted once when its segment is collected (R-4-5-1, R-2-1-4-10).
CREATE TABLE usage (
    day          date NOT NULL,                        -- in Japan
    kind         text NOT NULL,                        -- of the record: ocsp_request, ldap_search, …
    result       text NOT NULL,
    attribute    text NOT NULL,                        -- of a list that was given out, else empty
    party        text NOT NULL,                        -- name; empty is anonymous
    items        bigint NOT NULL,
    octets       bigint NOT NULL,
    PRIMARY KEY (day, kind, result, attribute, party)
);

-- How far collecting is: the number of the last operation record.
CREATE TABLE journal_progress (
    only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    operations     bigint NOT NULL
);
INSERT INTO journal_progress (operations) VALUES (0);

-- Until when everything that a host's processes wrote down is counted.
CREATE TABLE journal_host (
    host           text PRIMARY KEY,                   -- begins the names of its streams; empty: it has none
    complete_until timestamptz NOT NULL,
    retired        boolean NOT NULL DEFAULT false      -- it will never write again
);

-- The internal auditor's reviews (R-4-11-3). Each begins where the one before ended, so that no day is left out.
CREATE TABLE audit_review (
    number       integer PRIMARY KEY CHECK (number > 0),
    until        timestamptz NOT NULL,                 -- a midnight in Japan
    origin       text NOT NULL,                        -- auditor and host
    note         text NOT NULL,
    reviewed_at  timestamptz NOT NULL
);
CREATE TRIGGER audit_review_final BEFORE UPDATE OR DELETE ON audit_review
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Which segments were copied to external media (R-4-11-6, R-4-12-2-3).
CREATE TABLE journal_export (
    stream       text NOT NULL,
    segment      integer NOT NULL,
    exported_at  timestamptz NOT NULL,
    directory    text NOT NULL,                        -- as it was called on the machine
    PRIMARY KEY (stream, segment, exported_at),
    FOREIGN KEY (stream, segment) REFERENCES journal_segment (stream, number)
);
CREATE TRIGGER journal_export_final BEFORE UPDATE OR DELETE ON journal_export
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Whose files the auditor deleted (R-4-11-5-2); the row in journal_segment stays, and what is proved by it.
CREATE TABLE journal_deletion (
    stream       text NOT NULL,
    segment      integer NOT NULL,
    deleted_at   timestamptz NOT NULL,
    origin       text NOT NULL,                        -- auditor and host
    PRIMARY KEY (stream, segment),
    FOREIGN KEY (stream, segment) REFERENCES journal_segment (stream, number)
);
CREATE TRIGGER journal_deletion_final BEFORE UPDATE OR DELETE ON journal_deletion
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT ON journal_stream, journal_segment, journal_root, journal_root_leaf, usage,
    audit_review, journal_export, journal_deletion, journal_host TO prefca_issuer;
GRANT UPDATE (items, octets) ON usage TO prefca_issuer;
GRANT SELECT, UPDATE (operations) ON journal_progress TO prefca_issuer;
GRANT UPDATE (complete_until, retired) ON journal_host TO prefca_issuer;
