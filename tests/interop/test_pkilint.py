"""pkilint holds everything that this CA signs against RFC 5280 and RFC 6960."""

import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.interop.clients import NEVER_ISSUED, ocsp, run
from tests.support.running import RunningCA

ACCEPTED: Final = tomllib.loads(Path(__file__).with_name("accepted_findings.toml").read_text(encoding="utf-8"))[
    "finding"
]

# How to get an object into a file of the given name.
Fetch = Callable[[RunningCA, Path], Path]


def exported(*what: str) -> Fetch:
    """With `prefca export`."""

    def fetch(ca: RunningCA, file: Path) -> Path:
        ca.prefca("export", *what, "--output", file)
        return file

    return fetch


def delegate(ca: RunningCA, file: Path) -> Path:
    """The certificate of the responder."""
    (certificate,) = ca.report("list", "--kind", "ocsp")
    return exported("certificate", certificate["serial"])(ca, file)


def response(*question: str) -> Fetch:
    """An answer to `openssl ocsp`; {…} stands for a file of the CA."""

    def fetch(ca: RunningCA, file: Path) -> Path:
        ocsp(ca, *(word.format(good=ca.good, revoked=ca.revoked) for word in question), "-respout", file)
        return file

    return fetch


CERTIFICATE, RESPONSE = ["lint_pkix_cert"], ["lint_ocsp_response"]
CRL, ARL = (["lint_crl", "--profile", "PKIX", "--type", kind] for kind in ("CRL", "ARL"))
OBJECTS: Final[dict[str, tuple[list[str], Fetch]]] = {
    "CA certificate": (CERTIFICATE, lambda ca, _: ca.ca),
    "resident certificate": (CERTIFICATE, lambda ca, _: ca.good),
    "OCSP delegate certificate": (CERTIFICATE, delegate),
    "TLS server certificate": (CERTIFICATE, lambda ca, _: ca.instance / "tls" / "ldap.pem"),
    "TLS CA certificate": (CERTIFICATE, lambda ca, _: ca.service_ca),
    "municipal list, empty": (CRL, exported("crl", "131016")),
    "municipal list, with an entry": (CRL, exported("crl", "131024")),
    "list of operations certificates": (CRL, exported("operations-crl")),
    "ARL": (ARL, exported("arl")),
    "OCSP response: good": (RESPONSE, response("-cert", "{good}")),
    "OCSP response: revoked": (RESPONSE, response("-cert", "{revoked}")),
    "OCSP response: unknown": (RESPONSE, response("-serial", NEVER_ISSUED)),
    "OCSP response: several": (RESPONSE, response("-no_nonce", "-cert", "{good}", "-cert", "{revoked}")),
}


@pytest.mark.req("R-4-2-2-1", "R-4-4-4-1-1", "R-4-4-4-4-1")
@pytest.mark.parametrize("kind", OBJECTS)
def test_pkilint_finds_only_what_is_accepted(running_ca: RunningCA, tmp_path: Path, kind: str) -> None:
    """Neither more nor less than accepted_findings.toml lists."""
    (linter, *options), fetch = OBJECTS[kind]
    accepted = {finding["code"] for finding in ACCEPTED if kind in finding["objects"]}
    assert findings(linter, *options, fetch(running_ca, tmp_path / "object")) == accepted


@pytest.mark.req("R-4-2-2-1")
@pytest.mark.parametrize("kind", ["resident certificate", "OCSP delegate certificate"])
def test_pkilint_finds_that_certificates_fit_their_issuer(running_ca: RunningCA, tmp_path: Path, kind: str) -> None:
    """Names, key identifiers, policies, and the signature."""
    _, fetch = OBJECTS[kind]
    certificate = fetch(running_ca, tmp_path / "object")
    assert findings("lint_pkix_signer_signee_cert_chain", running_ca.ca, certificate) == set()


def test_every_accepted_finding_names_objects_that_are_linted() -> None:
    """A misspelt kind of object would accept nothing."""
    assert {kind for finding in ACCEPTED for kind in finding["objects"]} <= OBJECTS.keys()


def findings(linter: str, *arguments: object) -> set[str]:
    """The codes of what a linter finds."""
    program = Path(sys.executable).with_name(linter)
    done = run(program, "lint", "--severity", "NOTICE", "--format", "JSON", *arguments)
    results = json.loads(done.stdout)["results"]
    return {description["code"] for result in results for description in result["finding_descriptions"]}
