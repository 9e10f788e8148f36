-- The compromise of a key (危殆化): decided once, for good, and then worked off (R-4-4-1-3, R-4-14-2).
CREATE TABLE compromise (
    generation_id  smallint PRIMARY KEY REFERENCES ca_generation,
    decided_at     timestamptz NOT NULL,               -- revoked_at of all that was revoked with it
    circumstances  text NOT NULL,                      -- for the notices, in Japanese
    key_is_lost    boolean NOT NULL,                   -- nothing more can be signed with it, lists neither
    certificates   bigint NOT NULL,                    -- that were revoked with it
    finished_at    timestamptz                         -- lists are published, notices written; NULL: an alarm stands
);
CREATE FUNCTION compromise_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.generation_id, OLD.decided_at, OLD.circumstances, OLD.key_is_lost, OLD.certificates) IS DISTINCT FROM
       (NEW.generation_id, NEW.decided_at, NEW.circumstances, NEW.key_is_lost, NEW.certificates)
       OR OLD.finished_at IS NOT NULL THEN
        RAISE EXCEPTION 'the compromise of a key is final' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER compromise_is_final BEFORE UPDATE ON compromise FOR EACH ROW EXECUTE FUNCTION compromise_is_final();
CREATE TRIGGER compromise_stays BEFORE DELETE ON compromise FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Whether the key that signs can be used, as the runner of the schedule last found. One row for each authority.
CREATE TABLE key_sight (
    authority_id   smallint PRIMARY KEY REFERENCES authority,
    seen_at        timestamptz NOT NULL,
    failure        text                                -- why it cannot; NULL: it can
);

-- Delegates of the responder: of kind ocsp, not revoked. Those that were revoked together with the key that signed them
-- go on telling that everything of that key is revoked: whoever still trusts it must hear that, and not nothing.
CREATE OR REPLACE VIEW ocsp_delegate_v1 AS
    SELECT c.serial, c.generation_id, c.not_before, c.not_after, c.der
    FROM certificate c
    WHERE c.kind = 'ocsp' AND NOT EXISTS (
        SELECT FROM revocation r LEFT JOIN compromise k ON k.generation_id = c.generation_id AND r.reason = 2
        WHERE r.serial = c.serial AND r.revoked_at IS DISTINCT FROM k.decided_at);

REVOKE ALL ON FUNCTION compromise_is_final() FROM PUBLIC;
GRANT SELECT, INSERT ON compromise, key_sight TO prefca_issuer;
GRANT UPDATE (finished_at) ON compromise TO prefca_issuer;
GRANT UPDATE (seen_at, failure) ON key_sight TO prefca_issuer;
