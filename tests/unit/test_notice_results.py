"""The results file of a notice file, and how a run that was interrupted goes on with it."""

import io
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from issuer.cli.results import Done, open_results, written
from issuer.errors import NotNowError, RefusedError

pytestmark = pytest.mark.req("R-4-2-1")

CA = b"certificate of the CA"
FIRST = [
    written(1, "N-1", "issued", serial="000000000000005A", certificate="MAA="),
    written(2, None, "issued_before", serial="000000000000005B", certificate="MAA="),
]
SECOND = [written(4, '"ニ"', "refused", code="wrong-value", message="項目「性別」…")]


@pytest.fixture
def notices(tmp_path: Path) -> Path:
    """A notice file; what is in it does not matter here."""
    file = tmp_path / "notices.jsonl"
    file.write_bytes(b"notices")
    return file


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def interrupted(file: Path, notices: Path) -> None:
    """A run that reported FIRST and was killed while it wrote more."""
    with (
        suppress(KeyboardInterrupt),
        notices.open("rb") as stream,
        open_results(file, stream, "issuing", CA) as results,
    ):
        results.add(FIRST)
        raise KeyboardInterrupt
    with file.open("ab") as torn:
        torn.write(b'{"line": 3, "noti')


def test_each_line_says_what_became_of_a_notice(tmp_path: Path, notices: Path) -> None:
    """As JSON, whatever the municipality's number has in it; only the owner can read it."""
    file = tmp_path / "results"
    with notices.open("rb") as stream, open_results(file, stream, "issuing", CA) as results:
        results.add(FIRST)
        results.add(SECOND)
        assert results.done == Done(4, {"issued": 1, "issued_before": 1, "refused": 1})
    assert lines_of(file) == [
        {"line": 1, "notice_number": "N-1", "result": "issued", "serial": "000000000000005A", "certificate": "MAA="},
        {
            "line": 2,
            "notice_number": None,
            "result": "issued_before",
            "serial": "000000000000005B",
            "certificate": "MAA=",
        },
        {
            "line": 4,
            "notice_number": '"ニ"',
            "result": "refused",
            "code": "wrong-value",
            "message": "項目「性別」…",
        },
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"results", "notices.jsonl"}


def test_an_interrupted_run_goes_on_behind_its_last_whole_batch(tmp_path: Path, notices: Path) -> None:
    """What was torn is cut off; the counts are those of both runs."""
    file = tmp_path / "results"
    interrupted(file, notices)
    with notices.open("rb") as stream, open_results(file, stream, "issuing", CA) as results:
        assert results.done == Done(2, {"issued": 1, "issued_before": 1})
        results.add(SECOND)
        assert results.done == Done(4, {"issued": 1, "issued_before": 1, "refused": 1})
    assert [line["line"] for line in lines_of(file)] == [1, 2, 4]


def change_notices(notices: Path, file: Path) -> BinaryIO:
    notices.write_bytes(b"corrected notices")
    return notices.open("rb")


def touch_notices(notices: Path, file: Path) -> BinaryIO:
    os.utime(notices, ns=(0, 0))
    return notices.open("rb")


def empty_results(notices: Path, file: Path) -> BinaryIO:
    file.write_bytes(b"")
    return notices.open("rb")


def spoil_note(notices: Path, file: Path) -> BinaryIO:
    file.with_name(file.name + ".unfinished").write_bytes(b"\x00\xff")
    return notices.open("rb")


class Pipe(io.BytesIO):
    """What cannot be read again."""

    def seekable(self) -> bool:
        """No."""
        return False


@pytest.mark.parametrize(
    "change",
    [change_notices, touch_notices, empty_results, spoil_note, lambda *_: Pipe(b"notices")],
    ids=["other notices", "notices of another time", "results emptied", "a broken note", "a pipe"],
)
def test_otherwise_a_run_begins_anew(tmp_path: Path, notices: Path, change: Callable[[Path, Path], BinaryIO]) -> None:
    """Nothing of the old results stays."""
    file = tmp_path / "results"
    interrupted(file, notices)
    with change(notices, file) as stream, open_results(file, stream, "issuing", CA) as results:
        assert results.done == Done()
    assert file.read_bytes() == b""


