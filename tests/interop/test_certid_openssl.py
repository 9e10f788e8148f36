"""OpenSSL names an issuer in its requests with the hashes that the responder looks for."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from pkix import names
from pkix.certid import HASH_ALGORITHMS, issuer_hashes


@pytest.mark.req("R-4-4-4-2-1")
@pytest.mark.parametrize(("oid", "algorithm"), HASH_ALGORITHMS.items(), ids=HASH_ALGORITHMS.values())
def test_openssl_hashes_the_same(tmp_path: Path, oid: str, algorithm: str) -> None:
    """`openssl ocsp` sends exactly the issuerNameHash and issuerKeyHash that we compute."""
    key = rsa.generate_private_key(65537, 2048)
    ca, start = names.name(("C", "JP"), ("O", "JPKI"), ("OU", "東京都知事")), datetime(2026, 4, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(ca, ca, key.public_key(), 1, start, start + timedelta(days=3650))
    issuer = builder.sign(key, SHA256())
    (tmp_path / "ca.pem").write_bytes(issuer.public_bytes(Encoding.PEM))

    command = [
        "openssl",
        "ocsp",
        f"-{algorithm}",
        "-issuer",
        "ca.pem",
        "-serial",
        "4711",
        "-no_nonce",
        "-reqout",
        "req",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=30)

    request = ocsp.load_der_ocsp_request((tmp_path / "req").read_bytes())
    (ours,) = (hashed for hashed in issuer_hashes(issuer) if hashed.algorithm == oid)
    assert request.hash_algorithm.name == algorithm
    assert (request.issuer_name_hash, request.issuer_key_hash) == (ours.name_hash, ours.key_hash)
