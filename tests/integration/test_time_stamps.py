"""Roots of the journals are stamped by an authority (RFC 3161), which proves since when everything is there."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import ROOT, Prefca
from tests.support.segments import answered, written
from tests.support.tsa import TimeStampServer, time_stamp_server

pytestmark = pytest.mark.req("R-4-12-2-5", "R-4-11-5-1")
CHECK = ROOT / "scripts" / "check-journal-proof"
AUTHORITY, ROOTS = "PREFCA_ARCHIVE__TIME_STAMP_AUTHORITY", "PREFCA_ARCHIVE__TIME_STAMP_ROOTS"


@pytest.fixture
def tsa(tmp_path: Path, instance: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TimeStampServer]:
    """The authority of the instance."""
    assert instance.exists()
    with time_stamp_server(tmp_path / "tsa") as server:
        monkeypatch.setenv(AUTHORITY, server.address)
        monkeypatch.setenv(ROOTS, str(server.roots))
        yield server


def collected(instance: Path, prefca: Prefca, times: int = 1) -> None:
    for _ in range(times):
        written(instance, "ocsp-0", *[answered("tester")] * 5)
        assert prefca("journal", "collect").status == 0


def checked(proof: Path, key: str, tsa: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-E", str(CHECK), str(proof), key, str(tsa)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_the_newest_root_is_stamped_once(instance: Path, prefca: Prefca, tsa: TimeStampServer) -> None:
    """A stamp proves the roots before it too, so each is asked for when something new has come; verify checks it."""
    assert "no root yet" in prefca("journal", "stamp").stdout
    collected(instance, prefca, 2)
    stamps = [prefca("journal", "stamp", "--json").json["root"] for _ in range(2)]
    assert (stamps, tsa.queries) == ([2, None], 1)
    assert prefca("journal", "verify", "--json").json["findings"] == []


def test_an_authority_that_is_away_stops_nothing_and_is_asked_again(
    instance: Path, prefca: Prefca, tsa: TimeStampServer
) -> None:
    """Journals are collected and proved without it; status 4 says to try again."""
    tsa.is_away = True
    collected(instance, prefca)
    ended = prefca("journal", "stamp")
    assert (ended.status, "answered 503; try again" in ended.complaint) == (4, True)
    assert prefca("journal", "verify").status == 0
    tsa.is_away = False
    assert prefca("journal", "stamp", "--json").json["root"] == 1


def test_an_answer_that_comes_in_portions_is_read_to_its_end(
    instance: Path, prefca: Prefca, tsa: TimeStampServer
) -> None:
    """As from far away, where it does not fit into one packet."""
    tsa.is_slow = True
    collected(instance, prefca)
    assert prefca("journal", "stamp", "--json").json["root"] == 1


def test_an_earlier_stamp_is_not_taken_for_a_new_one(
    instance: Path, prefca: Prefca, tsa: TimeStampServer, tmp_path: Path
) -> None:
    """A later root is not in it."""
    collected(instance, prefca)
    assert prefca("journal", "stamp").status == 0
    tsa.replays = (tmp_path / "tsa" / "reply.tsr").read_bytes()
    collected(instance, prefca)
    ended = prefca("journal", "stamp")
    assert (ended.status, "no time stamp by" in ended.complaint) == (3, True)


def test_nobody_else_can_stamp(
    instance: Path, prefca: Prefca, tsa: TimeStampServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An authority that others certified is refused, and so is its stamp when it is verified later."""
    collected(instance, prefca)
    with time_stamp_server(tmp_path / "other") as other:
        monkeypatch.setenv(ROOTS, str(other.roots))
        ended = prefca("journal", "stamp")
        assert (ended.status, "no time stamp by" in ended.complaint) == (3, True)
        monkeypatch.setenv(ROOTS, str(tsa.roots))
        assert prefca("journal", "stamp").status == 0
        monkeypatch.setenv(ROOTS, str(other.roots))
        ended = prefca("journal", "verify")
        assert (ended.status, "root 1: its time stamp proves nothing" in ended.stderr) == (3, True)


@pytest.mark.usefixtures("auditor")
def test_a_script_with_nothing_but_python_checks_the_stamp_above_a_record(
    instance: Path, prefca: Prefca, tsa: TimeStampServer, tmp_path: Path
) -> None:
    """Also where a later root has the stamp; it accepts no other authority, no other root and no other stamp."""
    collected(instance, prefca, 3)
    proof, key = tmp_path / "proof.json", prefca("journal", "key").stdout.strip()
    proof.write_text(prefca("journal", "prove", "ocsp-0", "1", "2").stdout)
    assert "no root above this record has a time stamp yet" in checked(proof, key, tsa.certificate).stderr
    assert prefca("journal", "stamp").status == 0
    proof.write_text(prefca("journal", "prove", "ocsp-0", "1", "2").stdout)
    ended = checked(proof, key, tsa.certificate)
    assert (ended.stderr, "(time stamp: 20" in ended.stdout) == ("", True)
    assert "not by this authority" in checked(proof, key, tsa.roots).stderr
    whole = json.loads(proof.read_text())
    first, second = whole["following_roots"]
    forged = bytearray(base64.b64decode(whole["time_stamp"]))
    forged[-5] ^= 1
    for part, told in (
        ({"following_roots": [first]}, "of something else"),
        ({"following_roots": [second]}, "does not name the one before"),
        ({"time_stamp": base64.b64encode(forged).decode()}, "not by this authority"),
        ({"time_stamp": base64.b64encode(forged[:900]).decode()}, "cut off"),
    ):
        proof.write_text(json.dumps(whole | part))
        ended = checked(proof, key, tsa.certificate)
        assert (ended.returncode, told in ended.stderr) == (1, True), (part, ended.stderr)


@pytest.mark.usefixtures("auditor")
def test_openssl_says_the_same_of_a_stamp(instance: Path, prefca: Prefca, tsa: TimeStampServer, tmp_path: Path) -> None:
    """`openssl ts -verify` accepts it for the root, and for no other."""
    collected(instance, prefca)
    assert prefca("journal", "stamp").status == 0
    proof = json.loads(prefca("journal", "prove", "ocsp-0", "1", "1").stdout)
    (tmp_path / "stamp.tsr").write_bytes(base64.b64decode(proof["time_stamp"]))
    for statement, status in ((proof["root"], 0), (proof["root"].replace("1", "2", 1), 1)):
        (tmp_path / "root").write_text(statement)
        command = ["openssl", "ts", "-verify", "-data", "root", "-in", "stamp.tsr", "-CAfile", str(tsa.roots)]
        assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == status


def test_without_an_authority_nothing_is_stamped(shared_instance: Path, prefca: Prefca) -> None:
    """And the command says what to set."""
    assert shared_instance.exists()
    ended = prefca("journal", "stamp")
    assert (ended.status, "set `archive.time_stamp_authority`" in ended.complaint) == (2, True)
