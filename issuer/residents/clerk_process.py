"""A clerk in a process of its own: `issuer.residents.clerks` starts it and asks it.

When the one who asks is gone, however that came about, the stream of requests ends and so does the process.
"""

import gc
import os
import pickle
import signal
import sys
from typing import BinaryIO, Final

from cryptography import x509

from issuer.keys import open_keys
from issuer.profiles.lint import LintError
from issuer.profiles.profile import Issuer
from issuer.residents.clerk import Clerk
from issuer.residents.clerks import LENGTH_OCTETS, Answer, CertifyRequest, Employment, ReadRequest, framed
from pkix.signing import SigningError
from settings.load import ConfigurationError

GC_THRESHOLD: Final = 100_000  # objects: lines and certificates come by the million and have no cycles


def main() -> None:
    """Answer until the stream ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asks
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing that is printed gets between the answers
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    try:
        _answer(sys.stdin.buffer, answers)
    except (EOFError, BrokenPipeError):
        os._exit(0)  # without flushing to somebody who is gone


def _answer(requests: BinaryIO, answers: BinaryIO) -> None:
    clerk: Clerk | None = None
    while True:
        message = _received(requests)
        value: object = None
        error: Exception | None = None
        try:
            match message:
                case Employment():
                    clerk = _employed(message)
                case ReadRequest(lines, now) if clerk:
                    value = clerk.read(lines, now)
                case CertifyRequest(orders, now) if clerk:
                    value = clerk.certify(orders, now)
        except (SigningError, LintError, ConfigurationError) as e:
            error = e
        answers.write(framed(Answer(value, error)))
        answers.flush()


def _employed(employment: Employment) -> Clerk:
    keys = open_keys(employment.settings, employment.secret)
    issuer = Issuer(employment.authority, x509.load_der_x509_certificate(employment.certificate))
    return Clerk(issuer, keys.signer(employment.key_reference))


def _received(stream: BinaryIO) -> object:
    length = int.from_bytes(_exactly(stream, LENGTH_OCTETS), "big")
    return pickle.loads(_exactly(stream, length))  # noqa: S301 - from the process that started this one


def _exactly(stream: BinaryIO, count: int) -> bytes:
    octets = stream.read(count)
    if len(octets) < count:
        raise EOFError
    return octets


if __name__ == "__main__":
    main()
