-- Three roles with least rights: only the issuer writes, and what faces the network sees views alone.
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['prefca_issuer', 'prefca_ocsp', 'prefca_repository'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', name);
            -- From PostgreSQL 16 on, CREATEROLE alone no longer lets the owner SET ROLE, as a DSN with a user does.
            EXECUTE format('GRANT %I TO CURRENT_USER', name);
        END IF;
    END LOOP;
END $$;

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO prefca_issuer, prefca_ocsp, prefca_repository;

GRANT SELECT ON ALL TABLES IN SCHEMA public TO prefca_issuer;
GRANT INSERT ON authority, ca_generation, partition, certificate, holder, revocation, publication, published_object,
    relying_party, credential, change, operation_record TO prefca_issuer;
GRANT UPDATE (registrations) ON authority TO prefca_issuer;
GRANT UPDATE (state) ON ca_generation TO prefca_issuer;
GRANT UPDATE (next_crl_number) ON partition TO prefca_issuer;
GRANT UPDATE (description, agreed_from, agreed_until, state, may_ocsp, may_crl) ON relying_party TO prefca_issuer;
GRANT UPDATE (ended_at) ON credential TO prefca_issuer;
GRANT UPDATE (last) ON change_counter TO prefca_issuer;
GRANT USAGE ON SEQUENCE subject_number TO prefca_issuer;
GRANT EXECUTE ON FUNCTION record_changes(text, bigint[]) TO prefca_issuer;
GRANT EXECUTE ON FUNCTION replication_v1() TO prefca_ocsp, prefca_repository;

GRANT SELECT ON ca_generation_v1, ocsp_delegate_v1, certificate_status_v1, ocsp_access_v1, change_v1 TO prefca_ocsp;
GRANT SELECT ON publication_v1, published_object_v1, repository_access_v1, change_v1 TO prefca_repository;