@pytest.mark.parametrize(
    ("task", "ca"), [("issuing", b"another CA"), ("revoking", CA)], ids=["another CA", "another task"]
)
def test_results_of_something_else_are_not_gone_on_with(tmp_path: Path, notices: Path, task: str, ca: bytes) -> None:
    """Tokyo's notices mean nothing to Toyama, and who is to have a certificate does not lose one."""
    file = tmp_path / "results"
    interrupted(file, notices)
    with notices.open("rb") as stream, open_results(file, stream, task, ca) as results:
        assert results.done == Done()


def test_notices_are_never_their_own_results(tmp_path: Path, notices: Path) -> None:
    """They stay as they are, by whatever name they are called."""
    other_name = tmp_path / "link"
    other_name.symlink_to(notices)
    with (
        notices.open("rb") as stream,
        pytest.raises(RefusedError, match="give another file with --results"),
        open_results(other_name, stream, "issuing", CA),
    ):
        pytest.fail("nothing should be written")
    assert notices.read_bytes() == b"notices"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pipe", "is no ordinary file; give another one with --results"),
        ("missing/results", r"cannot be written \(No such file or directory\); .* give another file with --results"),
        ("notices.jsonl/results", r"cannot be written \(Not a directory\); .* give another file with --results"),
    ],
)
def test_where_nothing_can_be_written_is_told(tmp_path: Path, notices: Path, name: str, said: str) -> None:
    """With what to do: a pipe, as /dev/stdout may be one, cannot be gone on with."""
    os.mkfifo(tmp_path / "pipe")
    with (
        notices.open("rb") as stream,
        pytest.raises(RefusedError, match=said),
        open_results(tmp_path / name, stream, "issuing", CA),
    ):
        pytest.fail("nothing should be written")


@pytest.mark.parametrize("descriptor", [1, 2], ids=["standard output", "standard error"])
def test_a_file_that_messages_go_to_is_refused(descriptor: int, tmp_path: Path, notices: Path) -> None:
    """As by `--results /dev/stdout > FILE`: it would be overwritten in the midst. What it has stays."""
    file = tmp_path / "output"
    file.write_text("before\n")
    with file.open("ab") as output, notices.open("rb") as stream, redirected(descriptor, output):
        for name in (file, Path(f"/dev/fd/{descriptor}")):
            with (
                pytest.raises(RefusedError, match="a file of their own with --results"),
                open_results(name, stream, "issuing", CA),
            ):
                pytest.fail("nothing should be written")
    assert file.read_text() == "before\n"


@contextmanager
def redirected(descriptor: int, output: BinaryIO) -> Iterator[None]:
    """As a shell does it."""
    before = os.dup(descriptor)
    os.dup2(output.fileno(), descriptor)
    try:
        yield
    finally:
        os.dup2(before, descriptor)
        os.close(before)


def test_two_runs_do_not_write_one_file(tmp_path: Path, notices: Path) -> None:
    """The second one is told so, and the first one goes on."""
    file = tmp_path / "results"
    with notices.open("rb") as stream, open_results(file, stream, "issuing", CA) as results:
        with pytest.raises(NotNowError, match="another run writes it"), open_results(file, stream, "issuing", CA):
            pytest.fail("two would write")
        results.add(FIRST)
        results.add(SECOND)
    assert [line["line"] for line in lines_of(file)] == [1, 2, 4]


def test_a_file_that_everybody_could_read_is_closed(tmp_path: Path, notices: Path) -> None:
    """Before anything is written into it."""
    file = tmp_path / "results"
    file.touch()
    file.chmod(0o644)
    with notices.open("rb") as stream, open_results(file, stream, "issuing", CA):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
