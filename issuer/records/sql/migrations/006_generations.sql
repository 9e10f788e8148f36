-- The life of a key of the CA (R-4-13-1, R-4-13-2): certificates and lists of several keys in one publication.

-- Whose signature a value has: the number of the CA's key; NULL where that is not told. What is there is signed by the
-- first key: until now there was no other. A list may be signed by two keys: the same list, with the same number, twice.
ALTER TABLE published_object ADD COLUMN generation smallint DEFAULT 1;
ALTER TABLE published_object ALTER COLUMN generation DROP DEFAULT;
ALTER TABLE published_object ADD CHECK (partition_id IS NULL OR generation IS NOT NULL);
ALTER TABLE published_object DROP CONSTRAINT published_object_partition_id_crl_number_key;
ALTER TABLE published_object ADD UNIQUE (partition_id, crl_number, generation);
