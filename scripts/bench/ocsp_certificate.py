"""A relying party that shows a client certificate, for the TLS case of `scripts/bench/ocsp`."""

import asyncio
import contextlib
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp
from responder import HERE, Site, prefca

from issuer.archive.collection import waiting

PARTY = "shows-a-certificate"
TRIES = 100


@contextlib.asynccontextmanager
async def certificate_shown(ca: Site) -> AsyncIterator[Mapping[str, str]]:
    """What `wrk` needs in its environment, so that the running responder knows it as PARTY by its certificate."""
    with tempfile.TemporaryDirectory(prefix="prefca-bench-") as scratch:
        directory = Path(scratch)
        shim, certificate, key = (directory / name for name in ("wrk_certificate.so", "client.pem", "client.key.pem"))
        source = HERE / "wrk_certificate.c"
        await asyncio.to_thread(subprocess.run, ["cc", "-shared", "-fPIC", "-o", shim, source], check=True)
        _write_certificate(certificate, key)
        prefca(ca.instance, "relying-party", "add", PARTY, "--right", "ocsp")
        prefca(ca.instance, "relying-party", "credential", "add", "client-certificate", PARTY, str(certificate))
        await asyncio.to_thread(_ask_until_known, ca, certificate, key)
        yield {"LD_PRELOAD": str(shim), "CERTIFICATE": str(certificate), "KEY": str(key)}


def answers_recorded(ca: Site) -> int:
    """How many answers were given to PARTY, by the journal."""
    known_by = f'"party":"{PARTY}","by":"client-certificate"'.encode()
    with waiting(ca.instance / "journal") as segments:
        return sum(known_by in record for segment in segments for record in segment.records())


def _ask_until_known(ca: Site, certificate: Path, key: Path) -> None:
    """Until the responder has heard of the certificate, the handshake fails."""
    context = ssl.create_default_context(cafile=ca.instance / "tls" / "service-ca.pem")
    context.load_cert_chain(certificate, key)
    for _ in range(TRIES):
        connection = HTTPSConnection("localhost", ca.tls_port, context=context)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("POST", "/", ca.question(0), {"Content-Type": "application/ocsp-request"})
            status = ocsp.load_der_ocsp_response(connection.getresponse().read()).certificate_status
            assert status is ocsp.OCSPCertStatus.GOOD, status
            return
        time.sleep(0.1)
    raise RuntimeError("the responder does not know the client certificate that was registered")


def _write_certificate(file: Path, key_file: Path) -> None:
    """Self-signed: it is registered by itself."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, PARTY)])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
