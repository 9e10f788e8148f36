"""Ten years of a CA in minutes, with the real programs' own functions and a clock that is set.

It stands above the three programs, which never know each other, and is loaded by `prefca simulate` only. Order of
reading: `sight` (what is seen of everything at a moment), `invariants` (what has to be true of it), `timetable` (what
happens when), `world` (a CA in a directory of its own), `events` with `key_events` and `cross_events` (what is done),
`looking` (how all sides are seen), `running` (day after day), `plot`, `report`, `command`.
"""
