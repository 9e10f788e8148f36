"""`prefca up`: what it says when it cannot begin."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command import Prefca

KEYS = {
    "ocsp.listen": "PREFCA_OCSP__LISTEN",
    "repository.listen": "PREFCA_REPOSITORY__LISTEN",
    "scheduler.admin_listen": "PREFCA_SCHEDULER__ADMIN_LISTEN",
}
TLS = {"ocsp.tls_listen": "PREFCA_OCSP__TLS_LISTEN", "repository.tls_listen": "PREFCA_REPOSITORY__TLS_LISTEN"}


@contextmanager
def taken_address(host: str) -> Iterator[str]:
    """An address that another program listens at."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        yield f"[{host}]:{port}" if family is socket.AF_INET6 else f"{host}:{port}"


@pytest.mark.parametrize("key", [*KEYS, *TLS])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_that_is_taken_is_told_before_anything_starts(
    host: str, key: str, shared_instance: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variable to change; nobody may take the other program for the responder."""
    for variable in (KEYS | TLS).values():
        monkeypatch.setenv(variable, "127.0.0.1:0")
    with taken_address(host) as address:
        monkeypatch.setenv((KEYS | TLS)[key], address)
        ended = prefca("up")
    assert ended.status == 4
    advice = f"stop what listens there, or change {(KEYS | TLS)[key]} in the environment"
    assert ended.complaint == f"{address}: Address already in use; {advice}"


def test_an_address_of_another_machine_is_told_so(
    shared_instance: Path, prefca: Prefca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be listened at there."""
    monkeypatch.setenv("PREFCA_OCSP__LISTEN", "192.0.2.1:2560")
    ended = prefca("up")
    assert ended.status == 4
    assert ended.complaint.startswith("192.0.2.1:2560: Cannot assign requested address; ")
