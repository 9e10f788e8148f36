"""`prefca ocsp-delegate`: keys are certified, and a responder that runs signs with them."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp

from issuer.profiles.authority import Kind
from issuer.profiles.generation import State
from issuer.records.rows import CertificateRow, DelegateRow, Generation, KeyRow
from issuer.servers.delegate import RENEW_BEFORE, alarms
from pkix.revocation import CRLReason, Revoked
from tests.support.ca import rsa_key
from tests.support.command import DSN_VARIABLE, Ended, Prefca, finished, start
from tests.support.ocsp_program import running
from tests.support.softhsm import SoftHSM

pytestmark = pytest.mark.req("R-1-3-2-4")

NOW = datetime(2026, 4, 1, tzinfo=UTC)
P256 = ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Site:
    """An installation: its commands, as processes, and who asks its responder."""

    instance: Path

    @property
    def dsn(self) -> str:
        """Of its database."""
        return os.environ[DSN_VARIABLE]

    @property
    def ca(self) -> Path:
        """The CA's certificate, PEM."""
        return self.instance / "ca.pem"

    async def prefca(self, *arguments: str | Path) -> Ended:
        """How a command ended."""
        return await asyncio.to_thread(lambda: finished(start(*arguments, instance=self.instance)))

    async def create(self, *arguments: str | Path) -> dict[str, Any]:
        """What is told of a delegate that was made."""
        created: dict[str, Any] = (await self.prefca("ocsp-delegate", "create", "--json", *arguments)).json
        return created

    async def signer(self, url: str, about: str) -> x509.Certificate:
        """Who signs the answer about a delegate, which OpenSSL believes."""
        answer = self.instance / "answer.der"
        openssl = await asyncio.create_subprocess_exec(
            *("openssl", "ocsp", "-issuer", self.ca, "-CAfile", self.ca, "-serial", f"0x{about}"),
            *("-url", url, "-respout", answer),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await openssl.communicate()
        assert b"Response verify OK" in output, output
        assert f"0x{about}: good".encode() in output, output
        (certificate,) = ocsp.load_der_ocsp_response(answer.read_bytes()).certificates
        return certificate


@pytest.fixture
async def site(instance: Path) -> Site:
    """A CA that is set up, with the delegate that `prefca init` makes."""
    site = Site(instance)
    assert (await site.prefca("export", "ca", "-o", site.ca)).status == 0
    return site


@pytest.fixture(params=["files", "token"])
def place(request: pytest.FixtureRequest, site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Where the key of a delegate is, as commands say it."""
    if request.param == "files":
        return lambda serial: str(site.instance / "keys" / "ocsp" / f"{serial}.pem")
    hsm: SoftHSM = request.getfixturevalue("hsm")
    monkeypatch.setenv("PREFCA_OCSP__PKCS11_MODULE", str(hsm.module))
    monkeypatch.setenv("PREFCA_OCSP__PKCS11_TOKEN", hsm.label)
    (site.instance / "secrets" / "ocsp-token.pin").write_text(hsm.pin)
    return lambda serial: f"token {hsm.label}, key {serial}"


async def test_a_running_responder_takes_over_a_new_delegate(site: Site, place: Callable[[str], str]) -> None:
    """Whatever its key is and wherever; when the new one is revoked, the one before signs again."""
    first = (await site.create())["serial"]
    async with running(site.instance, site) as (program, url):
        before = await site.signer(url, first)
        assert f"{before.serial_number:016X}" == first
        assert isinstance(before.public_key(), rsa.RSAPublicKey)

        second = await site.create("--algorithm", "p256")
        assert second["key"] == place(second["serial"])
        await program.event("loaded")
        after = await site.signer(url, first)
        assert f"{after.serial_number:016X}" == second["serial"]
        assert isinstance(after.public_key(), ec.EllipticCurvePublicKey)

        assert (await site.prefca("revoke", second["serial"], "--reason", "superseded")).status == 0
        await program.event("loaded")
        assert await site.signer(url, first) == before
        assert await program.stop() == 0
    listed = (await site.prefca("ocsp-delegate", "list", "--json")).json
    assert [(each["serial"], each["algorithm"], each["generation"], each["key"]) for each in listed[:2]] == [
        (second["serial"], "p256", 1, place(second["serial"])),
        (first, "rsa2048", 1, place(first)),
    ]
    assert [each["revoked_at"] is None for each in listed[:2]] == [False, True]


async def test_a_key_that_is_elsewhere_is_certified_by_its_request(site: Site) -> None:
    """And signs once it is where the command said, under a passphrase that may have changed meanwhile."""
    key, request = site.instance / "key.pem", site.instance / "request.pem"
    key.write_bytes(P256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    request.write_bytes(certification_request())
    (kept,) = (site.instance / "keys" / "ocsp").iterdir()
    async with running(site.instance, site) as (program, url):
        created = await site.create("--csr", request)
        await program.event("delegate_refused")
        await program.event("loaded")
        (newest, _) = (await site.prefca("ocsp-delegate", "list", "--json")).json
        assert newest["key"] == "not here"

        kept.unlink()
        (site.instance / "secrets" / "ocsp-key.passphrase").write_text("another passphrase\n")
        told = created["next"].partition(": ")[2].partition(";")[0].replace("KEY", str(key))
        openssl = await asyncio.create_subprocess_shell(told)
        assert await openssl.wait() == 0
        program.process.send_signal(signal.SIGHUP)
        await program.event("loaded")
        assert f"{(await site.signer(url, kept.stem)).serial_number:016X}" == newest["serial"]


def certification_request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = P256) -> bytes:
    """A PKCS #10 request."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "responder")])
    return x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def signed_by_another() -> bytes:
    """One with a key that has not signed it."""
    der = x509.load_pem_x509_csr(certification_request()).public_bytes(Encoding.DER)
    return der[:-8] + bytes(8)


def ed25519_request() -> bytes:
    """One with a key that no responder of ours signs with."""
    key = ed25519.Ed25519PrivateKey.generate()
    return x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, None).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"something else", "give a PKCS #10 file"),
        (signed_by_another(), "is not signed by the key that it names"),
        (certification_request(ec.generate_private_key(ec.SECP384R1())), "neither RSA-2048 nor P-256"),
        (ed25519_request(), "neither RSA-2048 nor P-256"),
    ],
    ids=["no request", "signed by another key", "P-384", "Ed25519"],
)
def test_a_request_that_cannot_be_used_is_refused(
    shared_instance: Path, tmp_path: Path, prefca: Prefca, content: bytes, complaint: str
) -> None:
    """In one line that says what to do."""
    file = tmp_path / "request"
    file.write_bytes(content)
    ended = prefca("ocsp-delegate", "create", "--csr", file)
    assert ended.status == 3
    assert complaint in ended.complaint


