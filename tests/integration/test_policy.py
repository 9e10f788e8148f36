"""The policy of certificates is changed by several persons, and what they agreed to can be checked."""

from pathlib import Path

import pytest

from tests.support.command import Prefca
from tests.support.operators import agree, write_staff

pytestmark = pytest.mark.req("R-5-2-1-1")


def test_what_relying_parties_see_is_agreed_to(
    instance: Path, tmp_path: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever edits the settings afterwards is found out; what they agreed to is not what came of it in between."""
    staff = tmp_path / "staff"
    assert "nothing was agreed to yet" in prefca("policy", "check").complaint
    assert prefca("operator", "first", write_staff(staff)).status == 0
    agree(
        prefca, staff, prefca("policy", "change", "リストの有効期間", "--json").json["operation"], "senior1", "senior2"
    )
    assert prefca("policy", "check").status == 0
    number = prefca("policy", "change", "again", "--json").json["operation"]
    monkeypatch.setenv("PREFCA_CRL__VALIDITY_H", "96")
    checked = prefca("policy", "check")
    assert (checked.status, "are NOT as agreed" in checked.stdout) == (3, True)
    for name in ("senior1", "senior2"):
        key = ("--key", staff / f"{name}.pem", "--passphrase-file", staff / "passphrase", "--yes", "--json")
        assert prefca("operation", "approve", str(number), *key).status == 0
    assert "are others than those that were agreed to" in prefca("operation", "run", str(number)).complaint
    monkeypatch.setenv("PREFCA_SCHEDULER__RETRY_S", "31")
    monkeypatch.delenv("PREFCA_CRL__VALIDITY_H")
    assert prefca("policy", "check").status == 0


def test_a_change_says_why(shared_instance: Path, prefca: Prefca) -> None:
    """It is read by auditors."""
    assert "say what is changed and why" in prefca("policy", "change", " ").complaint
