"""What one record says: kind of event, time, result, origin, object (R-4-11-2-2)."""

import json
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
        fields = {
            "at": self.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "kind": self.kind,
            "result": self.result,
            "party": self.party,
            "origin": self.origin,
            "object": self.object,
            "size": self.size,
        }
        return _ENCODER.encode(fields).encode("utf-8", "backslashreplace") + b"\n"
