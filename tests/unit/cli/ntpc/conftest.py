"""Fixtures of the command line's tests."""

import time

import pytest


@pytest.fixture
def timezone(monkeypatch):
    """A function that sets the local time zone for the test."""

    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()
