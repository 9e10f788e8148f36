"""The CA's key is activated by several persons, for a time, and used by unattended programs meanwhile (R-6-2-1-7).

    split: PIN -> sealed (database), shares (people)
    activate: shares -> PIN -> activation file            until its time, or deactivate
    every use: is it active? (database) -> activation file

The file is to be where it does not outlive the machine: on a tmpfs such as /run. The scheduler removes it at the end.
"""

import contextlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from issuer.alarm import Alarm
from issuer.errors import RefusedError
from issuer.installation import Installation
from issuer.keys import change_pin, check_secret
from issuer.operations.act import Act, Facts
from issuer.records.activation_store import Activation, SealedData
from issuer.rules import shares
from issuer.rules.audit import SPLIT_WITHOUT_SHARES
from issuer.rules.operation import Parameters
from pkix.validity import whole_second
from settings.load import Settings

TELL_BEFORE: Final = timedelta(hours=48)  # two regular lists: time to gather four persons
MAX_DAYS: Final = 366
_MOMENT: Final = "%Y-%m-%dT%H:%M:%SZ"


async def keep(installation: Installation, new: SealedData, *, shares_lost: bool = False) -> None:
    """Keep what was split, once people have their shares; those of a split before activate nothing from then on.

    It is no operation: whoever knows the secret has the key anyway, and whoever has the shares knows it. Without shares
    of the one before (`shares_lost`) it is a finding of the auditor's review, for it may be one person's.
    """
    async with installation.store.transaction():
        await installation.activations.add_data(installation.authority_id, new)
        told = {"authority": installation.authority_id, "needed": new.needed, "shares": new.shares}
        kind = SPLIT_WITHOUT_SHARES if shares_lost else "activation_data_split"
        await installation.store.record(kind, new.made_at, shares.name(new.sealed).hex(), told)


async def joined(installation: Installation, entered: Sequence[str]) -> str:
    """The secret that was split last, of the shares that people entered.

    Raises:
        RefusedError: nothing was split; or as of `issuer.rules.shares`.
    """
    return _joined(await installation.activations.data(installation.authority_id), entered)


async def joined_before(installation: Installation, entered: Sequence[str]) -> str:
    """The secret that these shares are of, also of a split before: the token knows whether it is still its PIN.

    A split that was stopped between the record of it and the new PIN leaves the token with the one before.

    Raises:
        RefusedError: as `joined`.
    """
    kept = await installation.activations.all_data(installation.authority_id)
    given = {shares.parse(one).of for one in entered}
    its = [one for one in kept if {shares.name(one.sealed)} == given]
    return _joined(next(reversed(its or kept), None), entered)


def _joined(data: SealedData | None, entered: Sequence[str]) -> str:
    if data is None:
        raise RefusedError("no PIN of this CA was split; run `prefca activation split` first")
    return shares.joined(data.sealed, [shares.parse(one) for one in entered])


async def renew_pin(installation: Installation, old: str, new: str) -> None:
    """Give the token another PIN; a key that is active stays so, with that one.

    Raises:
        SigningError: the token cannot be used, or takes no such PIN.
        RefusedPinError: it refused the old one.
        ConfigurationError: keys are in files.
        RefusedError: there is no place for the PIN.
    """
    settings = installation.settings
    file, opens = _file(settings), old
    async with installation.store.transaction():
        await installation.operations.lock(installation.authority_id)
        is_used = file.exists() and await installation.activations.is_active(installation.authority_id)
        _remove(file)  # killed now, nobody sends the token a PIN of before, until it locks itself
        try:
            change_pin(settings, old, new)
            opens = new
        finally:
            if is_used:
                _replace(file, opens)


# ---------------------------------------------------------------- operations


def beginning(settings: Settings, until: datetime) -> Parameters:
    """What is signed to activate the key.

    Raises:
        RefusedError: there is no place for the PIN.
    """
    _file(settings)
    return {"until": f"{until:{_MOMENT}}"}


async def is_opened(installation: Installation) -> bool:
    """Whether nobody has to activate the key before it is used: it is active, or is not activated at all."""
    settings = installation.settings
    if settings.signer.activation_file is None:
        return True
    return _file(settings).exists() and await installation.activations.is_active(installation.authority_id)


