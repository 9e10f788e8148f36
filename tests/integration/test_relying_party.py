"""`prefca relying-party`: who may ask, from when on, and that a right that ends ends at once."""

from pathlib import Path
from typing import Any

import argon2
import pytest

from tests.support.command import Prefca, select

pytestmark = pytest.mark.req("R-1-3-1-2", "R-4-4-4-3", "R-4-4-4-5", "R-2-1-2-32")
PASSWORD = "correct horse battery"


def add(prefca: Prefca, name: str = "ward-tax", *options: str) -> None:
    ended = prefca("relying-party", "add", name, *(options or ("--right", "ocsp", "--right", "crl")))
    assert (ended.status, ended.stderr) == (0, "")


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """A file with a password, and a line that does not belong to it."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\nsecond line\n")
    return file


def grants(user: str) -> list[tuple[Any, ...]]:
    """Kind and secret of the credentials that a server sees in its own role."""
    view = {"prefca_ocsp": "ocsp_access_v1", "prefca_repository": "repository_access_v1"}[user]
    return select(f"SELECT kind, secret_hash FROM {view}", user)


def test_a_party_is_recognised_by_its_credentials(instance: Path, prefca: Prefca, password_file: Path) -> None:
    """Registered first, then given a password and a network; the list shows all of it but the password."""
    add(prefca, "ward-tax", "--right", "ocsp", "--right", "crl", "--description", "千代田区税務課")
    ended = prefca("relying-party", "credential", "add", "password", "ward-tax", "--password-file", password_file)
    assert ended.stdout == "ward-tax binds as uid=ward-tax,ou=Relying Parties,o=JPKI,c=JP with that password\n"
    assert prefca("relying-party", "credential", "add", "network", "ward-tax", "192.0.2.0/24").status == 0
    (shown,) = prefca("relying-party", "list", "--json").json
    assert (shown["name"], shown["description"], shown["state"]) == ("ward-tax", "千代田区税務課", "active")
    assert (shown["rights"], shown["credentials"]) == (["ocsp", "crl"], ["password", "192.0.2.0/24"])
    assert "千代田区税務課" in prefca("relying-party", "list").stdout
    ((kind, secret_hash),) = grants("prefca_repository")
    assert kind == "password"
    assert argon2.PasswordHasher().verify(secret_hash, PASSWORD)
    assert {kind for kind, _ in grants("prefca_ocsp")} == {"password", "network"}


@pytest.mark.parametrize(
    ("right", "visible"),
    [
        ("ocsp", {"prefca_ocsp": 1, "prefca_repository": 0}),
        ("crl", {"prefca_ocsp": 0, "prefca_repository": 1}),
    ],
)
def test_a_server_sees_only_who_has_its_right(
    right: str, visible: dict[str, int], instance: Path, prefca: Prefca, password_file: Path
) -> None:
    """A party that may ask for statuses may not read lists, and the other way round."""
    add(prefca, "ward-tax", "--right", right)
    prefca("relying-party", "credential", "add", "password", "ward-tax", "--password-file", password_file)
    assert {user: len(grants(user)) for user in visible} == visible


@pytest.mark.parametrize("end", ["suspend", "withdraw"])
def test_a_right_that_ends_ends_at_once(end: str, instance: Path, prefca: Prefca, password_file: Path) -> None:
    """Suspended parties come back, withdrawn ones do not."""
    add(prefca)
    prefca("relying-party", "credential", "add", "password", "ward-tax", "--password-file", password_file)
    assert prefca("relying-party", end, "ward-tax").status == 0
    assert grants("prefca_ocsp") == grants("prefca_repository") == []
    resumed = prefca("relying-party", "resume", "ward-tax")
    assert resumed.status == (0 if end == "suspend" else 3)
    assert len(grants("prefca_repository")) == (1 if end == "suspend" else 0)


def test_a_new_password_takes_the_place_of_the_old_one(instance: Path, prefca: Prefca, password_file: Path) -> None:
    """One at a time."""
    add(prefca)
    for secret in ("the first password", "the second password"):
        password_file.write_text(secret)
        assert (
            prefca(
                "relying-party", "credential", "add", "password", "ward-tax", "--password-file", password_file
            ).status
            == 0
        )
    ((_, secret_hash),) = grants("prefca_repository")
    assert argon2.PasswordHasher().verify(secret_hash, "the second password")


def test_an_agreement_has_its_dates(instance: Path, prefca: Prefca) -> None:
    """The servers get them with the credentials and decide for each question."""
    add(prefca, "later", "--right", "crl", "--from", "2030-04-01", "--until", "2031-04-01")
    (shown,) = prefca("relying-party", "list", "--json").json
    assert (shown["agreed_from"], shown["agreed_until"]) == ("2030-04-01T00:00:00Z", "2031-04-01T00:00:00Z")


def test_a_name_is_registered_once(instance: Path, prefca: Prefca) -> None:
    """Also after its agreement has ended."""
    add(prefca)
    prefca("relying-party", "withdraw", "ward-tax")
    ended = prefca("relying-party", "add", "ward-tax", "--right", "crl")
    assert ended.status == 3
    assert ended.complaint == "ward-tax is registered already; choose another name"


@pytest.mark.req("R-4-11-2-1")
def test_every_change_of_rights_is_recorded(instance: Path, prefca: Prefca, password_file: Path) -> None:
    """Without the password."""
    add(prefca)
    prefca("relying-party", "credential", "add", "password", "ward-tax", "--password-file", password_file)
    prefca("relying-party", "suspend", "ward-tax")

    acts = select("SELECT kind, detail FROM operation_record WHERE object = 'ward-tax' ORDER BY record_id")
    assert [kind for kind, _ in acts] == ["relying_party_added", "credential_added", "relying_party_state"]
    assert not any(PASSWORD in detail for _, detail in acts)


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["add", "税務課", "--right", "crl"], 3, "use up to 64 letters, digits and"),
        (["add", "x" * 65, "--right", "crl"], 3, "use up to 64 letters, digits and"),
        (["add", "", "--right", "crl"], 3, "use up to 64 letters, digits and"),
        (["add", "new"], 2, "Missing option '--right'"),
        (["add", "new", "--right", "everything"], 2, "'everything' is not one of"),
        (["add", "new", "--right", "crl", "--from", "2030-01-01", "--until", "2029-01-01"], 3, "ends before it begins"),
        (["add", "new", "--right", "crl", "--from", "soon"], 2, "does not match the format"),
        (
            ["credential", "add", "password", "nobody", "--password-file", "{password}"],
            3,
            "nobody is not registered; `prefca relying-party list`",
        ),
        (
            ["credential", "add", "password", "ward-tax", "--password-file", "/nonexistent"],
            2,
            "'/nonexistent' does not exist",
        ),
        (["credential", "add", "password", "ward-tax", "--password-file", "{short}"], 3, "use at least 12 characters"),
        (["credential", "add", "password", "ward-tax", "--password-file", "{binary}"], 3, "not UTF-8 text"),
        (["credential", "add", "password", "ward-tax"], 2, "give --password-file, or run the command on a terminal"),
        (
            ["credential", "add", "network", "ward-tax", "192.0.2.1/24"],
            3,
            "has host bits set; write a network such as 192.0.2.0/24",
        ),
        (["credential", "add", "network", "ward-tax", "everywhere"], 3, "write a network such as 192.0.2.0/24"),
        (["credential", "add", "network", "nobody", "192.0.2.0/24"], 3, "nobody is not registered"),
        (["suspend", "nobody"], 3, "nobody is not registered, or was withdrawn; `prefca relying-party list`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_registered_is_answered_with_one_line(
    arguments: list[str],
    status: int,
    complaint: str,
    shared_instance: Path,
    prefca: Prefca,
    password_file: Path,
    tmp_path: Path,
) -> None:
    """The status tells which kind of mistake it was, the line what to do."""
    files = {"password": password_file, "short": tmp_path / "short", "binary": tmp_path / "binary"}
    files["short"].write_text("short")
    files["binary"].write_bytes(b"\xff\xfe" * 20)
    ended = prefca("relying-party", *(argument.format(**files) for argument in arguments))
    assert ended.status == status
    assert complaint in ended.complaint
