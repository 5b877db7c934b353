"""All scenarios; importing this package fills the registry."""

from tests.sim.scenarios import (
    corrections,
    disturbances,
    isolation,
    leapseconds,
    limits,
    names,
    oneshot,
    selection,
    serving,
)

__all__ = [
    "corrections",
    "disturbances",
    "isolation",
    "leapseconds",
    "limits",
    "names",
    "oneshot",
    "selection",
    "serving",
]
