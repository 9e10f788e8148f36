"""Relying parties as they show themselves: certificates, TLS clients, signed requests."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from pkix import der
from pkix.names import name
from tests.support.ocsp import PrivateKey

ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"
SHA256_WITH_RSA = "1.2.840.113549.1.1.11"
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """A key pair and its certificate."""

    key: PrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(
        cls,
        common_name: str,
        *,
        issuer: "Identity | None" = None,
        key: PrivateKey | None = None,
        is_ca: bool | None = None,
        ended: bool = False,
        host: str | None = None,
        extensions: Sequence[x509.ExtensionType] = (),
    ) -> Self:
        """Somebody new: self-signed, or certified by `issuer`; with `host` also for a TLS server there.

        `extensions` are critical ones besides.

        By default whoever is self-signed is a CA.
        """
        is_ca = issuer is None if is_ca is None else is_ca
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = name(("C", "JP"), ("CN", common_name))
        now = datetime.now(UTC).replace(microsecond=0)
        begin, end = (now - 9 * DAY, now - DAY) if ended else (now - DAY, now + 9 * DAY)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if host else [])]
        signer = issuer.key if issuer else key
        builder = (
            x509.CertificateBuilder(
                issuer.certificate.subject if issuer else subject,
                subject,
                key.public_key(),
                x509.random_serial_number(),
                begin,
                end,
            )
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        if not is_ca:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if host:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        return cls(key, builder.sign(signer, hashes.SHA256()))

    @property
    def der(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.DER)

    def write(self, directory: Path) -> tuple[Path, Path]:
        """Files with the certificate and the key, PEM."""
        certificate, key = directory / "certificate.pem", directory / "key.pem"
        directory.mkdir(exist_ok=True)
        certificate.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, key

    def client(self, directory: Path, server: "Identity") -> ssl.SSLContext:
        """A TLS client that shows the certificate and trusts `server`."""
        context = tls_client(server)
        context.load_cert_chain(*self.write(directory))
        return context


def tls_client(server: Identity) -> ssl.SSLContext:
    """A TLS client without a certificate, which trusts `server`."""
    return ssl.create_default_context(cadata=server.certificate.public_bytes(Encoding.PEM).decode())


def signed(
    request: bytes, signer: Identity, certificates: Sequence[bytes] | None = None, algorithm: str | None = None
) -> bytes:
    """An OCSPRequest like the unsigned `request`, signed.

    Args:
        request: DER, without a requestorName.
        signer: who; his name is made the requestorName.
        certificates: DER of those that come along; by default the signer's own.
        algorithm: what is said to have signed; by default what did.
    """
    request_list, *extensions = der.elements(der.contents(der.contents(request)))
    requestor = der.explicit(1, der.explicit(4, signer.certificate.subject.public_bytes()))
    tbs = der.sequence(requestor, request_list, *extensions)
    if isinstance(signer.key, rsa.RSAPrivateKey):
        value, used = signer.key.sign(tbs, padding.PKCS1v15(), hashes.SHA256()), SHA256_WITH_RSA
    else:
        value, used = signer.key.sign(tbs, ec.ECDSA(hashes.SHA256())), ECDSA_WITH_SHA256
    brought = [signer.der] if certificates is None else certificates
    signature = der.sequence(
        der.sequence(der.object_identifier(algorithm or used)),
        der.bit_string(value),
        der.explicit(0, der.sequence(*brought)) if brought else b"",
    )
    return der.sequence(tbs, der.explicit(0, signature))
