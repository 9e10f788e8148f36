-- The record of truth. Rows that the rule calls final are never updated or deleted, not even by the issuer:
-- the trigger refuse_change() says so for every one of them (R-4-4-2-4).

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: its rows are final', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- One certification authority: the Governor of one prefecture, in one hierarchy (R-1-3-1-1, R-1-2-2).
CREATE TABLE authority (
    authority_id   smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    prefecture     text NOT NULL,                      -- romaji as in the names: Tokyo-to
    hierarchy      text NOT NULL CHECK (hierarchy IN ('test', 'production')),
    name           bytea NOT NULL,                     -- DER of the Name, the issuer of everything signed here
    entry_dn       text NOT NULL,                      -- the same Name as RFC 4514 text: the CA entry of the directory
    created_at     timestamptz NOT NULL,
    registrations  bigint NOT NULL DEFAULT 0,          -- transactions that issued to residents; they go one at a time
    UNIQUE (prefecture, hierarchy)
);

-- One per key of the CA. The state moves forward only: planned, active, retired; compromised and destroyed from any.
CREATE TABLE ca_generation (
    generation_id  smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    authority_id   smallint NOT NULL REFERENCES authority,
    number         smallint NOT NULL CHECK (number > 0),
    key_reference  text NOT NULL,                      -- file name or PKCS#11 label; never the key
    certificate    bytea NOT NULL,                     -- DER, self-signed
    signs_from     timestamptz NOT NULL,
    signs_until    timestamptz NOT NULL,               -- 5 years of use (R-6-3-1-2)
    state          text NOT NULL CHECK (state IN ('planned', 'active', 'retired', 'compromised', 'destroyed')),
    UNIQUE (authority_id, number)
);
CREATE UNIQUE INDEX ca_generation_one_active ON ca_generation (authority_id) WHERE state = 'active';

-- A part of the certificates that shares one list: a municipality, the CA's own certificates, the operations ones.
CREATE TABLE partition (
    partition_id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    authority_id     smallint NOT NULL REFERENCES authority,
    kind             text NOT NULL CHECK (kind IN ('municipality', 'ca', 'operations')),
    code             text CHECK (code ~ '^[0-9]{6}$'),  -- 全国地方公共団体コード, municipalities only
    entry_dn         text NOT NULL,                     -- RFC 4514 text: the entry that holds the list
    attribute        text NOT NULL,                     -- its LDAP attribute type
    idp              bytea NOT NULL,                    -- DER of IssuingDistributionPoint, never changed
    next_crl_number  bigint NOT NULL DEFAULT 1,
    CHECK ((kind = 'municipality') = (code IS NOT NULL))
);
CREATE UNIQUE INDEX partition_kind ON partition (authority_id, kind, code) NULLS NOT DISTINCT;

CREATE TABLE certificate (
    serial         bigint PRIMARY KEY CHECK (serial >= 4611686018427387904),  -- 2^62: always 8 octets
    generation_id  smallint NOT NULL REFERENCES ca_generation,
    partition_id   integer NOT NULL REFERENCES partition,
    kind           text NOT NULL CHECK (kind IN ('resident', 'cross', 'link', 'self-signed', 'ocsp', 'cvs')),
    not_before     timestamptz NOT NULL,
    not_after      timestamptz NOT NULL,
    spki_sha256    bytea NOT NULL CHECK (length(spki_sha256) = 32),
    der            bytea NOT NULL,
    issued_at      timestamptz NOT NULL
);
ALTER TABLE certificate ALTER COLUMN der SET STORAGE EXTERNAL;
-- A resident's key pair is certified once: renewal comes with a new one (R-3-2-2, R-6-3-2).
CREATE UNIQUE INDEX certificate_resident_key ON certificate (spki_sha256) WHERE kind = 'resident';
-- The newest, and all that is counted, without the rows, which have a kilobyte each. New rows go to its end.
CREATE INDEX certificate_newest ON certificate (generation_id, issued_at) INCLUDE (not_after) WHERE kind = 'resident';
-- The scheduler and the responders look for delegates every few seconds, among millions of residents' certificates.
CREATE INDEX certificate_of_servers ON certificate (kind, generation_id) WHERE kind <> 'resident';
CREATE TRIGGER certificate_final BEFORE UPDATE OR DELETE ON certificate
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Who holds a resident's certificate: 基本4情報 (R-3-1-2-2). No server role can read this table.
CREATE TABLE holder (
    serial         bigint PRIMARY KEY REFERENCES certificate,
    notice_id      bytea NOT NULL UNIQUE,              -- SHA-256 of the notice: the same notice issues once
    person         bytea NOT NULL,                     -- SHA-256 of the 基本4情報: finds a double application (R-4-2-3-1)
    notice_number  text,                               -- the municipality's own reference
    common_name    text NOT NULL,
    date_of_birth  text NOT NULL,
    gender         text NOT NULL,
    address        text NOT NULL
);
CREATE INDEX holder_person ON holder (person);
CREATE SEQUENCE subject_number AS bigint MINVALUE 0 MAXVALUE 999999999 NO CYCLE;

