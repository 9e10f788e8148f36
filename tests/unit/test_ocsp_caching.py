"""What HTTP caches may do with an answer (RFC 9919, section 7.2)."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from ocsp.caching import headers
from ocsp.request import CertID
from ocsp.response import Answer, ValidityInterval
from ocsp.status import SingleResponse
from pkix.revocation import Good

NOW = datetime(2026, 4, 1, 12, 0, 0, tzinfo=UTC)
BODY = b"the answer"
INTERVAL = ValidityInterval(NOW, NOW + timedelta(seconds=300))


def answer(*, public: tuple[bool, ...] = (True,), has_nonce: bool = False) -> Answer:
    singles = tuple(SingleResponse(CertID("", b"", b"", 1, b""), Good(), public=one) for one in public)
    return Answer(singles, INTERVAL, has_nonce, all(public))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_public_status_may_be_kept_by_caches(method: str) -> None:
    """For less time than it holds: thisUpdate < now + max-age < nextUpdate."""
    assert headers(answer(), BODY, method, NOW) == {
        "Cache-Control": "max-age=150, public, no-transform, must-revalidate",
        "ETag": f'"{hashlib.sha256(BODY).hexdigest()}"',
        "Last-Modified": "Wed, 01 Apr 2026 12:00:00 GMT",
        "Expires": "Wed, 01 Apr 2026 12:05:00 GMT",
    }


def test_what_leaves_late_is_kept_no_longer_than_it_holds() -> None:
    """While the database is away, answers are given out until their end."""
    late = headers(answer(), BODY, "GET", NOW + timedelta(seconds=290))
    assert late["Cache-Control"].startswith("max-age=10,")


@pytest.mark.req("R-4-4-4-3")
@pytest.mark.parametrize(
    ("given", "method", "expected"),
    [
        (answer(public=(False,)), "GET", "private, no-store"),
        (answer(public=(True, False)), "GET", "private, no-store"),
        (answer(public=(False,)), "POST", "private, no-store"),
        (answer(has_nonce=True), "GET", "no-store"),
        (answer(), "POST", "no-store"),
    ],
    ids=["restricted", "partly restricted", "restricted POST", "nonce", "POST"],
)
def test_nothing_else_is_kept(given: Answer, method: str, expected: str) -> None:
    """What one party may know is for nobody else; a nonce is for one request."""
    assert headers(given, BODY, method, NOW) == {"Cache-Control": expected}
