"""An installation as its operator has it: made with `prefca`, run with `prefca up`, in processes of its own."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

from pkix.validity import JST
from settings.sections import Endpoint
from tests.support.ca import notice_line
from tests.support.database import reachable_directory

T = TypeVar("T")

PREFCA: Final = Path(sys.executable).with_name("prefca")
READY_LINE: Final = "Ctrl-C stops everything.\n"
RESIDENTS: Final = 4  # samples in as many municipalities: the first is good, the second revoked
COMMAND_TIMEOUT_S: Final = 60
STOP_TIMEOUT_S: Final = 30
DEADLINE_S: Final = 20
POLL_S: Final = 0.05
NOT_DURING_THE_TESTS: Final = f"{datetime.now(JST) + timedelta(hours=12):%H:%M}"
_NUMBERS: Final = count(1)


@dataclass(frozen=True, slots=True)
class Resident:
    """Somebody who has a certificate; the key pair is made by OpenSSL."""

    serial: str  # hexadecimal, as the commands take it
    certificate: Path  # PEM
    private_key: Path  # PEM


@dataclass(frozen=True, slots=True)
class Up:
    """A `prefca up` that serves."""

    process: subprocess.Popen[str]
    table: str  # what it printed

    def servers(self) -> dict[str, int]:
        """The servers that it runs: process id by module. Commands of its scheduler come and go beside them."""
        pid = self.process.pid
        children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        commands = {child: Path(f"/proc/{child}/cmdline").read_text().split("\0") for child in children}
        modules = {
            command[command.index("issuer.child") + 2]: child
            for child, command in commands.items()
            if "issuer.child" in command
        }
        return {module: child for module, child in modules.items() if module != "issuer"}


@dataclass(frozen=True, slots=True)
class RunningCA:
    """A test CA of Tokyo with sample residents and a relying party; whether it is up, `up` decides."""

    instance: Path
    ocsp: Endpoint
    ocsp_tls: Endpoint
    ocsp_admin: Endpoint
    ldap: Endpoint
    ldaps: Endpoint
    bind_name: str = "uid=sample-verifier,ou=Relying Parties,o=JPKI,c=JP"
    samples: Path = Path("sample")  # below the instance

    @property
    def ca(self) -> Path:
        """The CA certificate, PEM."""
        return self.instance / self.samples / "ca.pem"

    @property
    def good(self) -> Path:
        """A certificate of a resident of Chiyoda-ku, PEM."""
        return self.instance / self.samples / "good.pem"

    @property
    def revoked(self) -> Path:
        """A certificate of a resident of Chuo-ku, revoked for keyCompromise, PEM."""
        return self.instance / self.samples / "revoked.pem"

    @property
    def service_ca(self) -> Path:
        """What a client of the TLS servers trusts, PEM."""
        return self.instance / "tls" / "service-ca.pem"

    @property
    def password_file(self) -> Path:
        """The password of the relying party, without a line end."""
        return self.instance / "sample" / "verifier.password"

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Everything that its servers listen at."""
        return self.ocsp, self.ocsp_tls, self.ocsp_admin, self.ldap, self.ldaps

    @property
    def ocsp_url(self) -> str:
        """Where the responder is."""
        return f"http://{self.ocsp}/"

    def prefca(self, *arguments: object) -> str:
        """Run a command and return what it prints; it must succeed."""
        done = subprocess.run(
            [PREFCA, *map(str, arguments)],
            env=self._environment(),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        return done.stdout

    def report(self, *arguments: str) -> Any:
        """The same for a command that prints JSON."""
        return json.loads(self.prefca(*arguments, "--json"))

    def issue(self, directory: Path) -> Resident:
        """Issue a certificate to a new resident of Minato-ku, into an empty `directory`."""
        number = next(_NUMBERS)
        key, public_key, notices = (directory / name for name in ("key.pem", "public.der", "notices.jsonl"))
        _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key)
        _openssl("pkey", "-in", key, "-pubout", "-outform", "DER", "-out", public_key)
        fields = {
            "municipality": "131032",
            "address": f"東京都港区テスト町{number}－２－３",
            "public_key": base64.b64encode(public_key.read_bytes()).decode(),
        }
        notices.write_bytes(notice_line(number, **fields))
        results = directory / "results.jsonl"
        self.prefca("issue", notices, "--results", results)
        serial = json.loads(results.read_text(encoding="utf-8"))["serial"]
        certificate = directory / "certificate.pem"
        self.prefca("export", "certificate", serial, "--output", certificate)
        return Resident(serial, certificate, key)

    @contextmanager
    def up(self, **variables: str) -> Iterator[Up]:
        """`prefca up`, from its table on; at the end SIGTERM, which it must obey with exit status 0.

        The test may kill it itself. `variables` are added to its environment.
        """
        environment = {**self._environment(), **variables}
        with subprocess.Popen((PREFCA, "up"), env=environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield Up(process, _table(process))
            finally:
                process.terminate()
                status = _wait(process)
        assert status in {0, -signal.SIGKILL}, f"`prefca up` ended with status {status}"

    def _environment(self) -> Mapping[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFCA_")}
        return inherited | {
            "PREFCA_INSTANCE": str(self.instance),
            "PREFCA_OCSP__LISTEN": str(self.ocsp),
            "PREFCA_OCSP__TLS_LISTEN": str(self.ocsp_tls),
            "PREFCA_OCSP__ADMIN_LISTEN": str(self.ocsp_admin),
            "PREFCA_REPOSITORY__LISTEN": str(self.ldap),
            "PREFCA_REPOSITORY__TLS_LISTEN": str(self.ldaps),
            "PREFCA_REPOSITORY__ADMIN_LISTEN": "",
            "PREFCA_SCHEDULER__ADMIN_LISTEN": "",
            "PREFCA_SCHEDULE__DAILY_AT": NOT_DURING_THE_TESTS,
        }


@contextmanager
def installed_ca() -> Iterator[RunningCA]:
    """A new installation, which is not up; everything of it is gone afterwards."""
    with reachable_directory() as directory:
        ca = _installation(directory / "instance")
        ca.prefca("init")
        ca.prefca("sample", "--count", RESIDENTS)
        yield ca


def accepts_connections(endpoint: Endpoint) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(endpoint, timeout=DEADLINE_S).close()
    except ConnectionRefusedError:
        return False
    return True


def eventually(condition: Callable[[], T], what: str) -> T:
    """Wait until `condition` gives something that is true, and return that.

    Raises:
        AssertionError: it does not, long after it should.
    """
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still not, after {DEADLINE_S} s: {what}"
        time.sleep(POLL_S)
    return found


def _installation(instance: Path) -> RunningCA:
    """With ports of the loopback interface that nobody has now."""
    with ExitStack() as held:

        def free() -> Endpoint:
            return Endpoint(*held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname())

        return RunningCA(instance, ocsp=free(), ocsp_tls=free(), ocsp_admin=free(), ldap=free(), ldaps=free())


def _table(up: subprocess.Popen[str]) -> str:
    lines = []
    for line in up.stdout or ():
        lines.append(line)
        if line == READY_LINE:
            return "".join(lines)
    raise RuntimeError("`prefca up` ended; standard error says why")


def _wait(process: subprocess.Popen[str]) -> int:
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=COMMAND_TIMEOUT_S)
