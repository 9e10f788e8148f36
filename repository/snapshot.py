"""Published objects into a DIT: the entries they name, the entries above these, and the server's own two.

The certification authorities publish values only; object classes, naming attributes and the entries between the top and
a named entry follow from the names (RFC 4519, RFC 4523, section 5).
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Final

from repository import controls, definitions, names
from repository.dit import DIT, Attributes, Entry
from repository.errors import CorruptPublicationError
from repository.names import DistinguishedName, NameKey
from repository.schema import AttributeType, attribute_type

START_TLS: Final = "1.3.6.1.4.1.1466.20037"  # RFC 4511, section 4.14
WHO_AM_I: Final = "1.3.6.1.4.1.4203.1.11.3"  # RFC 4532
CANCEL: Final = "1.3.6.1.1.8"  # RFC 3909
PASSWORD_MODIFY: Final = "1.3.6.1.4.1.4203.1.11.1"  # noqa: S105 - an OID: RFC 3062; known in order to be refused
EXTENSIONS: Final = (START_TLS, WHO_AM_I, CANCEL)
_SASL_MECHANISMS: Final = ("EXTERNAL",)
_ALL_OPERATIONAL_ATTRIBUTES: Final = "1.3.6.1.4.1.4203.1.5.1"  # RFC 3673
_TRUE_FALSE_FILTERS: Final = "1.3.6.1.4.1.4203.1.5.3"  # RFC 4526
_SUBSCHEMA: Final = "cn=Subschema"
_DISTRIBUTION_POINT: Final = "cRLDistributionPoint"
# The structural object class of an entry, by the type that names it.
_STRUCTURAL_CLASSES: Final = {
    "c": "country",
    "l": "locality",
    "st": "locality",
    "o": "organization",
    "ou": "organizationalUnit",
    "cn": _DISTRIBUTION_POINT,
}
_PKI_CA_NAMES: Final = frozenset({"cACertificate", "crossCertificatePair"})


@dataclass(frozen=True, slots=True)
class PublishedObject:
    """One value in force, as the view published_object_v1 has it."""

    entry_dn: str  # RFC 4514
    attribute: str  # type without option
    value: bytes  # DER
    sha256: bytes
    public: bool  # False: only for parties with the right (R-2-6-3-2)
    published_at: datetime  # with its publication
    first_published_at: datetime  # the first publication of its authority


def build(objects: Iterable[PublishedObject]) -> DIT:
    """Make the tree of everything that is published.

    Args:
        objects: in the order in which the values of an attribute are to be returned.

    Raises:
        CorruptPublicationError: a value differs from its hash, or a name or type is not one of a directory.
    """
    published: dict[NameKey, _Published] = {}
    for each in objects:
        if hashlib.sha256(each.value).digest() != each.sha256:
            raise CorruptPublicationError(f"{each.attribute} of {each.entry_dn} differs from its sha256")
        name = _name(each.entry_dn)
        entry = published.setdefault(name.key, _Published(name))
        entry.values.append((_type(each.attribute), each.value, each.public))
        entry.moments |= {each.first_published_at, each.published_at}
    for entry in list(published.values()):
        for parent in map(_name, entry.name.parents):
            published.setdefault(parent.key, _Published(parent)).moments.update(entry.moments)
    with_subordinates = {key[1:] for key in published}
    entries = [_entry(each, has_subordinates=key in with_subordinates) for key, each in published.items()]
    contexts = [entry.name.text for entry in entries if not entry.name.parents]
    return DIT.of(entries, [_root_dse(contexts), _subschema()])


@cache
def not_loaded() -> DIT:
    """What can be told before the first publication is read: the server's own two entries."""
    return DIT.of([], [_root_dse([]), _subschema()], is_loaded=False)


@dataclass(slots=True)
class _Published:
    name: DistinguishedName
    values: list[tuple[AttributeType, bytes, bool]] = field(default_factory=list)
    moments: set[datetime] = field(default_factory=set)  # of publications of this entry, or of one below


def _name(text: str) -> DistinguishedName:
    try:
        name = names.parse(text)
    except ValueError as e:
        raise CorruptPublicationError(f"{text!r} is not the DN of an entry: {e}") from e
    if name == names.ROOT:
        raise CorruptPublicationError("the root of all names has no published values")
    return name


