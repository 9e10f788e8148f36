-- The contract between the programs: versioned views, read by name. A _v2 is added beside its _v1, which goes later.
-- A row is visible to a role only if it may act on it: rights that have ended are simply not there.

CREATE VIEW ca_generation_v1 AS
    SELECT g.generation_id, g.authority_id, a.prefecture, a.hierarchy, g.number, g.certificate, g.state
    FROM ca_generation g JOIN authority a USING (authority_id);

-- Delegates of the responder: of kind ocsp, not revoked.
CREATE VIEW ocsp_delegate_v1 AS
    SELECT c.serial, c.generation_id, c.not_before, c.not_after, c.der
    FROM certificate c
    WHERE c.kind = 'ocsp' AND NOT EXISTS (SELECT FROM revocation r WHERE r.serial = c.serial);

-- public: its status may be told to anybody (R-2-8-2); else the right ocsp is needed (R-4-4-4-3).
CREATE VIEW certificate_status_v1 AS
    SELECT c.serial, c.generation_id, c.kind, c.kind <> 'resident' AS public, c.not_after,
           r.revoked_at, r.reason, r.invalidity_date
    FROM certificate c LEFT JOIN revocation r USING (serial);

CREATE VIEW ocsp_access_v1 AS
    SELECT p.relying_party_id, p.name, c.kind, c.secret_hash, c.network, c.fingerprint, c.certificate,
           p.agreed_from, p.agreed_until
    FROM relying_party p JOIN credential c USING (relying_party_id)
    WHERE p.may_ocsp AND p.state = 'active' AND c.ended_at IS NULL;

CREATE VIEW repository_access_v1 AS
    SELECT p.relying_party_id, p.name, c.kind, c.secret_hash, c.certificate, p.agreed_from, p.agreed_until
    FROM relying_party p JOIN credential c USING (relying_party_id)
    WHERE p.may_crl AND p.state = 'active' AND c.ended_at IS NULL AND c.kind IN ('password', 'client-certificate');

-- The publications in force, one per authority, and when its first one was.
CREATE VIEW publication_v1 AS
    SELECT DISTINCT ON (authority_id) authority_id, publication_id, this_update, next_publish, next_update, published_at,
        min(published_at) OVER (PARTITION BY authority_id) AS first_published_at
    FROM publication ORDER BY authority_id, publication_id DESC;

CREATE VIEW published_object_v1 AS
    SELECT p.authority_id, o.publication_id, o.position, o.entry_dn, o.attribute, o.value, o.sha256, o.public,
        p.published_at, p.first_published_at
    FROM published_object o JOIN publication_v1 p USING (publication_id);

CREATE VIEW change_v1 AS SELECT number, kind, key, changed_at FROM change;

-- How far a standby is, one row; positions in the WAL as numbers of octets. What its receiver was told only those may
-- see who read all statistics: hence as the owner, who needs pg_read_all_stats where he is no superuser.
CREATE FUNCTION replication_v1()
    RETURNS TABLE (in_recovery boolean, replayed bigint, primary_end bigint, told_at timestamptz)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT pg_is_in_recovery(), pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint,
           pg_wal_lsn_diff(w.latest_end_lsn, '0/0')::bigint, least(w.last_msg_send_time, w.last_msg_receipt_time)
    FROM (SELECT) AS this_server
    -- Equal only before the first message of a connection: both are the moment at which the receiver was started then.
    LEFT JOIN pg_stat_wal_receiver w ON w.last_msg_send_time <> w.last_msg_receipt_time
$$;
