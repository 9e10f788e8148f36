"""The papers of a ceremony: the script that is laid out before, and the record that is signed after (鍵セレモニー).

Pure: what is told is given. They are Japanese, for those who sign them. The script is the manager's order, too
(作業指示, R-5-2-2-2).
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from issuer.operations.ceremony import Step
from issuer.operations.consent import Case
from issuer.rules.operation import OperationKind, Parameters, Role
from issuer.rules.person import Operator
from pkix.validity import JST

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
_SIGNATURES: Final = "署名欄"
_BLANK: Final = "－"

Block = tuple[str, list[list[str]]]  # a heading, and rows of which the first is the head of a table


@dataclass(frozen=True, slots=True)
class Paper:
    """Tables under headings."""

    title: str
    blocks: Sequence[Block]

    def markdown(self) -> str:
        """To be read on a screen, and for the archive."""
        parts = [f"# {self.title}", ""]
        for heading, (head, *rows) in self.blocks:
            parts += [f"## {heading}", "", _line(head), _line(["---"] * len(head)), *map(_line, rows), ""]
        return "\n".join(parts)

    def html(self) -> str:
        """To be printed and signed."""
        style = (
            "@page{size:A4;margin:20mm}body{font-family:sans-serif}table{border-collapse:collapse;width:100%}"
            "td,th{border:1px solid #999;padding:.3em;text-align:left;min-width:4em;overflow-wrap:anywhere}"
            "h2{break-after:avoid}tr,table.sign{break-inside:avoid}table.sign td{height:3em}"
        )
        parts = [
            '<!DOCTYPE html><html lang="ja"><head><meta charset="utf-8">',
            f"<title>{html.escape(self.title)}</title><style>{style}</style></head><body>",
            f"<h1>{html.escape(self.title)}</h1>",
        ]
        for heading, (head, *rows) in self.blocks:
            kind = ' class="sign"' if heading == _SIGNATURES else ""
            parts.append(f"<h2>{html.escape(heading)}</h2><table{kind}>{_row(head, 'th')}")
            parts += [*(_row(row, "td") for row in rows), "</table>"]
        return "\n".join([*parts, "</body></html>\n"])


@dataclass(frozen=True, slots=True)
class Gathering:
    """Who comes together, where, and for which CA."""

    ca: str
    is_production: bool
    place: str
    present: Sequence[Operator]
    witnesses: Sequence[str]


def script(gathering: Gathering, steps: Sequence[Step], at: datetime, *, publishes: bool) -> Paper:
    """What is going to be done, in which order, and by whom."""
    blocks = [*_opening(gathering, ("作成", moment(at)))]
    blocks += [(f"手順{number}　{KINDS[step.kind]}", _planned(step)) for number, step in enumerate(steps, 1)]
    if publishes:
        blocks.append((f"手順{len(steps) + 1}　失効情報の公開", [["項目", "内容"], ["実施", "全手順の完了後、直ちに"]]))
    signature = [["役割", "氏名", "署名", "日付"], [ROLES[Role.MANAGER], "", "", ""]]
    return Paper(f"鍵セレモニー手順書{_kind(gathering)}", [*blocks, (_SIGNATURES, signature)])


def record(
    gathering: Gathering, period: tuple[datetime, datetime], cases: Sequence[Case], published: Mapping[str, str]
) -> Paper:
    """What took place.

    Args:
        gathering: who was there.
        period: from when until when.
        cases: the operations, with what came of them.
        published: what is told of the lists that were published at the end; nothing, if none were.
    """
    began, ended = period
    blocks = [*_opening(gathering, ("日時", f"{moment(began)} から {moment(ended)} まで"))]
    blocks += [(f"手順{number}　{KINDS[case.request.kind]}", _done(case)) for number, case in enumerate(cases, 1)]
    if published:
        rows = [[name, value] for name, value in published.items()]
        blocks.append((f"手順{len(cases) + 1}　失効情報の公開", [["項目", "内容"], *rows]))
    people = [[one.full_name, _roles(one.roles)] for one in gathering.present]
    people += [[name, "立会人"] for name in gathering.witnesses]
    signatures = [["氏名", "役割", "署名", "日付"], *([*person, "", ""] for person in people)]
    return Paper(f"鍵セレモニー記録{_kind(gathering)}", [*blocks, (_SIGNATURES, signatures)])


def moment(at: datetime) -> str:
    """By the clock of Japan."""
    return f"{at.astimezone(JST):%Y年%-m月%-d日 %H時%M分%S秒}"


def _kind(gathering: Gathering) -> str:
    return "" if gathering.is_production else "（リハーサル）"


def _opening(gathering: Gathering, time: tuple[str, str]) -> list[Block]:
    overview = [
        ["項目", "内容"],
        ["認証局", gathering.ca],
        ["場所", gathering.place],
        [*time],
        ["区分", "本番" if gathering.is_production else "リハーサル（テスト用階層）"],
    ]
    people = [
        ["氏名", "識別名", "役割", "署名用公開鍵（SHA-256）"],
        *([one.full_name, one.name, _roles(one.roles), one.fingerprint] for one in gathering.present),
        *([name, _BLANK, "立会人", _BLANK] for name in gathering.witnesses),
    ]
    return [("実施概要", overview), ("参加者", people)]


def _planned(step: Step) -> list[list[str]]:
    number = "開始後に付番" if step.case is None else str(step.case.request.number)
    needed = "、".join(f"{ROLES[role]}{count}名" for role, count in step.needs.items())
    return [
        ["項目", "内容"],
        ["操作番号", f"{number}（{step.kind}）"],
        *_parameters(step.parameters),
        ["合意する者", needed or _BLANK],
        ["状態", "実施済み" if step.is_over else "未実施"],
    ]


def _done(case: Case) -> list[list[str]]:
    request = case.request
    rows = [
        ["項目", "内容"],
        ["操作番号", f"{request.number}（{request.kind}）"],
        ["合意内容（SHA-256）", case.row.sha256.hex()],
        *_parameters(request.parameters),
        ["申請", f"{moment(request.requested_at)}　{request.requested_by}"],
    ]
    for approval in case.row.approvals:
        operator = case.operators[approval.operator_id]
        role = _roles([approval.role]) if approval.role else _roles(operator.roles)
        rows.append(["合意（電子署名）", f"{moment(approval.approved_at)}　{operator.full_name}（{role}）"])
    for event in case.row.events:
        rows.append([_EVENTS[event.event], f"{moment(event.at)}　{event.origin}"])
        rows += [[f"結果 {name}", str(value)] for name, value in event.detail.items()]
    return rows


def _parameters(parameters: Parameters) -> list[list[str]]:
    return [[f"指定 {name}", _BLANK if value is None else str(value)] for name, value in sorted(parameters.items())]


def _roles(roles: Iterable[Role]) -> str:
    return "、".join(name for role, name in ROLES.items() if role in set(roles))


def _row(cells: Iterable[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split("\n")) for cell in cells) + " |"
