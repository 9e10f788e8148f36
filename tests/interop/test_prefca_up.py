"""`prefca up` seen from outside: what is issued, revoked or published is seen without a restart, and survives one."""

import os
import re
import shutil
import signal
import ssl
import time
from datetime import datetime
from pathlib import Path

import pytest

from pkix.validity import JST
from tests.interop.clients import INVALID_CREDENTIALS, crl_number, fetch_list, ldap_tool, ocsp, run
from tests.support.running import RunningCA, Up, accepts_connections, eventually

# What the lines to paste print, in their order.
PASTED = [
    "good.pem: good",
    "revoked.pem: revoked",
    "certificateRevocationList;binary",
    "cACertificate;binary",
    "authorityRevocationList;binary",
]


def test_the_lines_to_paste_work_as_they_are(serving: tuple[RunningCA, Up]) -> None:
    """Each command that `prefca up` prints succeeds in a shell, and shows what it promises."""
    _, up = serving
    commands = re.findall(r"^  ((?:LDAP\w+=\S+ )?(?:openssl|ldapsearch|curl) .*)$", up.table, re.MULTILINE)
    for command, promised in zip(commands, PASTED, strict=True):
        done = run("sh", "-c", command)
        assert done.returncode == 0, done.stderr
        assert promised in done.stdout


@pytest.mark.req("R-4-4-3-1", "R-2-1-9-1", "R-2-6-2-1")
def test_a_new_publication_is_in_the_directory_without_a_restart(running_ca: RunningCA, tmp_path: Path) -> None:
    """`prefca batch --now` raises the CRLNumber that ldapsearch sees."""
    file = tmp_path / "list.pem"
    before = crl_number(running_ca, "Chiyoda-ku", file)
    running_ca.prefca("batch", "--now")
    eventually(lambda: crl_number(running_ca, "Chiyoda-ku", file) > before, "a list with a higher number")


@pytest.mark.req("R-4-4-3-1", "R-4-4-9-1", "R-4-4-10", "R-2-6-2-1")
def test_lists_that_came_due_while_it_was_down_are_published_at_once(idle_ca: RunningCA, tmp_path: Path) -> None:
    """And the directory has them."""
    idle_ca.prefca("batch", "--now")
    (before,) = {one["crl_number"] for one in idle_ca.report("status")["lists"]}
    time.sleep(1)  # lists are dated in whole seconds
    just_now = f"{datetime.now(JST):%H:%M:%S}"
    with idle_ca.up(PREFCA_SCHEDULE__DAILY_AT=just_now):
        file = tmp_path / "list.pem"
        eventually(lambda: crl_number(idle_ca, "Chiyoda-ku", file) == before + 1, "lists with the next number")


@pytest.mark.req("R-4-4-4-3", "R-4-4-4-5", "R-1-3-1-2")
def test_a_right_ends_and_comes_back_without_a_restart(idle_ca: RunningCA) -> None:
    """Suspended, a relying party is told nothing by the responder, and cannot bind to the directory."""

    def is_told() -> bool:
        return "good.pem: good" in ocsp(idle_ca, "-cert", idle_ca.good)

    def is_refused() -> bool:
        return "unauthorized (6)" in ocsp(idle_ca, "-cert", idle_ca.good)

    def bind_result() -> int:
        return ldap_tool("ldapwhoami", idle_ca, access="ldaps").returncode

    with idle_ca.up():
        eventually(is_told, "OCSP says good")
        eventually(lambda: bind_result() == 0, "the directory accepts the bind")
        idle_ca.prefca("relying-party", "suspend", "sample-verifier")
        eventually(is_refused, "OCSP says unauthorized")
        eventually(lambda: bind_result() == INVALID_CREDENTIALS, "the directory refuses the bind")
        idle_ca.prefca("relying-party", "resume", "sample-verifier")
        eventually(is_told, "OCSP says good again")
        eventually(lambda: bind_result() == 0, "the directory accepts the bind again")


@pytest.mark.req("R-2-1-2-20", "R-4-4-2-4")
def test_a_second_start_finds_everything(idle_ca: RunningCA, tmp_path: Path) -> None:
    """The same certificates and the same lists to the octet; what was revoked stays revoked."""
    first, second = tmp_path / "first.pem", tmp_path / "second.pem"
    with idle_ca.up():
        before = idle_ca.report("status")
        fetch_list(idle_ca, "Chuo-ku", first)
    with idle_ca.up():
        assert idle_ca.report("status") == before
        assert fetch_list(idle_ca, "Chuo-ku", second).read_bytes() == first.read_bytes()
        assert "revoked.pem: revoked" in ocsp(idle_ca, "-cert", idle_ca.revoked)


def test_sighup_is_passed_on(idle_ca: RunningCA) -> None:
    """The servers go on, with the certificate for TLS that has been put to its place meanwhile."""

    def served() -> str:
        return ssl.get_server_certificate(idle_ca.ldaps)

    tls = idle_ca.instance / "tls"
    with idle_ca.up() as up:
        servers, before = up.servers(), served()
        for part in ("pem", "key.pem"):
            shutil.copyfile(tls / f"ocsp.{part}", tls / f"ldap.{part}")
        up.process.send_signal(signal.SIGHUP)
        eventually(lambda: served() != before, "the new certificate is served")
        assert up.servers() == servers


@pytest.mark.req("R-2-6-4", "R-4-4-3-2", "R-2-1-2-21")
def test_a_killed_server_comes_back(idle_ca: RunningCA) -> None:
    """After kill -9 of each server `prefca up` starts it again, and it answers as before."""
    with idle_ca.up() as up:
        killed = up.servers()
        assert killed.keys() == {"ocsp", "repository"}
        for process in killed.values():
            os.kill(process, signal.SIGKILL)
        eventually(lambda: "good.pem: good" in ocsp(idle_ca, "-cert", idle_ca.good), "OCSP answers again")
        eventually(lambda: ldap_tool("ldapwhoami", idle_ca, access="ldaps").returncode == 0, "the directory is back")
        assert not set(up.servers().values()) & set(killed.values())


@pytest.mark.req("R-4-14-1", "R-2-6-4")
def test_a_killed_prefca_up_leaves_no_server_behind_and_loses_nothing(idle_ca: RunningCA, tmp_path: Path) -> None:
    """After kill -9 of `prefca up` its servers end, and the next one goes on with the same data."""
    resident = idle_ca.issue(tmp_path)
    with idle_ca.up() as up:
        idle_ca.prefca("revoke", resident.serial, "--reason", "superseded")
        up.process.kill()
        up.process.wait()
        eventually(lambda: not any(map(accepts_connections, idle_ca.endpoints)), "nobody listens any more")
    with idle_ca.up():
        assert f"{resident.certificate}: revoked" in ocsp(idle_ca, "-cert", resident.certificate)
        idle_ca.prefca("batch", "--now")
        revocation_list = tmp_path / "list.pem"
        check = ["-crl_check", "-CRLfile", revocation_list, resident.certificate]

        def verdict() -> str:
            fetch_list(idle_ca, "Minato-ku", revocation_list)
            return run("openssl", "verify", "-CAfile", idle_ca.ca, *check).stderr

        eventually(lambda: "certificate revoked" in verdict(), "the list with the revocation is in the directory")
