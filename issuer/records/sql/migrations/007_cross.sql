-- Cross-certification with the bridge (個人認証BCA): a case for each exchange of certificates, and what was done in it
-- (4-6 … 4-10). How far a case is, is the state after its last step. Nothing here is ever changed.

CREATE TABLE cross_case (
    case_id      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    authority_id smallint NOT NULL REFERENCES authority,
    partner      text NOT NULL,                        -- the other CA's name, for people and for the web (R-2-6-1-1)
    request      bytea NOT NULL,                       -- DER of its CertificationRequest
    policy       text,                                 -- its own that is equivalent to ours; NULL: it uses ours
    renews       integer REFERENCES cross_case,        -- the case whose pair is replaced (R-4-9-1)
    trigger      text CHECK (trigger IN ('theirs-ends', 'ours-ends', 'theirs-changes', 'ours-changes')),
    CHECK ((renews IS NULL) = (trigger IS NULL))
);
CREATE INDEX cross_case_of_authority ON cross_case (authority_id, case_id);
CREATE TRIGGER cross_case_final BEFORE UPDATE OR DELETE ON cross_case
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE cross_step (
    case_id      integer NOT NULL REFERENCES cross_case,
    number       smallint NOT NULL CHECK (number > 0),
    step         text NOT NULL,                        -- issuer.cross_case.Step
    state        text NOT NULL,                        -- after it: issuer.cross_case.State
    at           timestamptz NOT NULL,
    person       text NOT NULL,
    role         text NOT NULL,                        -- in which the person did it (R-5-2-1-1)
    detail       jsonb NOT NULL,
    document     bytea,                                -- the certificate that was accepted, DER; a receipt
    serial       bigint REFERENCES certificate,        -- of the certificate that was issued
    PRIMARY KEY (case_id, number),                     -- two persons who act at once: the second one is refused
    CHECK ((step = 'issue') = (serial IS NOT NULL)),
    CHECK (document IS NOT NULL OR step NOT IN ('accept', 'give-receipt', 'take-receipt'))
);
CREATE TRIGGER cross_step_final BEFORE UPDATE OR DELETE ON cross_step
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What we ask the bridge for (4-6): requests for this CA's own keys.
CREATE TABLE cross_request (
    request_id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    generation_id smallint NOT NULL REFERENCES ca_generation,
    made_at       timestamptz NOT NULL,
    der           bytea NOT NULL
);
CREATE TRIGGER cross_request_final BEFORE UPDATE OR DELETE ON cross_request
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT ON cross_case, cross_step, cross_request TO prefca_issuer;
