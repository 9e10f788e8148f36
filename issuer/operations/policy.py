"""Changing the policy of certificates (証明書等ポリシー, 5-2-1-1 (6)): a decision of several persons, on record.

What relying parties see of a CA is set in the configuration, and the configuration is edited by hand. So the decision
has a text, and the hash of those settings as they are then; whether they are still so can be checked at any time.
"""

import json
from hashlib import sha256
from typing import Any

from issuer.errors import RefusedError
from issuer.operations.act import Act, Facts
from issuer.operations.consent import Case
from issuer.rules.operation import OperationKind, Parameters
from settings.load import Settings

MAX_TEXT = 2000


def seen_settings(settings: Settings) -> dict[str, Any]:
    """What relying parties see of it: names, policies, dates and forms of certificates and lists."""
    ca = settings.ca.model_dump(mode="json", exclude={"signer", "crl", "schedule"})
    return {
        "ca": ca,
        "crl": settings.crl.model_dump(mode="json"),
        "schedule": settings.schedule.model_dump(mode="json", exclude={"alarm_after_min"}),
    }


def digest(settings: Settings) -> str:
    """SHA-256 of these settings."""
    return sha256(json.dumps(seen_settings(settings), sort_keys=True).encode()).hexdigest()


def change(settings: Settings, text: str) -> Parameters:
    """What is signed to change the policy.

    Raises:
        RefusedError: nothing is said of it, or too much.
    """
    if not 0 < len(text.strip()) <= MAX_TEXT:
        raise RefusedError(f"say what is changed and why, in 1 to {MAX_TEXT} characters")
    return {"text": text.strip(), "settings_sha256": digest(settings)}


async def perform(act: Act) -> Facts:
    """Perform CHANGE_POLICY.

    Raises:
        RefusedError: the settings are others than when people agreed.
    """
    if act.parameters["settings_sha256"] != digest(act.installation.settings):
        raise RefusedError("the settings are others than those that were agreed to; ask for it anew")
    facts = {"settings_sha256": act.parameters["settings_sha256"], "text": act.parameters["text"]}
    async with act.installation.store.transaction():
        await act.settle(facts)
    return facts


def agreed(cases: list[Case]) -> Case | None:
    """The last decision that was made."""
    done = [one for one in cases if one.row.events and one.row.events[-1].event == "done"]
    return next((one for one in reversed(done) if one.request.kind is OperationKind.CHANGE_POLICY), None)
