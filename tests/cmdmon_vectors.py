"""The recorded exchanges of chronyc and chronyd, for the tests of both ends."""

import json
from functools import cache
from pathlib import Path
from typing import Any

_PATH = Path(__file__).parent / "data" / "cmdmon_vectors.json"


@cache
def vectors() -> dict[str, Any]:
    return json.loads(_PATH.read_text())  # type: ignore[no-any-return]


def runs() -> list[dict[str, Any]]:
    """Real chronyc (or raw packets) against real chronyd."""
    return vectors()["runs"]  # type: ignore[no-any-return]


def synthetic() -> list[dict[str, Any]]:
    """Real chronyc against a scripted server."""
    return vectors()["synthetic"]  # type: ignore[no-any-return]
