"""pytest plugin: `--requirements` prints which requirement is shown by which test, and which by none."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Final

import pytest

REQUIREMENTS: Final = Path(__file__).parents[1] / "docs" / "requirements.md"
_ROW: Final = re.compile(r"^\| (R-\S+) \| (.*) \| .*? \| ([ISO/]+) \|$", re.MULTILINE)


def known() -> dict[str, tuple[str, str]]:
    """Every requirement: its text and class."""
    return {ident: (text, kind) for ident, text, kind in _ROW.findall(REQUIREMENTS.read_text(encoding="utf-8"))}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--requirements", action="store_true", help="print which requirement is shown by which test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A marker must name requirements that exist."""
    ids = known()
    for item in items:
        for ident in _marked(item):
            if ident not in ids:
                raise pytest.UsageError(f"{item.nodeid}: {ident} is not in {REQUIREMENTS.name}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.getoption("--requirements"):
        return
    tests: dict[str, set[str]] = defaultdict(set)
    for item in config.stash.get(_ITEMS, []):
        for ident in _marked(item):
            tests[ident].add(item.nodeid.partition("[")[0])
    write = terminalreporter.write_line
    for ident, (text, kind) in known().items():
        if tests[ident] or "I" in kind:
            write(f"{ident} ({kind}) {text if len(text) < 100 else text[:99] + '…'}")
            for test in sorted(tests[ident]) or ["no test"]:
                write(f"    {test}")
    demanded = [ident for ident, (_, kind) in known().items() if "I" in kind]
    shown = sum(1 for ident in demanded if tests[ident])
    write(f"{shown} of {len(demanded)} requirements of class I are shown by a test")


_ITEMS: Final = pytest.StashKey[list[pytest.Item]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.stash[_ITEMS] = session.items


def _marked(item: pytest.Item) -> set[str]:
    return {ident for marker in item.iter_markers("req") for ident in marker.args}
