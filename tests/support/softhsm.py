"""SoftHSM2 tokens in a directory of their own. SoftHSM reads SOFTHSM2_CONF each time a process opens the module."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

MODULES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"),
)
CONFIGURATION = """\
directories.tokendir = {tokens}
objectstore.backend = file
log.level = ERROR
"""


def installed_module() -> Path | None:
    """The PKCS#11 module of the package softhsm2, if it is installed."""
    return next((module for module in MODULES if module.exists()), None)


@dataclass(frozen=True)
class SoftHSM:
    """A device with any number of tokens."""

    module: Path
    directory: Path
    label: str = "prefca"  # of the token that `device` makes
    pin: str = "73105920"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs in its environment to see the tokens."""
        return {"SOFTHSM2_CONF": str(self.directory / "softhsm2.conf")}

    def init_token(self, label: str, pin: str) -> None:
        """Make one more token."""
        self._util("--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "so-" + pin)

    def import_key(self, pkcs8: Path, label: str, identifier: str) -> None:
        """Put the key pair of an unencrypted PKCS#8 PEM file into the token; `identifier` is its CKA_ID in hex."""
        where = ("--token", self.label, "--pin", self.pin)
        self._util("--import", str(pkcs8), *where, "--label", label, "--id", identifier)

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """The device has no token meanwhile; one that is made then is gone afterwards."""
        tokens, away = self.directory / "tokens", self.directory / "away"
        tokens.rename(away)
        tokens.mkdir()
        try:
            yield
        finally:
            shutil.rmtree(tokens)
            away.rename(tokens)

    def _util(self, *arguments: str) -> None:
        environment = {**os.environ, **self.environment}
        subprocess.run(["softhsm2-util", *arguments], env=environment, check=True, capture_output=True, timeout=30)


def device(module: Path, directory: Path) -> SoftHSM:
    """A new device with one token, in an empty `directory`."""
    hsm = SoftHSM(module, directory)
    tokens = directory / "tokens"
    tokens.mkdir()
    (directory / "softhsm2.conf").write_text(CONFIGURATION.format(tokens=tokens))
    hsm.init_token(hsm.label, hsm.pin)
    return hsm


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHSM:
    """A new device with a token, which this process and its children see."""
    module = installed_module()
    if module is None:
        pytest.skip("needs the package softhsm2")
    directory = tmp_path / "hsm"
    directory.mkdir()
    made = device(module, directory)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made
