"""The drift file: the frequency of the clock and its error bound, remembered over restarts.

One line of two numbers, `%20.6f %20.6f`: ppm (positive = the clock gains) and skew in ppm. The file is
replaced atomically; one that is missing, cut off or nonsense is told and ignored.
"""

from __future__ import annotations

import math

from ntpd_fast._record import dataclass
from ntpd_fast.system.errors import why
from ntpd_fast.system.files import read_bounded, write_atomically

FILE_MODE = 0o644
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
            data, _ = read_bounded(self.path, READ_MAX_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DriftFileError(f"Could not open {self.path} : {why(error)}") from error
        except ValueError as error:
            raise DriftFileError(
                f"Could not read valid frequency and skew from driftfile {self.path} : {error}"
            ) from error
        drift = parse_drift(data.decode("ascii", "replace"))
        if drift is None:
            raise DriftFileError(f"Could not read valid frequency and skew from driftfile {self.path}")
        return drift

    def save(self, drift: Drift) -> None:
        """Replace the file, or leave the old one. Raises `DriftFileError`."""
        line = f"{drift.frequency_ppm:20.6f} {drift.skew_ppm:20.6f}\n"
        try:
            write_atomically(self.path, line.encode(), FILE_MODE, durable=False)
        except OSError as error:
            raise DriftFileError(f"Could not write {self.path} : {why(error)}") from error
