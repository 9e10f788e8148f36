"""Whoever opens the CA's key leaves a record of it, and of what it signed."""

import json
from pathlib import Path

import pytest

from issuer.cli import issuing
from issuer.errors import NotNowError
from issuer.signing.key_use import used_key
from tests.support.ca import NOW, FoundedCA, notice_line
from tests.support.command import Prefca, select

pytestmark = pytest.mark.req("R-4-11-2-1", "R-4-11-2-2")


def uses() -> list[tuple[str, str, int | None]]:
    """Kind, purpose and number of signatures of each record."""
    rows = select("SELECT kind, object, detail FROM operation_record WHERE kind LIKE 'key%' ORDER BY record_id")
    return [(kind, about.split()[1], json.loads(detail).get("signatures")) for kind, about, detail in rows]


def test_every_command_that_signs_says_for_what_and_how_often(
    instance: Path, tmp_path: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself or by processes; a rehearsal signs nothing."""
    assert uses() == [("key_opened", "lists", None), ("key_used", "lists", 64)]
    monkeypatch.setattr(issuing, "BULK_LINES", 2)
    notices = tmp_path / "notices.jsonl"
    for certificates in (2, 3):
        notices.write_bytes(b"".join(notice_line(number) for number in range(10 * certificates, 11 * certificates)))
        assert prefca("issue", notices, "--results", tmp_path / str(certificates), "--processes", "2").status == 0
    assert prefca("batch", "--dry-run").status == 0
    assert prefca("ocsp-delegate", "create").status == 0
    told = [("certificates", 2), ("certificates", 3), ("rehearsal", 0), ("delegate", 1)]
    assert uses()[2:] == [
        one for purpose, count in told for one in (("key_opened", purpose, None), ("key_used", purpose, count))
    ]


async def test_work_that_failed_is_told_too(ca: FoundedCA) -> None:
    """With the signatures that were made; who was killed leaves the first record alone."""

    async def work() -> None:
        async with used_key(ca.installation, "lists", lambda: NOW) as used:
            used.signer.sign_digest(bytes(32))
            raise NotNowError("the database is away")

    with pytest.raises(NotNowError):
        await work()
    found = await ca.query("SELECT array_agg(kind || detail) FROM operation_record WHERE object LIKE '% lists'")
    assert found == ["key_opened{}", 'key_used{"signatures": 1}']