-- No foreign keys: revocation_matches() holds the same, once for a statement. Row by row they would lock every
-- certificate, which is half of the cost of revoking millions.
CREATE TABLE revocation (
    serial          bigint PRIMARY KEY,
    partition_id    integer NOT NULL,                                   -- of the certificate: its list
    reason          smallint NOT NULL CHECK (reason BETWEEN 1 AND 5),   -- R-4-4-4-2-2; no suspension (R-4-4-5)
    received_at     timestamptz NOT NULL,                               -- decides the list (R-4-4-3-1)
    revoked_at      timestamptz NOT NULL,
    invalidity_date timestamptz,
    not_after       timestamptz NOT NULL,                               -- of the certificate
    entry           bytea NOT NULL                                      -- DER of its revokedCertificates entry
        CHECK (substring(entry FROM 5 FOR 8) = int8send(serial))
);
CREATE INDEX revocation_of_partition ON revocation (partition_id, serial)
    INCLUDE (entry, not_after, received_at);
CREATE TRIGGER revocation_final BEFORE UPDATE OR DELETE ON revocation
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A revocation is of an issued certificate, goes on the list of its municipality and ends with it.
CREATE FUNCTION revocation_matches() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wrong bigint;
BEGIN
    -- A subquery, so that the plan is one look-up for each row, however many the first statement of a session had.
    SELECT serial INTO wrong FROM inserted i WHERE (i.partition_id, i.not_after) IS DISTINCT FROM
        (SELECT (c.partition_id, c.not_after) FROM certificate c WHERE c.serial = i.serial) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the revocation of % names another list or expiry than its certificate', upper(to_hex(wrong))
            USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER revocation_matches AFTER INSERT ON revocation
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION revocation_matches();

-- An atomic set of everything the repository shows of one authority. The newest one is in force.
CREATE TABLE publication (
    publication_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    authority_id   smallint NOT NULL REFERENCES authority,
    cut_off        timestamptz NOT NULL,               -- received_at of every entry is at or before it
    this_update    timestamptz NOT NULL,
    next_publish   timestamptz NOT NULL,               -- +24 h: the next list is due (R-4-4-9-1)
    next_update    timestamptz NOT NULL,               -- +72 h: the end of validity (R-7-2-1)
    published_at   timestamptz NOT NULL
);
CREATE INDEX publication_newest ON publication (authority_id, publication_id DESC);
CREATE TRIGGER publication_final BEFORE UPDATE OR DELETE ON publication
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE published_object (
    publication_id bigint NOT NULL REFERENCES publication,
    position       integer NOT NULL,                   -- order of the values of one attribute
    entry_dn       text NOT NULL,                      -- RFC 4514
    attribute      text NOT NULL,                      -- LDAP attribute type without options
    value          bytea NOT NULL,                     -- DER
    sha256         bytea NOT NULL CHECK (length(sha256) = 32),
    public         boolean NOT NULL,                   -- false: needs the right crl (R-2-6-3-2)
    partition_id   integer REFERENCES partition,       -- of a list, else NULL
    crl_number     bigint,
    entries        integer,
    PRIMARY KEY (publication_id, position),
    UNIQUE (partition_id, crl_number)
);
ALTER TABLE published_object ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TRIGGER published_object_final BEFORE UPDATE OR DELETE ON published_object
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- 署名検証者 and 団体署名検証者 (R-1-3-1-2, R-1-3-1-3) and how they are recognised.
CREATE TABLE relying_party (
    relying_party_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    description      text NOT NULL,                    -- its name for people and reports
    agreed_from      timestamptz NOT NULL,             -- the agreement, 取決め (R-2-1-2-32)
    agreed_until     timestamptz NOT NULL,
    state            text NOT NULL CHECK (state IN ('active', 'suspended', 'withdrawn')),
    may_ocsp         boolean NOT NULL,
    may_crl          boolean NOT NULL,
    created_at       timestamptz NOT NULL,
    CHECK (agreed_from < agreed_until)
);

