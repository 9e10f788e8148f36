-- What the auditor has looked into: a segment that is lost stays lost, but what comes after it can be complete again.
CREATE TABLE audit_acceptance (
    finding      text PRIMARY KEY,                     -- as `prefca journal verify` tells it
    accepted_at  timestamptz NOT NULL,
    origin       text NOT NULL,
    note         text NOT NULL
);
CREATE TRIGGER audit_acceptance_final BEFORE UPDATE OR DELETE ON audit_acceptance
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT ON audit_acceptance TO prefca_issuer;
