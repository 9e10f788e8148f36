"""The server's certificate and key, for LDAPS and StartTLS (TLS 1.2 and later), and whose certificates it accepts."""

import logging
import os
import ssl
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from cryptography import x509

from repository.errors import StartError
from settings.load import place_of

logger = logging.getLogger(__name__)


class TLSContext:
    """New connections use what was loaded last.

    Raises:
        StartError: a file is missing or not usable.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._context = self._loaded()
        self.ends_at = self._end()
        self._trusted: frozenset[bytes] = frozenset()

    def reload(self) -> None:
        """Read the files again.

        Raises:
            StartError: a file is missing or not usable; what was loaded stays in use.
        """
        self._context = self._loaded()
        self.ends_at = self._end()
        self._trusted = frozenset()

    def trusting(self, certificates: frozenset[bytes]) -> ssl.SSLContext:
        """What a new connection uses whose client may show one of these certificates (DER), or none.

        Each is trusted by itself, whoever issued it. One that is no longer among them is trusted on until the next
        `reload`, which allows the handshake only: what a certificate is good for, the bind decides.
        """
        if certificates is not self._trusted:
            for certificate in certificates - self._trusted:
                self._trust(certificate)
            self._trusted = certificates
        return self._context

    def _trust(self, certificate: bytes) -> None:
        try:
            self._context.load_verify_locations(cadata=certificate)
        except ssl.SSLError as e:
            fingerprint = sha256(certificate).hexdigest()
            logger.error("client_certificate_unreadable", extra={"sha256": fingerprint, "error": str(e)})  # noqa: TRY400
            return
        self._context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self._context.verify_mode = ssl.CERT_OPTIONAL

    def _end(self) -> datetime:
        """NotAfter of the certificate, which was just loaded."""
        return x509.load_pem_x509_certificate(self._certificate.read_bytes()).not_valid_after_utc

    def _loaded(self) -> ssl.SSLContext:
        for path, key in ((self._certificate, "tls_certificate"), (self._key, "tls_key")):
            if not os.access(path, os.R_OK):
                raise StartError(f"{path} cannot be read; put it there, or change {place_of(f'repository.{key}')}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._certificate, self._key)
        except ssl.SSLError as e:
            raise StartError(
                f"{self._certificate} and {self._key} are not a certificate and its key in PEM;"
                " replace them, or set `repository.tls_certificate` and `repository.tls_key` in prefca.toml"
            ) from e
        return context
