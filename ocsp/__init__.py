"""The OCSP responder (RFC 6960, RFC 9919): reads statuses, signs with delegated keys of its own.

Reading order: `errors` (what is refused, and how it is said on the wire), `request` (octets to OCSPRequest), `issuers`
(whose certificates these are, and which delegate may speak of them), `status` (what is known of each), `access` (who
may ask), `signature` (who signed), `limits` (how often), `response` (values to octets), `caching` (HTTP headers): so
far everything is values in, values out. Then what answers are made with: `delegates` and `token` (keys), `store` (all
SQL), `refresh` (what is held in memory, kept current), `cache` (answers that are kept), `signing` (where),
`responder` (one answer, from question to signature), `credentials` and `recognition` (who asks), `tls`, `provision`
(all of that as it is configured). Then HTTP: `framing` and `connection` (the shortcut), `server`. Then processes:
`worker`, and its parent's `workers`, `metrics`, `admin`, `__main__`.
"""
