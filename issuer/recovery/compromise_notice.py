"""What is told when a key of the CA is compromised (危殆化), in Japanese.

The page for the web (R-2-6-1-1, R-4-4-1-3), and the report to the bridge CA, 個人認証BCA (R-4-14-2).
"""

import html
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from issuer.profiles.authority import Authority
from pkix.validity import JST


@dataclass(frozen=True, slots=True)
class CompromiseFacts:
    """What the notices tell."""

    authority: Authority
    certificate: x509.Certificate  # self-signed, of the key
    decided_at: datetime
    circumstances: str
    certificates: int  # that were revoked
    published_at: datetime | None  # thisUpdate of the first lists that say so; None: there are none yet


def notices(facts: CompromiseFacts) -> dict[str, str]:
    """The notices by file name."""
    title, paragraphs = _title(facts), _paragraphs(facts)
    return {
        "web.html": _PAGE.format(
            title=html.escape(title),
            paragraphs="".join(f"<p>{html.escape(one)}</p>\n" for one in paragraphs),
            rows="".join(
                f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>\n" for name, value in _rows(facts)
            ),
        ),
        "web.txt": "\n\n".join([title, *paragraphs, _table(facts)]) + "\n",
        "bca.txt": _report(facts),
    }


def _title(facts: CompromiseFacts) -> str:
    return f"{_governor(facts)}の秘密鍵の危殆化に係る情報"


def _governor(facts: CompromiseFacts) -> str:
    of_test = "（テスト）" if facts.authority.hierarchy == "test" else ""
    return facts.authority.prefecture.governor_ja + of_test


def _paragraphs(facts: CompromiseFacts) -> list[str]:
    return [
        f"{_governor(facts)}の秘密鍵が危殆化した（紛失、漏えい等により管理不能になった、又はその疑いがある）ため、"
        f"{_japanese(facts.decided_at)}に電子証明書の発行業務を停止し、"
        "その秘密鍵により署名したすべての証明書を職権で失効させました。",
        *([facts.circumstances] if facts.circumstances else []),
        f"失効した証明書は{facts.certificates:,}枚（有効期間内のもの。失効事由は cACompromise (2)）です。"
        f"{_lists(facts)}",
        "利用者の方へ：お持ちの電子証明書は使用できません。"
        "新しい電子証明書の発行については、住所地の市区町村の窓口からご案内します。",
        "署名検証者及び団体署名検証者の方へ：下記の自己署名証明書を信頼する証明書から取り除き、"
        "上記の日時以後、この証明書から始まる証明書を受け入れないでください。",
    ]


def _lists(facts: CompromiseFacts) -> str:
    if facts.published_at is None:
        return "失効記録（CRL/ARL）は、新しい秘密鍵により発行します。それまではOCSPにより有効性を確認してください。"
    return f"失効記録（CRL/ARL）は{_japanese(facts.published_at)}に発行しました。"


def _rows(facts: CompromiseFacts) -> list[tuple[str, str]]:
    certificate = facts.certificate
    return [
        ("認証局", facts.authority.name.rfc4514_string()),
        ("自己署名証明書のシリアル番号", f"{certificate.serial_number:016X}"),
        ("自己署名証明書の有効期間", _period(certificate)),
        ("自己署名証明書のフィンガープリント（SHA-256）", certificate.fingerprint(hashes.SHA256()).hex(":").upper()),
        ("失効日時", _japanese(facts.decided_at)),
    ]


def _period(certificate: x509.Certificate) -> str:
    return f"{_japanese(certificate.not_valid_before_utc)}から{_japanese(certificate.not_valid_after_utc)}まで"


def _table(facts: CompromiseFacts) -> str:
    return "\n".join(f"{name}：{value}" for name, value in _rows(facts))


def _report(facts: CompromiseFacts) -> str:
    """To the bridge CA, which revokes the cross-certificate that it issued to this key."""
    return (
        "\n\n".join(
            [
                "公的個人認証サービスブリッジ認証局（個人認証BCA）　御中",
                f"{_governor(facts)}の秘密鍵の危殆化について（報告）",
                *_paragraphs(facts)[: 3 if facts.circumstances else 2],
                "この秘密鍵に対して個人認証BCAが発行した相互認証証明書の失効をお願いします。"
                "また、この秘密鍵により署名した個人認証BCAあての相互認証証明書も失効しました。",
                _table(facts),
                f"{_japanese(facts.decided_at)}\n{_governor(facts)}",
            ]
        )
        + "\n"
    )


def _japanese(moment: datetime) -> str:
    return f"{moment.astimezone(JST):%Y年%-m月%-d日%-H時%M分%S秒}"


_PAGE: Final = """<!DOCTYPE html>
<html lang="ja">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font-family: "Noto Sans CJK JP", "Hiragino Sans", "Yu Gothic", sans-serif; max-width: 54em; margin: 2em auto }}
td, th {{ border: 1px solid #999; padding: .3em .6em; text-align: left; overflow-wrap: anywhere }}
table {{ border-collapse: collapse }}
</style>
<h1>{title}</h1>
{paragraphs}<table>
{rows}</table>
</html>
"""
