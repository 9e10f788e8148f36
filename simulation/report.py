"""What is said of a simulation: a summary, and what did not hold."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from issuer.profiles.authority import Kind
from pkix.validity import JST
from simulation.history import History
from simulation.invariants import INVARIANTS

SHOWN: Final = 50  # of what did not hold
_TERMS: Final = {
    Kind.RESIDENT: "電子証明書",
    Kind.SELF_SIGNED: "自己署名証明書",
    Kind.LINK: "リンク証明書",
    Kind.CROSS: "相互認証証明書",
    Kind.OCSP: "OCSPレスポンダ証明書",
    Kind.CVS: "官職証明書検証サーバ証明書",
}


def facts(history: History) -> dict[str, Any]:
    """For scripts."""
    certificates = history.certificates.values()
    return {
        "start": history.plan.start.isoformat(),
        "end": history.plan.end.isoformat(),
        "keys": [
            {
                "number": key.number,
                "state": key.state,
                "active": [_day(moment) for moment in history.active.get(generation, ())],
            }
            for generation, key in sorted(history.keys.items(), key=lambda item: item[1].number)
        ],
        "issued": Counter(one.kind.value for one in certificates),
        "revoked": Counter(one.kind.value for one in certificates if one.revoked is not None),
        "reasons": Counter(one.revoked.reason.label for one in certificates if one.revoked is not None),
        "sights": history.sights,
        "lists": history.lists,
        "statuses": history.statuses,
        "invariants": list(INVARIANTS),
        "broken": [{"at": one.at, "invariant": one.invariant, "what": one.what} for one in history.broken],
    }


def lines(history: History) -> Iterator[str]:
    """For people."""
    yield f"期間  {history.plan.start} – {history.plan.end}"
    for generation, key in sorted(history.keys.items(), key=lambda item: item[1].number):
        used = " – ".join(_day(moment) for moment in history.active.get(generation, ()))
        until = _day(key.validity.not_after)
        yield f"知事の鍵 {key.number}  署名 {used or 'なし'}  自己署名証明書は {until} まで  {key.state}"
    issued = Counter(one.kind for one in history.certificates.values())
    revoked = Counter(one.kind for one in history.certificates.values() if one.revoked is not None)
    for kind, term in _TERMS.items():
        if issued[kind]:
            yield f"{term}  発行 {issued[kind]}  失効 {revoked[kind]}"
    yield (
        f"確認  {history.sights} 回: CRL/ARL {history.lists}、OCSP の回答 {history.statuses}、"
        f"不変条件 {len(INVARIANTS)}"
    )
    yield from _broken(history)


def _broken(history: History) -> Iterator[str]:
    if not history.broken:
        yield "no invariant was broken"
        return
    yield f"{len(history.broken)} times an invariant was broken:"
    for one in history.broken[:SHOWN]:
        yield f"  {one.at.astimezone(JST):%Y-%m-%d %H:%M} {one.invariant}: {one.what}"
    if len(history.broken) > SHOWN:
        yield f"  and {len(history.broken) - SHOWN} more; --json shows all"


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(JST):%Y-%m-%d}"
