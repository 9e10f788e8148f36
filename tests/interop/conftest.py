"""The CA that strangers look at."""

from collections.abc import Iterator

import pytest

from tests.support.running import RunningCA, installed_ca


@pytest.fixture(scope="session")
def running_ca() -> Iterator[RunningCA]:
    """A CA that is up all the time. A test may issue, revoke and publish, but leaves the samples as they are."""
    with installed_ca() as ca, ca.up():
        yield ca


@pytest.fixture(scope="session")
def idle_ca() -> Iterator[RunningCA]:
    """Another one, which a test starts itself, and stops or kills."""
    with installed_ca() as ca:
        yield ca