async def activate(act: Act) -> Facts:
    """Perform ACTIVATE: its secrets are the shares.

    Raises:
        RefusedError: the time is over or too long; the shares do not open the secret; or there is no place for it.
        SigningError: the secret does not open the keys: somebody has changed it since.
    """
    installation, now = act.installation, whole_second(act.clock())
    until = datetime.strptime(str(act.parameters["until"]), _MOMENT).replace(tzinfo=UTC)
    if not now < until <= now + timedelta(days=MAX_DAYS):
        raise RefusedError(f"the key can be activated until a time to come, {MAX_DAYS} days from now at most")
    secret, file = await joined(installation, act.secrets), _file(installation.settings)
    check_secret(installation.settings, secret)
    facts = {"active_until": act.parameters["until"], "shares": len(act.secrets)}
    async with installation.store.transaction():
        await installation.operations.lock(installation.authority_id)  # the scheduler does not tidy it away meanwhile
        _replace(file, secret)
        await installation.activations.begin(installation.authority_id, now, until)
        await installation.store.record(
            "key_activated", now, str(act.parameters["until"]), {"shares": len(act.secrets)}
        )
        await act.settle(facts)
    return facts


async def deactivate(act: Act) -> Facts:
    """Perform DEACTIVATE; that the key is not active is no failure.

    Raises:
        RefusedError: keys of this CA are not activated at all.
    """
    installation, now = act.installation, whole_second(act.clock())
    file = _file(installation.settings)
    facts = {"active_until": f"{now:{_MOMENT}}"}
    async with installation.store.transaction():
        await installation.operations.lock(installation.authority_id)  # nobody activates it meanwhile
        newest = await installation.activations.newest(installation.authority_id)
        if newest is not None:
            await installation.activations.end(newest.activation_id, now)
        await installation.store.record("key_deactivated", now, file.name)
        await act.settle(facts)
        _remove(file)
    return facts


# ---------------------------------------------------------------- supervision


async def tidy(installation: Installation) -> None:
    """Remove the file when the time is over."""
    if installation.settings.signer.activation_file is None:
        return
    async with installation.store.transaction():
        await installation.operations.lock(installation.authority_id)  # nobody is activating it
        if not await installation.activations.is_active(installation.authority_id):
            with contextlib.suppress(OSError):
                _remove(_file(installation.settings))


def alarms(settings: Settings, newest: Activation | None, now: datetime) -> list[Alarm]:
    """What has to be done about the activation of the CA's key."""
    signer = settings.signer
    if signer.activation_file is None:
        if settings.ca.hierarchy == "production" and signer.pin_file is not None:
            text = (
                "the PIN lies in `signer.pin_file`, for one person to use; set `signer.activation_file` instead, and"
                " split it (`prefca activation split --new-pin`)"
            )
            return [Alarm("pin_in_file", text)]
        return []
    if newest is None or newest.ended_at is not None or newest.ends_at <= now:
        return [Alarm("key_not_activated", "nothing can be signed; `prefca activation start` asks the key managers")]
    if newest.ends_at - now < TELL_BEFORE:
        text = f"the CA's key is activated until {newest.ends_at:{_MOMENT}}; run `prefca activation start` before"
        return [Alarm("activation_ending", text)]
    if not _file(settings).exists():
        return [
            Alarm("key_not_activated", "the activation file is gone, as after a restart; `prefca activation start`")
        ]
    return []


def _file(settings: Settings) -> Path:
    if settings.signer.activation_file is None:
        raise RefusedError("set `signer.activation_file`, where the PIN lies while the key is active, first")
    return settings.path(settings.signer.activation_file)


def _replace(file: Path, secret: str) -> None:
    """Write it anew, for its owner alone."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = _unfinished(file)
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(f"{secret}\n")
    unfinished.replace(file)


def _remove(file: Path) -> None:
    """With what a process left that was killed while it wrote."""
    for one in (file, _unfinished(file)):
        one.unlink(missing_ok=True)


def _unfinished(file: Path) -> Path:
    return file.with_name(f".{file.name}.new")
