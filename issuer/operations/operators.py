"""Registering the persons who operate the CA, and ending that: operations themselves (R-5-2-2-3)."""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Final

from issuer.errors import RefusedError
from issuer.operations.act import Act, Facts
from issuer.operations.agreement import operators
from issuer.records.operation_store import TwiceError
from issuer.rules.operation import OperationKind, Parameters, Role
from issuer.rules.person import Operator, parse_roles, signing_key, spki
from issuer.rules.quorum import text, unreachable
from issuer.rules.request import is_plain
from pkix.signing import PublicKey
from pkix.validity import whole_second

_NAME: Final = re.compile("[a-z0-9][a-z0-9._-]{0,63}")
MAX_FULL_NAME: Final = 100


def registration(name: str, full_name: str, roles: Iterable[str], key: PublicKey) -> Parameters:
    """What is signed to register a person."""
    encoded = base64.b64encode(spki(key)).decode()
    return {"name": name, "full_name": full_name, "roles": ",".join(sorted(roles)), "key": encoded}


def requested_operator(parameters: Parameters, act: Act) -> Operator:
    """The person whom the parameters describe.

    Raises:
        RefusedError: name, roles or key cannot be registered.
    """
    name, full_name = str(parameters["name"]), str(parameters["full_name"])
    if _NAME.fullmatch(name) is None:
        raise RefusedError(f"{name!r} is no name of an operator; write small letters, digits, '.', '_' and '-'")
    if not 0 < len(full_name) <= MAX_FULL_NAME:
        raise RefusedError(f"the full name of {name} has not 1 to {MAX_FULL_NAME} characters; correct it")
    if not is_plain(full_name):
        raise RefusedError(f"the full name of {name} has characters that nobody sees; write it as on paper")
    try:
        key = signing_key(base64.b64decode(str(parameters["key"]), validate=True))
    except binascii.Error as e:
        raise RefusedError(f"the key of {name} is not base64") from e
    roles = parse_roles([role for role in str(parameters["roles"]).split(",") if role])
    return Operator(0, name, full_name, roles, spki(key), whole_second(act.clock()), act.number)


async def register(act: Act) -> Facts:
    """Perform REGISTER_OPERATOR.

    Raises:
        RefusedError: there is an operator with that name, or the key is another person's.
    """
    new = requested_operator(act.parameters, act)
    installation = act.installation
    for one in await operators(installation):
        if one.key == new.key and one.name != new.name:
            raise RefusedError(f"the key of {new.name} is that of {one.name}; a key is one person's, make another one")
        if one.name == new.name and one.ended_at is None:
            raise RefusedError(f"{new.name} is registered; end that first, and register the person anew")
    facts = {"operator": new.name, "roles": ", ".join(sorted(new.roles)), "key_sha256": new.fingerprint}
    async with installation.store.transaction():
        try:
            await installation.operations.add_operator(installation.authority_id, new)
        except TwiceError as e:
            raise RefusedError(
                f"{new.name} or that key was registered meanwhile; look at `prefca operator list`"
            ) from e
        await act.settle(facts)
    return facts


def ending(name: str, present: Iterable[Operator], *, give_up: bool) -> Parameters:
    """What is signed to end a registration.

    Args:
        name: of the operator.
        present: who are operators now.
        give_up: operations that the others cannot agree to are given up.

    Raises:
        RefusedError: there is none of that name; or the others could not agree to what they can agree to now.
    """
    present = list(present)
    gone = next((one for one in present if one.name == name), None)
    if gone is None:
        raise RefusedError(f"there is no operator {name}; `prefca operator list` shows those there are")
    lost = _lost(present, gone)
    if OperationKind.REGISTER_OPERATOR in lost:
        raise RefusedError(
            f"without {name} nobody could ever be registered again, for that needs two senior operators;"
            " register another one first"
        )
    if lost and not give_up:
        raise RefusedError(
            f"without {name} the others cannot agree to {_kinds(lost)}; register somebody first, or add --give-up"
        )
    return {"name": name, "key_sha256": gone.fingerprint, "gives_up": ",".join(sorted(lost))}


async def end(act: Act) -> Facts:
    """Perform END_OPERATOR.

    Raises:
        RefusedError: it is no operator, or the others could not agree to more than what was given up.
    """
    installation, name = act.installation, str(act.parameters["name"])
    now = whole_second(act.clock())
    present = [one for one in await operators(installation) if one.ended_at is None]
    gone = next((one for one in present if one.name == name), None)
    if gone is None or gone.fingerprint != act.parameters["key_sha256"]:
        raise RefusedError(f"{name} is no operator with that key any more; look at `prefca operator list`")
    more = {
        kind: roles
        for kind, roles in _lost(present, gone).items()
        if kind not in str(act.parameters["gives_up"]).split(",")
    }
    if more:
        raise RefusedError(f"without {name} the others can now not agree to {_kinds(more)} either; ask for it anew")
    facts: dict[str, object] = {
        "operator": name,
        "key_sha256": gone.fingerprint,
        "gives_up": act.parameters["gives_up"],
    }
    async with installation.store.transaction():
        try:
            await installation.operations.end_operator(
                installation.authority_id, gone.operator_id, max(now, gone.registered_at), act.number
            )
        except TwiceError as e:
            raise RefusedError(f"{name} was ended meanwhile") from e
        await act.settle(facts)
    return facts


def roles_of(present: Iterable[Operator]) -> dict[str, frozenset[Role]]:
    """Who has which roles."""
    return {one.name: one.roles for one in present}


def _lost(present: Iterable[Operator], gone: Operator) -> dict[OperationKind, Mapping[Role, int]]:
    """What could be agreed to with this person, and cannot without."""
    everybody = roles_of(present)
    before = unreachable(everybody)
    after = unreachable({name: roles for name, roles in everybody.items() if name != gone.name})
    return {kind: roles for kind, roles in after.items() if kind not in before}


def _kinds(lost: Mapping[OperationKind, Mapping[Role, int]]) -> str:
    return ", ".join(f"{kind} (lacks {text(roles)})" for kind, roles in lost.items())
