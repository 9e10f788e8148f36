"""The server's certificate and key, for LDAPS and StartTLS (TLS 1.2 and later)."""

import os
from pathlib import Path

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from repository.errors import StartError


@implementer(IOpenSSLServerConnectionCreator)
class TLSContext:
    """New connections use what was loaded last.

    Raises:
        StartError: a file is missing or not usable.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._context = self._loaded()

    def reload(self) -> None:
        """Read the files again.

        Raises:
            StartError: a file is missing or not usable; what was loaded stays in use.
        """
        self._context = self._loaded()

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:  # noqa: N802, N803, ARG002 - Twisted's
        """Begin TLS on one connection."""
        return SSL.Connection(self._context, None)

    def _loaded(self) -> SSL.Context:
        for path, key in ((self._certificate, "tls_certificate"), (self._key, "tls_key")):
            if not os.access(path, os.R_OK):
                raise StartError(f"{path} cannot be read; put it there, or set `repository.{key}` in prefca.toml")
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        try:
            context.use_certificate_chain_file(str(self._certificate))
            context.use_privatekey_file(str(self._key))
        except SSL.Error as e:
            raise StartError(
                f"{self._certificate} and {self._key} are not a certificate and its key in PEM;"
                " replace them, or set `repository.tls_certificate` and `repository.tls_key` in prefca.toml"
            ) from e
        return context
