"""Alarms for another program: one JSON object, posted to an address that the operator gave."""

import socket
from collections.abc import Sequence

import aiohttp

from issuer.alarm import Alarm, NotToldError
from issuer.profiles.municipality import PREFECTURES

TIMEOUT = aiohttp.ClientTimeout(total=10)


async def post(address: str, name: str, standing: Sequence[Alarm]) -> None:
    """Tell which alarms stand.

    `text` is what chat programs show; the rest is for programs that look closer.

    Args:
        address: where to.
        name: whose alarms they are: the prefecture of a CA, or what belongs to no CA.
        standing: all of them.

    Raises:
        NotToldError: the answer was not 2xx, or did not come. The message is without the address, which may be secret.
    """
    text = "; ".join(map(str, standing)) or "all is well again"
    whose = f"CA of {name}" if name in PREFECTURES else name
    body = {
        "text": f"prefca, {whose}: {text}",
        "ca": name,
        "host": socket.gethostname(),
        "alarms": [{"name": alarm.name, "message": alarm.message} for alarm in standing],
    }
    try:
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session, session.post(address, json=body) as answer:
            if not answer.ok:
                raise NotToldError(f"the webhook answered {answer.status} {answer.reason}")
    except TimeoutError as e:
        raise NotToldError("the webhook did not answer in time") from e
    except (aiohttp.ClientError, OSError) as e:
        raise NotToldError(f"the webhook cannot be reached ({type(e).__name__})") from e
