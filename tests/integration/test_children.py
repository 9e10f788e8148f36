"""Programs that we start import our modules, wherever they are started, and end with us."""

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from issuer import children
from settings.workers import command


@pytest.fixture
def strange_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, where somebody has put modules with the names of ours and Python's."""
    for name in ("json.py", "issuer.py", "ocsp.py"):
        (tmp_path / name).write_text("raise SystemExit('a module of somebody else')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("strange_directory")
async def test_a_child_imports_nothing_from_the_current_directory() -> None:
    """Neither ours nor Python's own modules."""
    process = await children.start("issuer", "--version", stdout=PIPE, stderr=PIPE)
    said, complained = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, complained) == (0, b"")
    assert b"version" in said


@pytest.mark.usefixtures("strange_directory")
def test_a_worker_imports_nothing_from_the_current_directory() -> None:
    """The command that starts it says so."""
    ended = subprocess.run(command("ocsp", ["--help"]), capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(("parent", "says"), [(os.getpid(), "version"), (1, "")], ids=["there", "gone"])
def test_a_child_whose_parent_was_gone_before_it_began_does_nothing(parent: int, says: str) -> None:
    """The kernel would never tell it."""
    command = (sys.executable, "-P", "-m", "issuer.child", str(parent), "issuer", "--version")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.partition(", ")[2].partition(" ")[0] == says
