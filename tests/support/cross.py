"""The people of a CA who cross-certify with a bridge, as `prefca cross` has them work."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.bridge import BRIDGE_POLICY, PARTNER, Bridge
from tests.support.command import Ended, Prefca

HANA, JIRO, MASA, KEN = "山田　花子", "鈴木 次郎", "田中 雅子", "佐藤 健"


@dataclass
class Desk:
    """The people of a CA at work, with a bridge on the other side."""

    prefca: Prefca
    directory: Path
    bridge: Bridge
    ca: str | None = None  # whose, of several

    def file(self, name: str, octets: bytes) -> Path:
        """A file with these octets."""
        path = self.directory / name
        path.write_bytes(octets)
        return path

    def cross(self, *arguments: object, **options: object) -> Ended:
        """One command of `prefca cross`."""
        flags = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        target = () if self.ca is None else ("--ca", self.ca)
        return self.prefca(*target, "cross", *map(str, arguments), *flags)

    def done(self, *arguments: object, **options: object) -> Any:
        """The same, which succeeds and prints JSON."""
        return self.cross(*arguments, "--json", **options).json

    def export(self, what: str, *case: int) -> bytes:
        """What `prefca cross export` writes."""
        path = self.directory / "exported"
        ended = self.cross("export", what, *case, output=path)
        assert ended.status == 0, ended
        return path.read_bytes()

    def receive(self, **options: object) -> int:
        """A new case."""
        csr = self.file("bridge.csr", self.bridge.request())
        number: int = self.done("receive", csr=csr, partner=PARTNER, policy=BRIDGE_POLICY, by=HANA, **options)["case"]
        return number

    def up_to_approval(self, **options: object) -> int:
        """A case that is approved."""
        case = self.receive(**options)
        self.done("examine", case, key_sha256=self.bridge.key_sha256, evidence="登記と電話で確認", by=JIRO)
        self.done("approve", case, note="審査結果のとおり", by=MASA)
        return case

    def up_to_issue(self, **options: object) -> int:
        """A case whose certificate for the bridge is issued."""
        case = self.up_to_approval(**options)
        self.done("test", case, "--passed", note="接続テスト成績書 1", by=KEN)
        self.done("issue", case, by=KEN)
        return case

    def their_certificate(self, **wishes: Any) -> bytes:
        """What the bridge issues for our newest request."""
        self.done("request")
        wishes = {"not_before": datetime.now(UTC).replace(microsecond=0), **wishes}
        wishes = {"not_after": wishes["not_before"] + timedelta(days=5 * 365), **wishes}
        return self.bridge.certify_request(self.export("request"), **wishes).public_bytes(Encoding.PEM)

    def exchange(self, case: int) -> None:
        """The bridge's certificate, and both receipts."""
        self.done("accept", case, self.file("theirs.pem", self.their_certificate()), by=KEN)
        self.done("give-receipt", case, by=HANA)
        assert self.done("take-receipt", case, self.file("receipt.pdf", b"%PDF-"), by=HANA)["state"] == "completed"

    def up_to_completion(self, **options: object) -> int:
        """A case with a pair."""
        case = self.up_to_issue(**options)
        self.exchange(case)
        return case
