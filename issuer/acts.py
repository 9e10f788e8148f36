"""Which function performs which kind of operation."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from issuer.act import Performer
from issuer.operation import OperationKind

PERFORMERS: Final[Mapping[OperationKind, Performer]] = MappingProxyType({})
