"""Merkle trees over the records of a day."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.merkle import Tree, inclusion_proof, leaf_hash, root_from_proof

pytestmark = pytest.mark.req("R-4-11-5-1")

# Certificate Transparency's well-known vectors: hash of the empty tree, of one empty leaf, and of eight leaves.
LEAVES = [bytes.fromhex(x) for x in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
LAST = bytes.fromhex("606162636465666768696a6b6c6d6e6f")
ROOT_OF_EIGHT = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_roots_are_those_of_certificate_transparency() -> None:
    """The form of RFC 9162 to the octet, so that others' tools check our proofs."""
    assert Tree().root() == hashlib.sha256().digest()
    assert Tree(map(leaf_hash, [*LEAVES, LAST])).root().hex() == ROOT_OF_EIGHT


@given(st.data(), st.integers(1, 40))
def test_a_proof_leads_to_the_root_from_its_own_leaf_only(data: st.DataObject, size: int) -> None:
    """Neither another leaf, nor another place, nor a shorter or longer proof leads there."""
    leaves = [leaf_hash(bytes([number])) for number in range(size)]
    index = data.draw(st.integers(0, size - 1))
    root, proof = Tree(leaves).root(), inclusion_proof(leaves, index)
    assert root_from_proof(leaves[index], index, size, proof) == root
    assert root_from_proof(leaf_hash(b"forged"), index, size, proof) != root
    assert root_from_proof(leaves[index], index, size, [*proof, root]) is None
    for other in set(range(size)) - {index}:
        assert root_from_proof(leaves[index], other, size, proof) != root


@pytest.mark.parametrize("index", [-1, 3], ids=["before", "after"])
def test_a_leaf_outside_the_tree_has_no_root(index: int) -> None:
    """Whatever proof comes with it."""
    assert root_from_proof(leaf_hash(b""), index, 3, []) is None
