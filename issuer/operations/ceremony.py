"""What has to be so before persons gather for a key ceremony, and the record that they sign afterwards (鍵セレモニー).

Pure: what is checked and recorded is given. The record is Japanese, for those who sign it.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from issuer.operations.consent import Case
from issuer.rules.operation import OperationKind, Role
from issuer.rules.person import Operator
from issuer.rules.quorum import missing, text
from pkix.validity import JST

MAX_CLOCK_DIFFERENCE: Final = timedelta(seconds=10)
ROLES: Final[Mapping[Role, str]] = {
    Role.MANAGER: "認証局管理責任者",
    Role.KEY_MANAGER: "秘密鍵管理者",
    Role.RECEPTION: "受付担当者",
    Role.EXAMINER: "審査担当者",
    Role.APPROVER: "審査承認者",
    Role.SENIOR_OPERATOR: "上級操作員",
    Role.REPOSITORY_OPERATOR: "リポジトリ操作員",
    Role.GENERAL_OPERATOR: "一般操作員",
    Role.AUDITOR: "内部監査者",
}
KINDS: Final[Mapping[OperationKind, str]] = {
    OperationKind.FOUND: "鍵ペアの生成及び自己署名証明書の発行",
    OperationKind.PREPARE_KEY: "鍵更新（新しい鍵ペアの生成、自己署名証明書及びリンク証明書の発行）",
    OperationKind.SWITCH_KEY: "鍵更新（新しい鍵への切替え）",
    OperationKind.DELEGATES_AHEAD: "OCSPレスポンダ証明書の事前発行",
    OperationKind.ACTIVATE: "秘密鍵の活性化",
    OperationKind.DEACTIVATE: "秘密鍵の非活性化",
    OperationKind.BACK_UP_KEY: "秘密鍵のバックアップ",
    OperationKind.DESTROY_KEY: "秘密鍵の破棄",
    OperationKind.COMPROMISE: "秘密鍵の危殆化への対応",
    OperationKind.OPERATIONS_CERTIFICATE: "運営のための証明書の発行",
    OperationKind.CROSS_REQUEST: "相互認証証明書の発行申請",
    OperationKind.CROSS_CERTIFICATE: "相互認証証明書の発行",
    OperationKind.CROSS_REVOCATION: "相互認証証明書の失効",
    OperationKind.REVOKE_CERTIFICATE: "証明書の失効",
    OperationKind.CHANGE_POLICY: "証明書ポリシの設定及び変更",
    OperationKind.REGISTER_OPERATOR: "要員の登録",
    OperationKind.END_OPERATOR: "要員の登録の終了",
}
_EVENTS: Final = {"begun": "開始", "done": "完了", "failed": "失敗", "withdrawn": "取下げ"}


@dataclass(frozen=True, slots=True)
class Room:
    """Where the ceremony is, and with what."""

    is_production: bool
    is_rehearsal: bool
    signer: str  # "pkcs11" or "software"
    pin_in_file: bool
    key_bits: int | None  # of the CA's key; None: there is none yet
    clock_difference: timedelta  # of this machine and the database
    present: Sequence[Operator]
    unknown: Sequence[str]  # names of persons who are no operators


def obstacles(room: Room, cases: Iterable[Case]) -> list[str]:
    """What is in the way; each says what to do."""
    found = []
    if room.is_production and room.is_rehearsal:
        found.append("this is the production CA: rehearse with an instance of the test hierarchy")
    if not room.is_production and not room.is_rehearsal:
        found.append("this CA is of the test hierarchy: add --rehearse")
    if room.is_production and (room.signer != "pkcs11" or room.pin_in_file):
        found.append("the key of a production CA is in a token whose PIN is split: set `signer.activation_file`")
    if room.key_bits not in {None, 2048}:
        found.append(f"the CA's key has {room.key_bits} bits, the rule says 2048 (R-6-1-1-2)")
    if abs(room.clock_difference) > MAX_CLOCK_DIFFERENCE:
        seconds = abs(room.clock_difference).total_seconds()
        found.append(f"the clocks of this machine and the database differ by {seconds:.0f} s: set them")
    found += [f"{name} is no operator of this CA: register the person first" for name in room.unknown]
    persons = {one.name: one.roles for one in room.present}
    for case in cases:
        agreed = {case.operators[one.operator_id].name for one in case.row.approvals}
        everybody = persons | {one.name: one.roles for one in case.operators.values() if one.name in agreed}
        lacks = missing(case.request.needs, everybody)
        if lacks:
            found.append(f"for {case.name} somebody is not here: {text(lacks)}")
    return found


@dataclass(frozen=True, slots=True)
class Record:
    """What took place."""

    title: str
    ca: str
    place: str
    began: datetime
    ended: datetime
    present: Sequence[Operator]
    witnesses: Sequence[str]
    cases: Sequence[Case]
    is_rehearsal: bool


Block = tuple[str, list[list[str]]]  # a heading, and rows of which the first is the head of a table


def blocks(record: Record) -> list[Block]:
    """The record as tables."""
    made: list[Block] = [
        (
            "実施概要",
            [
                ["項目", "内容"],
                ["認証局", record.ca],
                ["場所", record.place],
                ["日時", f"{_moment(record.began)} から {_moment(record.ended)} まで"],
                ["区分", "リハーサル（テスト用階層）" if record.is_rehearsal else "本番"],
            ],
        ),
        (
            "参加者",
            [
                ["氏名", "識別名", "役割", "署名用公開鍵（SHA-256）"],
                *([one.full_name, one.name, _roles(one.roles), one.fingerprint] for one in record.present),
                *([name, "－", "立会人", "－"] for name in record.witnesses),
            ],
        ),
    ]
    made += [_step(number, case) for number, case in enumerate(record.cases, 1)]
    people = [[one.full_name, _roles(one.roles)] for one in record.present]
    lines = [[name, roles, "", ""] for name, roles in (*people, *([name, "立会人"] for name in record.witnesses))]
    return [*made, ("署名欄", [["氏名", "役割", "署名", "日付"], *lines])]


def _step(number: int, case: Case) -> Block:
    request = case.request
    rows = [
        ["項目", "内容"],
        ["操作番号", f"{request.number}（{request.kind}）"],
        ["合意内容（SHA-256）", case.row.sha256.hex()],
        *([f"指定 {name}", _said(value)] for name, value in sorted(request.parameters.items())),
        ["申請", f"{_moment(request.requested_at)}　{request.requested_by}"],
    ]
    for approval in case.row.approvals:
        operator = case.operators[approval.operator_id]
        role = _roles([approval.role]) if approval.role else _roles(operator.roles)
        rows.append(["合意（電子署名）", f"{_moment(approval.approved_at)}　{operator.full_name}（{role}）"])
    for event in case.row.events:
        rows.append([_EVENTS[event.event], f"{_moment(event.at)}　{event.origin}"])
        rows += [[f"結果 {name}", str(value)] for name, value in event.detail.items()]
    return f"手順{number}　{KINDS[request.kind]}", rows


def as_markdown(record: Record) -> str:
    """For the archive."""
    parts = [f"# {record.title}", ""]
    for heading, (head, *rows) in blocks(record):
        parts += [f"## {heading}", "", _line(head), _line(["---"] * len(head)), *map(_line, rows), ""]
    return "\n".join(parts)


def as_html(record: Record) -> str:
    """To be printed and signed."""
    style = (
        "@page{size:A4;margin:20mm}body{font-family:sans-serif}table{border-collapse:collapse;width:100%}"
        "td,th{border:1px solid #999;padding:.3em;text-align:left;min-width:4em;overflow-wrap:anywhere}"
        "h2{break-after:avoid}tr,table.sign{break-inside:avoid}table.sign td{height:3em}"
    )
    parts = [
        '<!DOCTYPE html><html lang="ja"><head><meta charset="utf-8">',
        f"<title>{html.escape(record.title)}</title><style>{style}</style></head><body>",
        f"<h1>{html.escape(record.title)}</h1>",
    ]
    for heading, (head, *rows) in blocks(record):
        kind = ' class="sign"' if heading == "署名欄" else ""
        parts.append(f"<h2>{html.escape(heading)}</h2><table{kind}>{_row(head, 'th')}")
        parts += [*(_row(row, "td") for row in rows), "</table>"]
    return "\n".join([*parts, "</body></html>\n"])


def title(is_rehearsal: bool) -> str:  # noqa: FBT001 - what it is about
    """Of the record."""
    return "鍵セレモニー記録（リハーサル）" if is_rehearsal else "鍵セレモニー記録"


def _said(value: str | int | None) -> str:
    return "－" if value is None else str(value)


def _roles(roles: Iterable[Role]) -> str:
    return "、".join(name for role, name in ROLES.items() if role in set(roles))


def _row(cells: Iterable[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split("\n")) for cell in cells) + " |"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(JST):%Y年%-m月%-d日 %H時%M分%S秒}"
