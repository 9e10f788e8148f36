"""OpenLDAP's server with the same entries as ours."""

import base64
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from repository.dit import Entry

SLAPD: Final = Path("/usr/sbin/slapd")
_SCHEMA: Final = Path("/etc/ldap/schema/core.schema")
_START_S: Final = 20
_CONFIGURATION: Final = """
include {schema}
pidfile {directory}/slapd.pid
argsfile {directory}/slapd.args
modulepath /usr/lib/ldap
moduleload back_mdb
sizelimit 1000
{access}
database mdb
maxsize 16777216
suffix "c=JP"
rootdn "{reader}"
rootpw "{password}"
directory {directory}/data
"""


@contextmanager
def slapd(directory: Path, entries: Iterable[Entry], *, access: str, reader: str, password: str) -> Iterator[int]:
    """Run it on a port of the loopback interface, which is yielded.

    Args:
        directory: an empty one, for its files.
        entries: the tree, with all values.
        access: directives of slapd.conf: who reads what.
        reader: the DN of somebody who reads everything.
        password: of the reader.
    """
    # A copy elsewhere is not held back by Debian's AppArmor profile, which names the path of the original.
    program = directory / "slapd"
    shutil.copy(SLAPD, program)
    (directory / "data").mkdir()
    configuration, ldif = directory / "slapd.conf", directory / "tree.ldif"
    configuration.write_text(
        _CONFIGURATION.format(schema=_SCHEMA, directory=directory, access=access, reader=reader, password=password)
    )
    ldif.write_text("\n".join(map(_ldif, sorted(entries, key=lambda entry: len(entry.name.key)))))
    subprocess.run([program, "-T", "add", "-f", configuration, "-b", "c=JP", "-l", ldif], check=True, timeout=60)
    port = _free_port()
    command: list[str | Path] = [program, "-f", configuration, "-h", f"ldap://127.0.0.1:{port}", "-d", "0"]
    with subprocess.Popen(command) as process:
        try:
            _await(port, process)
            yield port
        finally:
            process.terminate()


def _ldif(entry: Entry) -> str:
    lines = [f"dn:: {_base64(entry.name.text.encode())}"]
    for attribute, values in entry.complete.items():
        if not attribute.operational:
            lines += [f"{attribute.description}:: {_base64(value)}" for value in values]
    return "\n".join(lines) + "\n"


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            assert process.poll() is None, "slapd ended"
            assert time.monotonic() < deadline, "slapd does not listen"
            time.sleep(0.05)
        else:
            return
