"""The OCSP responder (RFC 6960, RFC 9919): reads statuses, signs with delegated keys of its own.

Reading order: `errors` (what is refused, and how it is said on the wire), `request` (octets to OCSPRequest), `issuers`
(whose certificates these are, and which delegate may speak of them), `status` (what is known of each), `access` (who
may ask), `response` (values to octets): so far everything is values in, values out. Then the shell: `delegates` (key
files), `store` (all SQL), `refresh` (what is held in memory, kept current), `responder` (one answer, from question to
signature), `caching` (HTTP headers), `connection` and `server` (HTTP), `__main__`.
"""
