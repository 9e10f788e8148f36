"""A document for relying parties, and one of them, who does what it says."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DOCUMENTS: Final = Path(__file__).parents[2] / "docs"
TIMEOUT_S: Final = 100
_SECTION: Final = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK: Final = re.compile(r"^```(?P<language>\w+)(?: (?P<file>\S+))?\n(?P<content>.*?)^```$", re.MULTILINE | re.DOTALL)


def sections(name: str) -> dict[str, str]:
    """The text below each heading of a document."""
    return dict(_SECTION.findall((DOCUMENTS / name).read_text(encoding="utf-8")))


class Reader:
    """Somebody with a directory of his own."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        """Make one.

        Args:
            directory: an empty one.
            environment: the variables that the document speaks of.
        """
        self.directory = directory
        self._environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONWARNINGS": "ignore",
            "no_proxy": "127.0.0.1,localhost",
            **environment,
        }

    def follow(self, text: str) -> str:
        """Write the files that a text shows, then run its lines; what they print."""
        lines = ["set -eu -o pipefail"]
        for block in _BLOCK.finditer(text):
            if block["file"]:
                (self.directory / block["file"]).write_text(block["content"])
            elif block["language"] == "sh":
                lines.append(block["content"])
        return self.run("\n".join(lines))

    def run(self, script: str) -> str:
        """What a script that succeeds prints."""
        done = subprocess.run(
            ["bash", "-c", script],
            check=False,
            cwd=self.directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout
