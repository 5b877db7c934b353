"""The drift file: the frequency of the clock and its error bound, remembered over restarts.

One line of two numbers, `%20.6f %20.6f`: ppm (positive = the clock gains) and skew in ppm. The file is
replaced atomically; one that is missing, cut off or nonsense is told and ignored.
"""

from __future__ import annotations

import math
import os

from ntpd_fast._record import dataclass

READ_MAX_BYTES = 4096
FREQUENCY_MAX_PPM = 1e6
SKEW_MAX_PPM = 1e6


@dataclass(frozen=True, slots=True)
class Drift:
    """What is kept."""

    frequency_ppm: float
    skew_ppm: float


class DriftFileError(Exception):
    """The drift file could not be used; the text is the line for the log."""


def parse_drift(text: str) -> Drift | None:
    """The two numbers, or None when they are not there or impossible."""
    words = text.split()
    if len(words) < 2:
        return None
    try:
        frequency_ppm, skew_ppm = float(words[0]), float(words[1])
    except ValueError:
        return None
    if not (math.isfinite(frequency_ppm) and math.isfinite(skew_ppm)):
        return None
    if abs(frequency_ppm) > FREQUENCY_MAX_PPM or not 0.0 <= skew_ppm <= SKEW_MAX_PPM:
        return None
    return Drift(frequency_ppm, skew_ppm)


class DriftFile:
    """A drift file on disk."""

    def __init__(self, path: str) -> None:
        self.path = path

    def load(self) -> Drift | None:
        """What the file says; None if there is none. Raises `DriftFileError` if it cannot be used."""
        try:
            with open(self.path, "rb") as file:
                data = file.read(READ_MAX_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DriftFileError(f"Could not open {self.path} : {error.strerror}") from error
        drift = parse_drift(data.decode("ascii", "replace"))
        if drift is None:
            raise DriftFileError(f"Could not read valid frequency and skew from driftfile {self.path}")
        return drift

    def save(self, drift: Drift) -> None:
        """Replace the file, or leave the old one. Raises `DriftFileError`."""
        temporary = f"{self.path}.tmp"
        try:
            # never follow a link that somebody has put in our way
            if os.path.lexists(temporary):
                os.unlink(temporary)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(f"{drift.frequency_ppm:20.6f} {drift.skew_ppm:20.6f}\n")
            os.rename(temporary, self.path)
        except OSError as error:
            raise DriftFileError(f"Could not write {self.path} : {error.strerror}") from error
