"""HTTP connections, below aiohttp's requests.

`Connection.data_received` sees the octets of a connection first: the place for whatever is to be answered without
parsing HTTP.
"""

import logging

from aiohttp import web

_logger = logging.getLogger(__name__)


class Connection(web.RequestHandler):
    """aiohttp's protocol, which says no more of peers that do not speak HTTP than one line."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the signature is aiohttp's
    ) -> web.StreamResponse:
        """Refuse what is no HTTP request, or a peer that left in the middle of one."""
        _logger.info("http_error", extra={"origin": request.remote, "status": status, "error": repr(exc)})
        response = web.Response(status=status, text=f"{status}\n")
        response.force_close()
        return response


class HTTPServer(web.Server):
    """aiohttp's low-level server, with our connections."""

    def __call__(self) -> Connection:
        """A protocol for a connection that was just accepted."""
        return Connection(self, loop=self._loop, **self._kwargs)
