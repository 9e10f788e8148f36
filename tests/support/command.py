"""The command `prefca` in an instance of its own, in this process or in another one."""

import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from issuer.cli.root import main
from settings.load import INSTANCE_VARIABLE
from tests.support.database import Database, fresh_database, reachable_directory

ROOT = Path(__file__).parents[2]
DSN_VARIABLE = "PREFCA_DATABASE__DSN"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def complaint(self) -> str:
        """The one line on standard error, of a command that printed nothing else."""
        assert self.stdout == ""
        (line,) = self.stderr.splitlines()
        assert line.startswith("prefca: ")
        return line.removeprefix("prefca: ")

    @property
    def json(self) -> Any:
        """Standard output of a command that succeeded."""
        assert self.status == 0, self
        return json.loads(self.stdout)


Prefca = Callable[..., Ended]


@pytest.fixture
def prefca(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Prefca]:
    """`prefca`, run in this process. Logging is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["prefca", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as raised:
            main()
        status = raised.value.code or 0
        assert isinstance(status, int)
        return Ended(status, *capsys.readouterr())

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def start(*arguments: str | Path, instance: Path, dsn: str | None = None) -> subprocess.Popen[str]:
    """`prefca` as a process of its own."""
    environment = {**os.environ, INSTANCE_VARIABLE: str(instance)} | ({DSN_VARIABLE: dsn} if dsn else {})
    return subprocess.Popen(
        [sys.executable, "-m", "issuer", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], timeout_s: float = 60) -> Ended:
    """Wait for its end."""
    stdout, stderr = process.communicate(timeout=timeout_s)
    return Ended(process.returncode, stdout, stderr)


def select(sql: str, user: str = "prefca") -> list[tuple[Any, ...]]:
    """Rows of the database of `instance`, read as its owner or as another role."""

    async def rows() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(os.environ[DSN_VARIABLE], user=user)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    return asyncio.run(rows())


@contextmanager
def set_up(postgres_instance: Path, *commands: Sequence[str]) -> Iterator[tuple[Path, Database]]:
    """An instance after these commands, and its database, to be copied."""
    with reachable_directory() as instance, asyncio.Runner() as runner:
        creation = fresh_database(postgres_instance)
        database = runner.run(creation.__aenter__())
        for command in commands:
            ended = finished(start(*command, instance=instance, dsn=database.dsn))
            assert ended.status == 0, ended
        yield instance, database
        runner.run(creation.__aexit__(None, None, None))


@asynccontextmanager
async def copied(template: tuple[Path, Database], instance: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A copy of both; `prefca` finds it by the environment."""
    template_instance, template_database = template
    shutil.copytree(template_instance, instance)
    async with fresh_database(template_database.instance, template_database.name) as database:
        patch.setenv(INSTANCE_VARIABLE, str(instance))
        patch.setenv(DSN_VARIABLE, database.dsn)
        yield instance


@pytest.fixture(scope="session")
def set_up_template(postgres_instance: Path) -> Iterator[tuple[Path, Database]]:
    """An instance that `prefca init` set up, and its database, to be copied."""
    with set_up(postgres_instance, ["init"]) as template:
        yield template


@pytest.fixture
def shared_instance(set_up_template: tuple[Path, Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with files of its own and the database of the template: for commands that write nothing there."""
    template_instance, template = set_up_template
    monkeypatch.setenv(INSTANCE_VARIABLE, str(tmp_path / "instance"))
    monkeypatch.setenv(DSN_VARIABLE, template.dsn)
    return shutil.copytree(template_instance, tmp_path / "instance")


@pytest.fixture
async def instance(
    set_up_template: tuple[Path, Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Path]:
    """An instance that is set up, for this test alone."""
    async with copied(set_up_template, tmp_path / "instance", monkeypatch) as instance:
        yield instance
