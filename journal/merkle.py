"""Merkle trees as in RFC 9162, section 2.1: one hash for many records, and short proofs that one is among them."""

import hashlib
from collections.abc import Iterable, Sequence

LEAF = b"\x00"
NODE = b"\x01"


def leaf_hash(octets: bytes) -> bytes:
    """The hash of a leaf, 32 octets."""
    return hashlib.sha256(LEAF + octets).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node, 32 octets."""
    return hashlib.sha256(NODE + left + right).digest()


class Tree:
    """The root over leaves that come one after the other: memory grows with the logarithm of their number."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self.size = 0
        self._peaks: list[bytes] = []  # of the perfect subtrees from the left; their sizes are the bits of `size`
        for leaf in leaves:
            self.add(leaf)

    def add(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        whole = self.size
        self.size += 1
        while whole & 1:
            leaf = node_hash(self._peaks.pop(), leaf)
            whole >>= 1
        self._peaks.append(leaf)

    def root(self) -> bytes:
        """The Merkle Tree Hash; of no leaves it is the hash of nothing."""
        if not self._peaks:
            return hashlib.sha256().digest()
        *others, root = self._peaks
        for peak in reversed(others):
            root = node_hash(peak, root)
        return root


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of a leaf (section 2.1.3.1), from the leaf upwards.

    Args:
        leaves: hashes of all leaves.
        index: which one, from 0.
    """
    if len(leaves) == 1:
        return []
    half = 1 << (len(leaves) - 1).bit_length() - 1
    if index < half:
        return [*inclusion_proof(leaves[:half], index), Tree(leaves[half:]).root()]
    return [*inclusion_proof(leaves[half:], index - half), Tree(leaves[:half]).root()]


def root_from_proof(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that a proof leads to (section 2.1.3.2); None if it does not fit a tree of that size."""
    if not 0 <= index < size:
        return None
    last, node, rest = size - 1, leaf, list(proof)
    while last:
        if index == last and not index & 1:  # no sibling on this level
            index, last = index >> 1, last >> 1
            continue
        if not rest:
            return None
        sibling = rest.pop(0)
        node = node_hash(sibling, node) if index & 1 else node_hash(node, sibling)
        index, last = index >> 1, last >> 1
    return None if rest else node
