"""Lines and words of configuration files.

Lines are bytes; a word is what stands between C white space; a line whose first word begins with one of
`! ; # %` says nothing. Bounds: a line 2047 bytes with its newline, and for the whole configuration the
number of files, of bytes and of lines that say something. What is beyond is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from ntpd_fast._record import dataclass
from ntpd_fast.config.errors import ConfigError
from ntpd_fast.config.model import Where

LINE_SIZE_MAX = 2047
FILES_MAX = 1000
SIZE_MAX = 4 * 1024 * 1024
LINES_MAX = 100_000

_COMMENT_MARKS = b"!;#%"


@dataclass(slots=True)
class Budget:
    """How much of one configuration was read, and how much may be."""

    files_max: int = FILES_MAX
    size_max: int = SIZE_MAX
    lines_max: int = LINES_MAX
    files: int = 0
    size: int = 0
    lines: int = 0

    def take_line(self, where: Where) -> None:
        if self.lines >= self.lines_max:
            raise ConfigError(f"More than {self.lines_max} directives", where)
        self.lines += 1


@dataclass(frozen=True, slots=True)
class Line:
    """The words of a line that says something; `words[0]` names the directive."""

    words: list[str]
    where: Where

    @property
    def text(self) -> str:
        return " ".join(self.words)


def split_line(raw: bytes, file: str | None, number: int) -> Line | None:
    """The words of one line, or None where it says nothing.

    Bytes that are not UTF-8 become surrogates, which an encoding with `surrogateescape` undoes.
    """
    words = raw.split()
    if not words or words[0][0] in _COMMENT_MARKS:
        return None
    where = Where(file, number)
    if b"\0" in raw:
        # A C string would end here and hide the rest of the line, which may be half of an access rule.
        raise ConfigError("Unexpected NUL byte", where)
    return Line([word.decode("utf-8", "surrogateescape") for word in words], where)


def read_file(path: str, budget: Budget, *, regular: bool = False) -> bytes:
    """The bytes of a file of the configuration, within the budget.

    `regular` refuses what may never end or never begin; without it a pipe can be read (`-f /dev/stdin`).
    """
    if budget.files >= budget.files_max:
        raise ConfigError(f"Could not open {path} : More than {budget.files_max} configuration files")
    budget.files += 1
    try:
        with open(path, "rb", opener=_open_at_once if regular else None) as file:
            if regular and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"Could not open {path} : Not a regular file")
            data = file.read(budget.size_max - budget.size + 1)
    except OSError as error:
        raise ConfigError(f"Could not open {path} : {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise ConfigError(f"Could not open {path} : {error}") from error
    budget.size += len(data)
    if budget.size > budget.size_max:
        raise ConfigError(f"Could not read {path} : More than {budget.size_max} bytes of configuration")
    return data


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def physical_lines(data: bytes) -> Iterator[tuple[int, bytes, bool]]:
    """Number, bytes without the newline, and whether there is one, of every line that is not empty."""
    lines = data.split(b"\n")
    for number, raw in enumerate(lines, 1):
        if raw:
            yield number, raw, number < len(lines)


def read_lines(path: str, budget: Budget) -> Iterator[Line]:
    """The lines of a file that say something."""
    for number, raw, terminated in physical_lines(read_file(path, budget)):
        if len(raw) + terminated > LINE_SIZE_MAX:
            raise ConfigError("String too long", Where(path, number))
        line = split_line(raw, path, number)
        if line is not None:
            yield line
