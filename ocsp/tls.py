"""TLS of the HTTPS listener: our certificate, and which client certificates a handshake accepts.

A handshake accepts certificates issued under `ocsp.client_ca`; without that, those that are registered, each trusted by
itself. Both our files and what is registered may change while we listen: a listener keeps one SSLContext for good, so
that one only serves to put a current one in its place in the middle of every handshake.
"""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ocsp.access import AccessList
from ocsp.errors import StartError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """What an operator provides, in PEM."""

    certificate: Path  # with the chain to a CA that clients know
    key: Path
    client_ca: Path | None
    asks_clients: bool  # for a certificate


class _Handshake(ssl.SSLObject):
    """A connection; if its handshake fails, the log says why: event loops do not. Its address is not known here."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):  # it goes on
            raise
        except ssl.SSLError as e:
            reason = e.verify_message if isinstance(e, ssl.SSLCertVerificationError) else e.reason
            _logger.info("handshake_failed", extra={"reason": reason})
            raise


class ServerTLS:
    """The SSLContext of a listener."""

    def __init__(self, files: TLSFiles, access: Callable[[], AccessList | None]) -> None:
        """Load the files.

        Args:
            files: read again whenever `access` returns another object.
            access: who may ask now; None is not known yet.

        Raises:
            StartError: the files cannot be used.
        """
        self._files = files
        self._access = access
        self._access_then = access()
        try:
            self._current = self._new()
        except OSError as e:  # ssl.SSLError is one
            raise StartError(_what_to_do(files, e)) from e
        self.context: Final = self._current
        self.context.sni_callback = self._put_current
        self.context.sslobject_class = _Handshake

    def _put_current(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        access = self._access()
        if access is not self._access_then:
            self._access_then = access
            try:
                self._current = self._new()
            except OSError as e:
                _logger.error("tls_files_refused", extra={"reason": _what_to_do(self._files, e)})  # noqa: TRY400
        connection.context = self._current

    def _new(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._files.certificate, self._files.key)
        if not self._files.asks_clients:
            return context
        context.verify_mode = ssl.CERT_OPTIONAL
        if self._files.client_ca is not None:
            context.load_verify_locations(self._files.client_ca)
        elif self._access_then is not None and self._access_then.client_certificates:
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.load_verify_locations(cadata=b"".join(self._access_then.client_certificates))
        return context


def _what_to_do(files: TLSFiles, error: OSError) -> str:
    names = ", ".join(str(file) for file in (files.certificate, files.key, files.client_ca) if file is not None)
    reason = error.strerror or str(error)
    return f"{names}: {reason}; mend them, or change `ocsp.tls_certificate`, `ocsp.tls_key`, `ocsp.client_ca`"
