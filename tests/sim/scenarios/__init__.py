"""All scenarios; importing this package fills the registry."""

from tests.sim.scenarios import disturbances, isolation, leapseconds, limits, selection, serving

__all__ = ["disturbances", "isolation", "leapseconds", "limits", "selection", "serving"]