def _type(name: str) -> AttributeType:
    found = attribute_type(name)
    if found is None:
        raise CorruptPublicationError(f"{name!r} is not an attribute type of this directory")
    return found


def _entry(published: _Published, *, has_subordinates: bool) -> Entry:
    rdn = published.name.rdns[0]
    naming = _type(rdn[0].type)
    structural = _STRUCTURAL_CLASSES.get(naming.names[0])
    if structural is None:
        raise CorruptPublicationError(
            f"{published.name.text}: there is no object class for entries named by {rdn[0].type}"
        )
    held = {attribute.names[0] for attribute, _, _ in published.values}
    is_ca = bool(held and (structural != _DISTRIBUTION_POINT or held & _PKI_CA_NAMES))
    classes = ["top", structural, *(["pkiCA"] if is_ca else [])]
    own = _gathered([(_type("objectClass"), name.encode()) for name in classes])
    own |= _gathered([(_type(ava.type), ava.value.encode()) for ava in rdn])
    operational = _operational(published, structural, has_subordinates=has_subordinates)
    complete = {**own, **_gathered([(attribute, value) for attribute, value, _ in published.values]), **operational}
    if all(is_public for _, _, is_public in published.values):
        return Entry(published.name, public=complete, complete=complete)
    public = _gathered([(attribute, value) for attribute, value, is_public in published.values if is_public])
    return Entry(published.name, public={**own, **public, **operational}, complete=complete)


def _gathered(values: Iterable[tuple[AttributeType, bytes]]) -> dict[AttributeType, tuple[bytes, ...]]:
    gathered: dict[AttributeType, tuple[bytes, ...]] = {}
    for attribute, value in values:
        gathered[attribute] = (*gathered.get(attribute, ()), value)
    return gathered


def _operational(published: _Published, structural: str, *, has_subordinates: bool) -> Attributes:
    return _attributes({
        "entryDN": [published.name.text],
        "structuralObjectClass": [structural],
        "hasSubordinates": ["TRUE" if has_subordinates else "FALSE"],
        "subschemaSubentry": [_SUBSCHEMA],
        "createTimestamp": [_generalized_time(min(published.moments))],
        "modifyTimestamp": [_generalized_time(max(published.moments))],
    })  # fmt: skip


def _generalized_time(moment: datetime) -> str:
    """RFC 4517, section 3.3.13."""
    return f"{moment.astimezone(UTC):%Y%m%d%H%M%SZ}"


def _attributes(texts: Mapping[str, Iterable[str]]) -> Attributes:
    return {_type(name): tuple(text.encode() for text in values) for name, values in texts.items() if values}


def _root_dse(contexts: list[str]) -> Entry:
    """RFC 4512, section 5.1."""
    attributes = _attributes({
        "objectClass": ["top"],
        "entryDN": [names.ROOT.text],
        "namingContexts": contexts,
        "subschemaSubentry": [_SUBSCHEMA],
        "supportedControl": controls.SUPPORTED,
        "supportedExtension": EXTENSIONS,
        "supportedFeatures": [_ALL_OPERATIONAL_ATTRIBUTES, _TRUE_FALSE_FILTERS],
        "supportedLDAPVersion": ["3"],
        "supportedSASLMechanisms": _SASL_MECHANISMS,
        "vendorName": ["prefca"],
    })  # fmt: skip
    return Entry(names.ROOT, public=attributes, complete=attributes)


def _subschema() -> Entry:
    """RFC 4512, section 4.2."""
    attributes = _attributes({
        "objectClass": ["top", "subentry", "subschema"],
        "cn": ["Subschema"],
        "attributeTypes": definitions.lines(definitions.ATTRIBUTE_TYPES),
        "objectClasses": definitions.lines(definitions.OBJECT_CLASSES),
        "matchingRules": definitions.lines(definitions.MATCHING_RULES),
        "ldapSyntaxes": definitions.lines(definitions.LDAP_SYNTAXES),
        "createTimestamp": [definitions.CHANGED_AT],
        "modifyTimestamp": [definitions.CHANGED_AT],
        "entryDN": [_SUBSCHEMA],
        "structuralObjectClass": ["subentry"],
        "subschemaSubentry": [_SUBSCHEMA],
        "subtreeSpecification": ["{}"],
    })  # fmt: skip
    return Entry(names.parse(_SUBSCHEMA), public=attributes, complete=attributes)
