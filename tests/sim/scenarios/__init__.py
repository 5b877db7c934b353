"""All scenarios; importing this package fills the registry."""

from tests.sim.scenarios import disturbances, limits, selection, serving

__all__ = ["disturbances", "limits", "selection", "serving"]