CREATE TABLE credential (
    credential_id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relying_party_id integer NOT NULL REFERENCES relying_party,
    kind             text NOT NULL
        CHECK (kind IN ('password', 'token', 'network', 'client-certificate', 'signing-certificate')),
    secret_hash      text,                             -- Argon2id, of a password
    network          cidr,
    fingerprint      bytea CHECK (length(fingerprint) = 32),   -- SHA-256 of a certificate, or of a token
    certificate      bytea,                            -- DER
    created_at       timestamptz NOT NULL,
    ended_at         timestamptz,
    CHECK (CASE kind WHEN 'password' THEN secret_hash IS NOT NULL
                     WHEN 'network' THEN network IS NOT NULL
                     WHEN 'token' THEN fingerprint IS NOT NULL
                     ELSE coalesce(fingerprint = sha256(certificate), false) END)
);
-- A certificate or token names one party.
CREATE UNIQUE INDEX credential_in_force ON credential (kind, fingerprint) WHERE ended_at IS NULL;

-- The change feed. A later number is never visible before an earlier one: the row of change_counter is locked
-- until the writer's transaction ends.
CREATE TABLE change_counter (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), last bigint NOT NULL);
INSERT INTO change_counter (last) VALUES (0);
CREATE TABLE change (
    number     bigint PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('revocation', 'publication', 'generation', 'access')),
    key        bigint,                                 -- serial or publication_id; NULL: any of that kind
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Writes one change for each key given (NULL for "all of that kind") and wakes the listeners.
CREATE FUNCTION record_changes(kind text, keys bigint[]) RETURNS void LANGUAGE sql AS $$
    WITH taken AS (UPDATE change_counter SET last = last + cardinality(keys) RETURNING last - cardinality(keys) AS before)
    INSERT INTO change (number, kind, key)
        SELECT taken.before + k.position, record_changes.kind, k.key
        FROM taken, unnest(keys) WITH ORDINALITY AS k (key, position);
    SELECT pg_notify('prefca_change', record_changes.kind);
$$;

-- Thousands of serial numbers at once are told as one change without a key: forget all that was known of any.
CREATE FUNCTION revocation_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM inserted) > 10000 THEN
        PERFORM record_changes('revocation', ARRAY[NULL::bigint]);
    ELSE
        PERFORM record_changes('revocation', (SELECT coalesce(array_agg(serial), '{}') FROM inserted));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER revocation_changes AFTER INSERT ON revocation
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION revocation_inserted();

CREATE FUNCTION publication_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM record_changes('publication', ARRAY[NEW.publication_id]);
    RETURN NULL;
END $$;
-- At the end of the transaction: until then lists are written, and revocations must not wait for that.
CREATE CONSTRAINT TRIGGER publication_changes AFTER INSERT ON publication DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION publication_inserted();

-- What else servers hold in memory: the CA's keys and delegates, and who may ask. argument: the kind of change.
CREATE FUNCTION something_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM record_changes(TG_ARGV[0], ARRAY[NULL::bigint]);
    RETURN NULL;
END $$;
CREATE TRIGGER ca_generation_changes AFTER INSERT OR UPDATE ON ca_generation
    FOR EACH STATEMENT EXECUTE FUNCTION something_changed('generation');
CREATE TRIGGER relying_party_changes AFTER INSERT OR UPDATE ON relying_party
    FOR EACH STATEMENT EXECUTE FUNCTION something_changed('access');
CREATE TRIGGER credential_changes AFTER INSERT OR UPDATE ON credential
    FOR EACH STATEMENT EXECUTE FUNCTION something_changed('access');

-- A new delegate is taken over without a restart. Residents' certificates are millions and need no change here:
-- "unknown" is never cached. WHEN is cheap; a transition table would copy every certificate.
CREATE TRIGGER certificate_changes AFTER INSERT ON certificate
    FOR EACH ROW WHEN (NEW.kind <> 'resident') EXECUTE FUNCTION something_changed('generation');

-- Every act of the issuer, in the transaction of the act (R-4-11-2-1, R-4-11-2-2).
CREATE TABLE operation_record (
    record_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL,
    kind       text NOT NULL,                          -- certificate_issued, certificate_revoked, published, …
    result     text NOT NULL,
    origin     text NOT NULL,                          -- operator and host
    object     text NOT NULL,                          -- serial, publication, relying party
    detail     jsonb NOT NULL DEFAULT '{}'
);
CREATE TRIGGER operation_record_final BEFORE UPDATE OR DELETE ON operation_record
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
