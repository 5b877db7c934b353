"""Clocks that the discipline can steer (Linux) or must leave alone (null)."""
