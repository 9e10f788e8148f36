"""What one record says: kind of event, time, result, origin, object (R-4-11-2-2).

A line is joined from four fragments, so that a server which writes many like records can keep what they have in common.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Record:
    """One access or operation of a server.

    Stored: a change of fields changes every segment written from then on, and its readers.
    """

    at: datetime  # aware UTC
    kind: str  # the event: ldap_bind, ldap_search, ocsp_request
    result: str  # as the protocol names it: success, invalidCredentials, good
    party: str | None  # name of the relying party; None is anonymous
    origin: str  # address of the peer
    object: str  # what was asked for: an entry and attribute, a serial number
    size: int = 0  # octets of what was given out

    def line(self) -> bytes:
        """The record as one line of JSON in UTF-8, with its line feed.

        A peer's text may hold what UTF-8 cannot express; it is kept as a JSON escape.
        """
        return b"".join(
            (stamp(self.at), event(self.kind, self.result), peer(self.party, self.origin), gift(self.object, self.size))
        )


def stamp(at: datetime) -> bytes:
    """The first fragment of a line: when."""
    return b'{"at":"%b",' % at.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def event(kind: str, result: str) -> bytes:
    """The second: what happened."""
    return _inside({"kind": kind, "result": result}) + b","


def peer(party: str | None, origin: str) -> bytes:
    """The third: who asked."""
    return _inside({"party": party, "origin": origin}) + b","


def gift(name: str, size: int) -> bytes:
    """The last: what was given out."""
    return _inside({"object": name, "size": size}) + b"}\n"


def _inside(fields: Mapping[str, str | int | None]) -> bytes:
    """The inside of a JSON object."""
    return _ENCODER.encode(fields)[1:-1].encode("utf-8", "backslashreplace")