@pytest.mark.usefixtures("instance")
def test_a_missing_pin_is_named(prefca: Prefca, hsm: SoftHSM, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the file and the key of the configuration; nothing is certified, and a list can be had all the same."""
    monkeypatch.setenv("PREFCA_OCSP__PKCS11_MODULE", str(hsm.module))
    monkeypatch.setenv("PREFCA_OCSP__PKCS11_TOKEN", hsm.label)
    ended = prefca("ocsp-delegate", "create")
    assert ended.status == 4
    assert "ocsp-token.pin" in ended.complaint
    assert "`ocsp.pkcs11_pin_file`" in ended.complaint
    listed = prefca("ocsp-delegate", "list", "--json")
    assert [each["key"] for each in listed.json] == [None]
    assert "ocsp-token.pin" in listed.stderr


def test_the_key_of_a_request_has_its_algorithm(shared_instance: Path, tmp_path: Path, prefca: Prefca) -> None:
    """Two that contradict each other are no choice."""
    file = tmp_path / "request"
    file.write_bytes(certification_request(rsa_key("responder")))
    ended = prefca("ocsp-delegate", "create", "--csr", file, "--algorithm", "p256")
    assert ended.status == 2
    assert "leave one of them out" in ended.complaint


def key(state: State = State.ACTIVE, residents_until: datetime | None = None) -> KeyRow:
    """The CA's first key, which was made half a year ago."""
    signs_until = NOW + timedelta(days=1600)
    return KeyRow(
        Generation(1, 1, 1, "ca-1", b"", signs_until), state, NOW, NOW + timedelta(days=3400), residents_until
    )


def recorded(
    ends: datetime, *, begins: datetime = NOW, generation: int = 1, revoked: Revoked | None = None
) -> DelegateRow:
    """A delegate that ends then."""
    return DelegateRow(generation, begins, CertificateRow(1, 1, Kind.OCSP, ends, b"", revoked))


SECOND = timedelta(seconds=1)
SOON, LATER = NOW + RENEW_BEFORE - SECOND, NOW + RENEW_BEFORE
REVOKED = Revoked(NOW, CRLReason.SUPERSEDED)


@pytest.mark.parametrize(
    ("delegates", "names"),
    [
        ([recorded(LATER)], []),
        ([recorded(SOON), recorded(LATER)], []),
        ([recorded(SOON)], ["ocsp_delegate_ending"]),
        ([recorded(LATER, begins=SOON), recorded(SOON)], []),
        ([recorded(SOON), recorded(LATER, begins=SOON + 2 * SECOND)], ["ocsp_delegate_ending"]),
        ([recorded(SOON), recorded(LATER, revoked=REVOKED)], ["ocsp_delegate_ending"]),
        ([recorded(SOON), recorded(LATER, generation=2)], ["ocsp_delegate_ending"]),
        ([recorded(NOW - SECOND)], ["no_ocsp_delegate"]),
        ([recorded(LATER, begins=NOW + 2 * SECOND)], ["no_ocsp_delegate"]),
        ([recorded(LATER, revoked=REVOKED)], ["no_ocsp_delegate"]),
        ([], ["no_ocsp_delegate"]),
    ],
    ids=[
        *("valid", "renewed", "ending", "one follows", "one follows too late", "renewed and revoked", "of another key"),
        *("ended", "not yet", "revoked", "none"),
    ],
)
def test_operators_are_reminded_a_month_before(delegates: list[DelegateRow], names: list[str]) -> None:
    """That time is left for a ceremony; only delegates of the CA's present key count."""
    found = alarms([key()], delegates, NOW)
    assert [alarm.name for alarm in found] == names
    assert all("`prefca ocsp-delegate create`" in alarm.message for alarm in found)


@pytest.mark.req("R-4-13-1")
@pytest.mark.parametrize(
    ("residents_until", "state", "name"),
    [
        pytest.param(None, State.RETIRED, None, id="it signed nothing"),
        pytest.param(NOW, State.RETIRED, None, id="all have ended"),
        pytest.param(LATER, State.RETIRED, None, id="delegates for all of them"),
        pytest.param(LATER + SECOND, State.RETIRED, "ocsp_delegate_gap", id="a second is missing"),
        pytest.param(LATER + SECOND, State.DESTROYED, "ocsp_delegate_gap", id="and the key is gone"),
        pytest.param(LATER + SECOND, State.COMPROMISED, None, id="everything is revoked"),
        pytest.param(LATER + SECOND, State.PLANNED, None, id="not yet"),
    ],
)
def test_a_key_that_was_replaced_needs_delegates_as_long_as_its_certificates_live(
    residents_until: datetime | None, state: State, name: str | None
) -> None:
    """From the first moment on, not only when the last one ends."""
    found = alarms([key(state, residents_until)], [recorded(LATER)], NOW)
    assert [alarm.name for alarm in found] == ([] if name is None else [name])
    assert alarms([key(State.RETIRED, LATER)], [], NOW)[0].name == "no_ocsp_delegate"


def test_status_tells_of_a_missing_delegate(instance: Path, prefca: Prefca) -> None:
    """As long as there is none, also to a monitoring program."""
    assert prefca("status", "--check").status == 0
    (only,) = prefca("ocsp-delegate", "list", "--json").json
    assert prefca("revoke", only["serial"], "--reason", "cessationOfOperation").status == 0
    assert "ALARM no_ocsp_delegate: " in prefca("status").stdout
    assert prefca("status", "--check").status == 5
