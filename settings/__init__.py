"""How an installation is set up: one TOML file, environment variables, logging.

Reading order: `sections` (what can be set), `load` (file and environment into values), `database` (how a program
reaches PostgreSQL), `log` (how every process logs), `peer` (where a client is).

The three programs share one configuration file, so its definition is in one place: a key that no program knows, or
two sections that contradict each other, stops every one of them.
"""
