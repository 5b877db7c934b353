"""All scenarios; importing this package fills the registry."""

from tests.sim.scenarios import disturbances, isolation, leapseconds, limits, names, oneshot, selection, serving

__all__ = ["disturbances", "isolation", "leapseconds", "limits", "names", "oneshot", "selection", "serving"]
