"""Where command sockets are made."""

import os

import pytest


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def run(tmp_path, umask):
    return tmp_path / "run" / "ntp"
