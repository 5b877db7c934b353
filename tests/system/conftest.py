"""Daemons for the tests of this directory."""

import pytest

from tests.system.harness import Daemon


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
