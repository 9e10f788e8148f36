"""What HTTP caches may do with an answer (RFC 9919, section 7.2).

Only public statuses, asked for with GET and without a nonce, are for caches. What is told to one party is for nobody
else (R-4-4-4-3), and a status is as of the query (R-4-4-4-2-1).
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import Final

from ocsp.response import Answer

ETAG: Final = "ETag"  # as RFC 9110 spells it, and aiohttp does not
NO_STORE: Final = {"Cache-Control": "no-store"}
PRIVATE: Final = {"Cache-Control": "private, no-store"}


def headers(answer: Answer, body: bytes, method: str, now: datetime) -> Mapping[str, str]:
    """The caching headers of `answer` to a request with `method`, if it leaves `now` or before its middle.

    Args:
        answer: what `body` says.
        body: the DER of the OCSPResponse.
        method: POST, GET or HEAD.
        now: the moment.
    """
    if not answer.public:
        return PRIVATE
    if method == "POST" or answer.has_nonce:
        return NO_STORE
    interval = answer.interval
    # Half of the interval: whoever gets it from a cache at the last moment still has the other half to use it.
    max_age = min((interval.next_update - interval.this_update) // 2, interval.next_update - now)
    return {
        "Cache-Control": f"max-age={int(max_age.total_seconds())}, public, no-transform, must-revalidate",
        ETAG: f'"{hashlib.sha256(body).hexdigest()}"',
        "Last-Modified": format_datetime(interval.this_update, usegmt=True),
        "Expires": format_datetime(interval.next_update, usegmt=True),
    }
