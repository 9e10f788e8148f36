"""The server's certificate and key, for LDAPS and StartTLS (TLS 1.2 and later)."""

import os
import ssl
from pathlib import Path

from repository.errors import StartError


class TLSContext:
    """New connections use what was loaded last.

    Raises:
        StartError: a file is missing or not usable.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self.context = self._loaded()

    def reload(self) -> None:
        """Read the files again.

        Raises:
            StartError: a file is missing or not usable; what was loaded stays in use.
        """
        self.context = self._loaded()

    def _loaded(self) -> ssl.SSLContext:
        for path, key in ((self._certificate, "tls_certificate"), (self._key, "tls_key")):
            if not os.access(path, os.R_OK):
                raise StartError(f"{path} cannot be read; put it there, or set `repository.{key}` in prefca.toml")
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
