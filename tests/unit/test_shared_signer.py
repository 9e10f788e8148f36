"""A PIN that was refused for one CA is not sent for the next one: tokens lock themselves after a few."""

from pathlib import Path

import pytest

from issuer.cli.root import each
from issuer.keys import RefusedPinError
from issuer.watch.keeper import BatchFailedError, SharedSigner
from settings.load import Settings, parse

ANOTHER_TOKEN = 'signer = { kind = "pkcs11", module = "/token.so", token = "another", pin_file = "pin" }'
TEXT = """
[[ca]]
prefecture = "Tokyo-to"

[[ca]]
prefecture = "Toyama-ken"
# signer

[database]
dsn = "postgresql://nowhere/nothing"

[signer]
kind = "pkcs11"
module = "/token.so"
token = "one"
pin_file = "pin"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two CAs with one token."""
    (tmp_path / "pin").write_text("1234")
    return parse(TEXT, tmp_path, {})


def fail(signer: SharedSigner, status: int | None) -> None:
    """A batch that ends like that."""
    with pytest.raises(BatchFailedError), signer.used():
        raise BatchFailedError("told", status)


def test_one_batch_at_a_time_uses_a_signer(settings: Settings) -> None:
    """The next one knows what came of it."""
    signer = SharedSigner(settings)
    assert signer.may_be_used()
    with signer.used():
        assert not signer.may_be_used()
    assert signer.may_be_used()


@pytest.mark.parametrize("status", [1, 3, 4, None], ids=str)
def test_other_failures_are_of_one_ca(status: int | None, settings: Settings) -> None:
    """They say nothing of the PIN."""
    signer = SharedSigner(settings)
    fail(signer, status)
    assert signer.may_be_used()


def test_a_refused_pin_is_used_again_when_its_file_has_changed(settings: Settings) -> None:
    """Not before."""
    signer = SharedSigner(settings)
    fail(signer, 2)
    assert not signer.may_be_used()
    (settings.instance / "pin").unlink()
    assert signer.may_be_used()


@pytest.mark.parametrize(
    ("signer", "expected"),
    [("", ["Tokyo-to"]), (ANOTHER_TOKEN, ["Tokyo-to", "Toyama-ken"])],
    ids=["one token", "another token"],
)
async def test_a_command_for_all_cas_sends_a_refused_pin_once(
    signer: str, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To each token; every CA is told of."""
    tried = []

    async def work(one: Settings) -> None:
        tried.append(one.ca.prefecture)
        raise RefusedPinError("wrong PIN")

    assert await each(parse(TEXT.replace("# signer", signer), tmp_path, {}), work) == ({}, 2)
    assert tried == expected
    told = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in told] == ["Tokyo-to", "Toyama-ken"]
