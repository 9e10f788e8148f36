"""How strangers ask: OpenSSL, and the LDAP tools of OpenLDAP."""

import base64
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from tests.support.running import RunningCA

CA_ENTRY: Final = "OU=Test The Governor of Tokyo-to,OU=Tokyo-to,O=JPKI Test,C=JP"
NEVER_ISSUED: Final = "0x4000000000000001"  # a serial number
INVALID_CREDENTIALS: Final = 49
TIMEOUT_S: Final = 30

Access = Literal["anonymous", "starttls", "ldaps"]  # the latter two bind as the relying party
Entries = Mapping[str, Mapping[str, list[bytes]]]  # DN to attribute description to values


def list_entry(municipality: str) -> str:
    """The DN of the entry that holds the list of a municipality: the one in its residents' certificates."""
    return f"CN={municipality} CRLDP,OU=CRL Distribution Points,OU=Tokyo-to,O=JPKI Test,C=JP"


def run(*command: object, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a foreign program, whatever becomes of it; each argument as its text."""
    return subprocess.run(
        list(map(str, command)),
        check=False,
        env={**os.environ, "no_proxy": "127.0.0.1", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def ocsp(ca: RunningCA, *arguments: object) -> str:
    """`openssl ocsp` asks the responder and verifies the answer; what it prints on both streams."""
    done = run("openssl", "ocsp", "-issuer", ca.ca, "-CAfile", ca.ca, "-url", ca.ocsp_url, *arguments)
    return done.stderr + done.stdout


def ldap_tool(
    program: str, ca: RunningCA, *arguments: object, access: Access = "anonymous", password: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of the LDAP tools; its exit status is the result code of the operation."""
    address = f"ldaps://{ca.ldaps}" if access == "ldaps" else f"ldap://{ca.ldap}"
    login = ["-D", ca.bind_name, "-y", password or ca.password_file] if access != "anonymous" else []
    upgrade = ["-ZZ"] if access == "starttls" else []
    environment = {"LDAPTLS_CACERT": str(ca.service_ca)}
    return run(program, "-x", "-H", address, *upgrade, *login, *arguments, environment=environment)


def ldapsearch(ca: RunningCA, base: str, *arguments: str, scope: str = "base", access: Access = "anonymous") -> Entries:
    """A search that succeeds: the entries it returns."""
    options = ("-LLL", "-o", "ldif-wrap=no", "-b", base, "-s", scope)
    done = ldap_tool("ldapsearch", ca, *options, *arguments, access=access)
    assert done.returncode == 0, done.stderr
    return dict(map(_entry, done.stdout.strip().split("\n\n"))) if done.stdout.strip() else {}


def fetch_list(ca: RunningCA, municipality: str, file: Path) -> Path:
    """Fetch the list of a municipality as a relying party does, into a PEM file."""
    entry = list_entry(municipality)
    (attributes,) = ldapsearch(ca, entry, "certificateRevocationList", access="starttls").values()
    (value,) = attributes["certificateRevocationList;binary"]
    der = file.with_suffix(".der")
    der.write_bytes(value)
    converted = run("openssl", "crl", "-inform", "DER", "-in", der, "-out", file)
    assert converted.returncode == 0, converted.stderr
    return file


def crl_number(ca: RunningCA, municipality: str, file: Path) -> int:
    """The CRLNumber of the list that the directory has now."""
    fetched = fetch_list(ca, municipality, file)
    text = run("openssl", "crl", "-in", fetched, "-noout", "-crlnumber").stdout
    return int(text.partition("=")[2], 16)


def _entry(ldif: str) -> tuple[str, dict[str, list[bytes]]]:
    attributes: dict[str, list[bytes]] = {}
    for line in ldif.splitlines():
        description, _, value = line.partition(":")
        octets = base64.b64decode(value[1:]) if value.startswith(":") else value.strip().encode()
        attributes.setdefault(description, []).append(octets)
    (name,) = attributes.pop("dn")
    return name.decode(), attributes
