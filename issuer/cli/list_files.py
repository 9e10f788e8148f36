"""Lists as files of a directory, with a manifest and SHA-256 sums: what was exported there before stays as it is."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from issuer.cli.list_choice import is_public
from issuer.cli.output import json_line
from issuer.errors import RefusedError
from issuer.records.list_store import KeptList
from issuer.whole import write_whole

MANIFEST: Final = "manifest.jsonl"
SUMS: Final = "SHA256SUMS"

_PUBLIC: Final = 0o666  # less what the umask takes
_RESTRICTED: Final = 0o600


class ListFiles:
    """A directory of lists. It is made with the first one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._manifest = {json.loads(line)["file"]: line for line in _lines(directory / MANIFEST)}
        self._sums = {line.rstrip("\n").partition("  ")[2]: line for line in _lines(directory / SUMS)}

    def add(self, kept: KeptList, octets: bytes, *, name: str, row: dict[str, Any]) -> None:
        """Write a list; residents' ones for their owner alone, as not everybody may have them (R-2-6-3-2).

        Raises:
            OSError: it cannot be written.
            RefusedError: the file is there and has other content.
        """
        file = self._directory / name
        if file.exists() and file.read_bytes() != octets:
            raise RefusedError(f"{file} is there with other content; export to another directory")
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(file, octets, mode=_PUBLIC if is_public(kept.label) else _RESTRICTED)
        self._manifest[name] = json_line({"file": name} | row) + "\n"
        self._sums[name] = f"{hashlib.sha256(octets).hexdigest()}  {name}\n"

    def name_all(self) -> None:
        """Write the manifest and the sums of what was added and of what was there before; raises OSError."""
        for file, lines in ((MANIFEST, self._manifest), (SUMS, self._sums)):
            write_whole(self._directory / file, "".join(lines[name] for name in sorted(lines)).encode())


def filename_of(kept: KeptList, prefecture: str, *, der: bool) -> str:
    """131016-0000000042-20260401T030000Z.pem: sorts by list, then by number. By a later key of the CA: …Z-key2.pem.

    Codes are of one municipality in the country; every CA has an ARL: Tokyo-to-ca-0000000042-….pem.
    """
    made = kept.publication.window.this_update
    label = f"{prefecture}-{kept.label}" if is_public(kept.label) else kept.label
    key = "" if kept.generation == 1 else f"-key{kept.generation}"
    return f"{label}-{kept.crl_number:010}-{made:%Y%m%dT%H%M%SZ}{key}.{'crl' if der else 'pem'}"


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines(keepends=True) if file.exists() else []
