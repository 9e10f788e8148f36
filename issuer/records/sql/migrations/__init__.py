"""The schema as numbered steps, applied in order by `issuer.records.migrate`.

Reading order: `001_schema.sql` (tables and triggers), `002_views.sql` (what the other programs may read),
`003_roles.sql` (who may do what). A released step is never edited: a change is a new file with the next number.
"""
