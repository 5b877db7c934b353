"""Daemons, packages and machines for the tests of this directory."""

from pathlib import Path

import pytest

from tests.system.harness import Daemon
from tests.system.machine import Machine
from tests.system.packages import build, prepare


@pytest.fixture(scope="session")
def packages() -> dict[str, Path]:
    return build()


@pytest.fixture
def machine(tmp_path_factory):
    with Machine(tmp_path_factory.mktemp("ntpd-fast-machine")) as machine:
        prepare(machine)
        yield machine


@pytest.fixture
def make_daemon(tmp_path):
    """`Daemon` in a directory of its own, gone at the end whatever happens."""
    made = []

    def make(*directives, **more):
        directory = tmp_path / f"daemon{len(made)}"
        directory.mkdir()
        made.append(Daemon(directory, *directives, **more))
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()
