"""The CA that strangers look at."""

from collections.abc import Iterator

import pytest

from tests.support.running import RunningCA, Up, installed_ca


@pytest.fixture(scope="session")
def serving() -> Iterator[tuple[RunningCA, Up]]:
    """A CA, and the `prefca up` that runs it all the time."""
    with installed_ca() as ca, ca.up() as up:
        yield ca, up


@pytest.fixture(scope="session")
def running_ca(serving: tuple[RunningCA, Up]) -> RunningCA:
    """A CA that is up. A test may issue, revoke and publish, but leaves the samples as they are."""
    return serving[0]


@pytest.fixture(scope="session")
def idle_ca() -> Iterator[RunningCA]:
    """Another one, which a test starts itself, and stops or kills."""
    with installed_ca() as ca:
        yield ca
