"""Every process logs events to standard error: a constant name, and data beside it."""

import json
import logging
from datetime import UTC, datetime
from typing import Literal

from settings.sections import LogSection

_PLAIN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}


def set_up(section: LogSection, *, at_least: Literal["warning"] | None = None) -> None:
    """Send every logger's events to standard error in the configured form, `at_least` of that level."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JSON() if section.format == "json" else _Text())
    logging.basicConfig(level=section.level.upper(), handlers=[handler], force=True)
    if at_least is not None:
        handler.setLevel(at_least.upper())


def _data(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN}


def _at(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        data = " ".join(f"{key}={value}" for key, value in _data(record).items())
        line = f"{_at(record)} {record.levelname.lower()} {record.name} {record.getMessage()} {data}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JSON(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {"at": _at(record), "level": record.levelname.lower(), "logger": record.name}
        line |= {"event": record.getMessage()} | _data(record)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
