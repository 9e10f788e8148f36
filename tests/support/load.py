"""Relying parties that ask and count, while others kill the servers: what they counted is held against the report."""

import http.client
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from pkix.validity import JST
from settings.sections import Endpoint
from tests.support.repository import Client, bind_request, search_request
from tests.support.running import RunningCA, Up

SERVERS: Final = ("ocsp", "repository")
LIST: Final = "certificateRevocationList;binary"
WORKERS: Final = {"PREFCA_OCSP__WORKERS": "2", "PREFCA_REPOSITORY__WORKERS": "2"}
HEADERS: Final = {"Content-Type": "application/ocsp-request"}
_PAUSE_S: Final = 0.02


@dataclass(frozen=True)
class Party:
    """A relying party with an address and a password of its own, and what it counted, by method."""

    name: str
    address: str
    password: bytes
    given: Counter[str] = field(default_factory=Counter)  # answers that arrived
    unsure: Counter[str] = field(default_factory=Counter)  # asked, and the server was killed

    @property
    def bind_name(self) -> str:
        """As the directory knows it."""
        return f"uid={self.name},ou=Relying Parties,o=JPKI,c=JP"


def register(ca: RunningCA, name: str, address: str) -> Party:
    """A party with both rights."""
    party = Party(name, address, f"password of {name}".encode())
    file = ca.instance.parent / f"{name}.password"
    file.write_bytes(party.password + b"\n")
    ca.prefca("relying-party", "add", name, "--description", name, "--right", "ocsp", "--right", "crl")
    ca.prefca("relying-party", "credential", "add", "network", name, f"{address}/32")
    ca.prefca("relying-party", "credential", "add", "password", name, "--password-file", file)
    return party


def questions(ca: RunningCA) -> list[bytes]:
    """OCSP requests about residents: a good and a revoked one."""
    issuer = x509.load_pem_x509_certificate(ca.ca.read_bytes())
    asked = []
    for file in (ca.good, ca.revoked):
        resident = x509.load_pem_x509_certificate(file.read_bytes())
        request = ocsp.OCSPRequestBuilder().add_certificate(resident, issuer, hashes.SHA1()).build()
        asked.append(request.public_bytes(Encoding.DER))
    return asked


def list_entry(ca: RunningCA) -> str:
    """The entry of the municipal list of a resident."""
    resident = x509.load_pem_x509_certificate(ca.good.read_bytes())
    (point,) = resident.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    (name,) = point.full_name or [None]
    assert isinstance(name, x509.DirectoryName)
    return name.value.rfc4514_string()


Enough = Callable[[int], bool]  # whether so many requests are


def ask_ocsp(party: Party, endpoint: Endpoint, asked: Sequence[bytes], is_enough: Enough) -> Counter[str]:
    """Ask again and again, on connections that are kept; how many answers arrived and how many may have."""
    counted: Counter[str] = Counter()
    while not is_enough(counted.total()):
        connection = http.client.HTTPConnection(*endpoint, timeout=20, source_address=(party.address, 0))
        with closing(connection):
            try:
                connection.connect()
            except OSError:
                time.sleep(_PAUSE_S)
                continue
            while not is_enough(counted.total()):
                try:
                    connection.request("POST", "/", asked[counted.total() % len(asked)], HEADERS)
                    body = connection.getresponse().read()
                except (OSError, http.client.HTTPException):
                    counted["unsure"] += 1
                    break
                counted["given" if len(body) > 100 else "refused"] += 1
    return counted


def ask_ldap(party: Party, endpoint: Endpoint, entry: str, is_enough: Enough) -> Counter[str]:
    """Bind once on each connection, and read a list again and again."""
    counted: Counter[str] = Counter()
    while not is_enough(counted.total()):
        with ExitStack() as stack:
            try:
                client = stack.enter_context(Client(endpoint.port, tls=True))
                (bound,) = client.ask(bind_request(party.bind_name, party.password))
            except (OSError, ValueError):
                time.sleep(_PAUSE_S)
                continue
            assert bound.code == 0, bound
            while not is_enough(counted.total()):
                try:
                    answers = client.ask(search_request(entry, 0, None, LIST))
                except OSError:
                    answers = []
                is_given = len(answers) == 2 and LIST in answers[0].attributes
                counted["given" if is_given else "unsure"] += 1
                if not is_given:
                    break
    return counted


def ask(ca: RunningCA, party: Party, clients: int, number: int | None, until: Event | None = None) -> None:
    """Both ways at once, so many clients each; each client asks so often, or until it is told to stop."""

    def enough(asked_already: int) -> bool:
        return asked_already >= number if number is not None else (until or Event()).is_set()

    asked, entry = questions(ca), list_entry(ca)
    with ThreadPoolExecutor(2 * clients) as threads:
        over_http = [threads.submit(ask_ocsp, party, ca.ocsp, asked, enough) for _ in range(clients)]
        over_ldap = [threads.submit(ask_ldap, party, ca.ldaps, entry, enough) for _ in range(clients)]
        for method, futures in (("OCSP", over_http), ("CRL", over_ldap)):
            for future in futures:
                counted = future.result()
                assert not counted["refused"], counted
                party.given[method] += counted["given"]
                party.unsure[method] += counted["unsure"]


def workers_of(up: Up) -> list[int]:
    """The processes that answer."""
    found: list[int] = []
    for module, server in up.servers().items():  # one whose worker was killed before it was ready begins anew
        if module in SERVERS:
            found += map(int, Path(f"/proc/{server}/task/{server}/children").read_text().split())
    return found


def kill_workers(up: Up, kills: int, moments: random.Random) -> None:
    """Kill -9 of one after the other, at random moments."""
    for _ in range(kills):
        time.sleep(moments.uniform(0.1, 0.8))
        while not (workers := workers_of(up)):
            time.sleep(_PAUSE_S)  # the one before was the last that was left
        os.kill(moments.choice(workers), signal.SIGKILL)


def reported(ca: RunningCA, party: Party) -> dict[str, int]:
    """What the report of this month says of a party, by method."""
    month = f"{datetime.now(JST):%Y-%m}"
    report = json.loads(ca.prefca("report", "provision", "--month", month, "--format", "json"))
    return {one["method"]: one["items"] for one in report["provisions"] if one["recipient"] == party.name}
