"""What is kept of passwords."""

from argon2 import extract_parameters

from settings.passwords import NOBODY, has_hash, hash_of


def test_an_unknown_name_costs_as_much_as_a_known_one() -> None:
    """Or the time of a refusal would tell which names exist: the hash of nobody has the parameters of all others."""
    assert extract_parameters(NOBODY) == extract_parameters(hash_of("correct horse battery"))


def test_a_password_has_its_hash_only() -> None:
    """A hash that cannot be read is nobody's."""
    kept = hash_of("パスワード")
    assert has_hash("パスワード".encode(), kept)
    assert not has_hash("パスワート".encode(), kept)
    assert not has_hash(b"", NOBODY)
    assert not has_hash(b"anything", "no hash")
