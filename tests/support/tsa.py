"""An authority for time stamps: `openssl ts -reply` behind HTTP."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Final

_CONFIGURATION: Final = """
[ tsa ]
serial = {directory}/serial
signer_digest = sha256
default_policy = 1.2.392.200250.1
digests = sha256
ess_cert_id_alg = sha256
"""
_EXTENSIONS: Final = "extendedKeyUsage=critical,timeStamping\nkeyUsage=critical,digitalSignature\n"


class TimeStampServer:
    """One that runs; tests may switch it off."""

    def __init__(self, directory: Path, address: str) -> None:
        self.roots = directory / "ca.pem"  # who certified it
        self.certificate = directory / "tsa.pem"
        self.address = address
        self.is_away = False
        self.is_slow = False  # its answers come in portions
        self.replays: bytes | None = None  # an earlier answer, given instead of a new one
        self.queries = 0
        self._directory = directory

    def reply(self, query: bytes) -> bytes:
        """A TimeStampResp."""
        self.queries += 1
        if self.replays is not None:
            return self.replays
        (self._directory / "query.tsq").write_bytes(query)
        _openssl(
            self._directory,
            *("ts", "-reply", "-config", "tsa.cnf", "-section", "tsa", "-queryfile", "query.tsq"),
            *("-inkey", "tsa.key", "-signer", "tsa.pem", "-out", "reply.tsr"),
        )
        return (self._directory / "reply.tsr").read_bytes()


@contextmanager
def time_stamp_server(directory: Path) -> Iterator[TimeStampServer]:
    """One with a key of its own, on a free port."""
    directory.mkdir()
    _make(directory)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(503 if running.is_away else 200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.end_headers()
            if not running.is_away:
                reply = running.reply(query)
                self.wfile.write(reply[:100])
                if running.is_slow:
                    sleep(0.1)
                self.wfile.write(reply[100:])

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        running = TimeStampServer(directory, f"http://127.0.0.1:{server.server_address[1]}/tsa")
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()


def _make(directory: Path) -> None:
    (directory / "tsa.cnf").write_text(_CONFIGURATION.format(directory=directory))
    (directory / "extensions").write_text(_EXTENSIONS)
    (directory / "serial").write_text("01\n")
    new = ("-newkey", "rsa:2048", "-nodes")
    _openssl(directory, "req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test TSA CA")
    _openssl(directory, "req", *new, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=Test TSA")
    _openssl(
        directory,
        *("x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-extfile", "extensions", "-days", "30", "-out", "tsa.pem"),
    )


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)
