"""Fixtures of the interoperability tests."""

from tests.unit.cli.ntpc.conftest import timezone

__all__ = ["timezone"]
