"""The LDAP directory of certificates and lists (RFC 4510 and what it names): read-only, without any key of a CA.

Reading order. What a client says: `messages` (values), `ber`, `framing`, `filter_reader` and `codec` (octets). What
there is to read: `definitions` and `schema`, `preparation`, `names` and `matching` (when two values are equal), `dit`,
and `snapshot`, which makes a tree of what the issuer published. How a question is answered: `filters`, `search`,
`access`, and `session`, which is one connection without I/O, with `authentication`, `controls` and `paging`; `cache`
keeps answers that are ready. The shell: `directory` (what is in force now), `store` (PostgreSQL), `local_copy`,
`passwords`, `outbox`, `tls`, `turns` (records before answers), `connection` (a Twisted protocol), `transport` (under
it) with `poller`, `server`, `health` and `admin`, `memory`, `parent` (of several workers), `__main__`.
"""
