"""The batch CA: the one writer, the one holder of CA keys, no listening port.

Reading order. The core, values in and values out: `municipality`, `characters`, `notice` (what a municipality sends),
`authority` (names, policies, partitions), `profile` (certificates), `crl` (lists), `lint` (what is refused before it is
signed). Then the shell: `rows`, `store` and `party_store` (all SQL), `keys`, `installation` (all of it, open),
`certification`, `registration`, `revocation`, `batch`. Setting up: `configuration`, `migrate`, `founding`,
`service_ca`. Running: `embedded` and `cluster` (PostgreSQL), `supervision` (`prefca up`). On top, the command: `cli`.
"""
