"""Daemons, packages and machines for the tests of this directory."""

from pathlib import Path

import pytest

from tests.pki import Authority
from tests.system.harness import Daemon
from tests.system.machine import Machine
from tests.system.nts_daemons import free_tcp_port
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


@pytest.fixture(scope="module")
def authority():
    """Of the certificates of `make_nts_server`."""
    return Authority()


@pytest.fixture
def make_nts_server(make_daemon, authority, tmp_path):
    """Makes daemons with certificates; `ke_port` is on them."""

    def make(*directives, options=("-d",), pair=None, **more):
        certificate, key = (pair or authority.issue("127.0.0.1")).write(tmp_path)
        ke_port = free_tcp_port()
        daemon = make_daemon(
            "local stratum 7",
            "allow",
            f"ntsport {ke_port}",
            f"ntsservercert {certificate}",
            f"ntsserverkey {key}",
            *directives,
            options=options,
            **more,
        )
        daemon.ke_port = ke_port
        return daemon

    return make
