-- Who may agree to operations on a key of the CA, and what they agreed to (R-5-2-1-1, R-5-2-2-1). All of it is final: what
-- changes is said by another row. No server role sees any of it.

-- What is to be done, as the octets that people sign. Each names the one before, so that none can be taken away unseen.
CREATE TABLE operation (
    authority_id   smallint NOT NULL REFERENCES authority,
    number         integer NOT NULL CHECK (number > 0),        -- without gaps, of each CA
    content        bytea NOT NULL,                             -- JSON
    sha256         bytea NOT NULL CHECK (sha256 = sha256(content)),
    origin         text NOT NULL,                              -- who asked: account and host
    PRIMARY KEY (authority_id, number)
);
CREATE TRIGGER operation_final BEFORE UPDATE OR DELETE ON operation
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A person, with a key that nobody else has. Who changes key or roles is ended and registered again.
CREATE TABLE operator (
    operator_id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    authority_id   smallint NOT NULL,
    name           text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    full_name      text NOT NULL,                              -- as people write it
    roles          text[] NOT NULL CHECK (cardinality(roles) > 0 AND roles <@ ARRAY['manager', 'key-manager',
        'reception', 'examiner', 'approver', 'senior-operator', 'repository-operator', 'general-operator', 'auditor']),
    key            bytea NOT NULL,                             -- DER of SubjectPublicKeyInfo
    registered_at  timestamptz NOT NULL,
    operation      integer NOT NULL,                           -- by which
    FOREIGN KEY (authority_id, operation) REFERENCES operation (authority_id, number),
    CHECK (NOT 'auditor' = ANY (roles) OR cardinality(roles) = 1)   -- facts of the rule: 内部監査者 is nothing else
);
CREATE TRIGGER operator_final BEFORE UPDATE OR DELETE ON operator
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE operator_end (
    operator_id    integer PRIMARY KEY REFERENCES operator,
    ended_at       timestamptz NOT NULL,
    authority_id   smallint NOT NULL,
    operation      integer NOT NULL,
    FOREIGN KEY (authority_id, operation) REFERENCES operation (authority_id, number)
);
CREATE TRIGGER operator_end_final BEFORE UPDATE OR DELETE ON operator_end
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A name is one person's, and a person has one key at a time. A key stays its person's for ever.
CREATE FUNCTION operator_is_one_person() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(11, NEW.authority_id);
    IF EXISTS (SELECT FROM operator o WHERE o.authority_id = NEW.authority_id AND (
            o.key = NEW.key AND o.name <> NEW.name
            OR o.name = NEW.name AND NOT EXISTS (SELECT FROM operator_end e WHERE e.operator_id = o.operator_id))) THEN
        RAISE EXCEPTION 'the key or the name of % is that of another operator', NEW.name
            USING ERRCODE = 'unique_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER operator_is_one_person BEFORE INSERT ON operator
    FOR EACH ROW EXECUTE FUNCTION operator_is_one_person();

CREATE TABLE operation_approval (
    authority_id   smallint NOT NULL,
    number         integer NOT NULL,
    operator_id    integer NOT NULL REFERENCES operator,
    role           text,                                       -- in which the person agreed; NULL: in any of theirs
    signature      bytea NOT NULL,                             -- over operation.content
    approved_at    timestamptz NOT NULL,
    origin         text NOT NULL,
    PRIMARY KEY (authority_id, number, operator_id),
    FOREIGN KEY (authority_id, number) REFERENCES operation (authority_id, number)
);
CREATE TRIGGER operation_approval_final BEFORE UPDATE OR DELETE ON operation_approval
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- begun -> done | failed; failed -> begun; withdrawn from any but done. A process that was killed leaves "begun".
CREATE TABLE operation_event (
    authority_id   smallint NOT NULL,
    number         integer NOT NULL,
    position       integer NOT NULL CHECK (position > 0),
    event          text NOT NULL CHECK (event IN ('begun', 'done', 'failed', 'withdrawn')),
    at             timestamptz NOT NULL,
    origin         text NOT NULL,
    detail         text NOT NULL,                              -- JSON: what came of it
    PRIMARY KEY (authority_id, number, position),
    FOREIGN KEY (authority_id, number) REFERENCES operation (authority_id, number)
);
CREATE UNIQUE INDEX operation_event_end ON operation_event (authority_id, number) WHERE event IN ('done', 'withdrawn');
CREATE TRIGGER operation_event_final BEFORE UPDATE OR DELETE ON operation_event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A PIN or passphrase that no person knows: sealed by a key that was split (R-6-2-1-2). The shares are with people.
CREATE TABLE activation_data (
    activation_data_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    authority_id   smallint NOT NULL REFERENCES authority,
    needed         smallint NOT NULL CHECK (needed >= 2),
    shares         smallint NOT NULL CHECK (shares >= needed AND shares <= 255),
    sealed         bytea NOT NULL,                             -- AES-GCM
    made_at        timestamptz NOT NULL
);
CREATE TRIGGER activation_data_final BEFORE UPDATE OR DELETE ON activation_data
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- When the CA's key may be opened without people (R-6-2-1-7, R-6-2-1-8).
CREATE TABLE activation (
    activation_id  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    authority_id   smallint NOT NULL REFERENCES authority,
    begins_at      timestamptz NOT NULL,
    ends_at        timestamptz NOT NULL CHECK (ends_at > begins_at)
);
CREATE TRIGGER activation_final BEFORE UPDATE OR DELETE ON activation
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE activation_end (
    activation_id  integer PRIMARY KEY REFERENCES activation,
    ended_at       timestamptz NOT NULL
);
CREATE TRIGGER activation_end_final BEFORE UPDATE OR DELETE ON activation_end
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

REVOKE ALL ON FUNCTION operator_is_one_person() FROM PUBLIC;
GRANT SELECT, INSERT ON operation, operator, operator_end, operation_approval, operation_event, activation_data,
    activation, activation_end TO prefca_issuer;
