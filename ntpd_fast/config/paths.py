"""Which files a pattern or a list of directories stands for, in the order they are read.

`include` takes a shell pattern: results are sorted, a directory that a fixed part of the pattern names must
be readable, a pattern that matches nothing stands for nothing, and a path without wildcards for itself.
`confdir` and `sourcedir` take directories: their files are ordered by name, the directory named first wins
where names are equal, and directories that are not there stand for nothing.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator

from ntpd_fast.config.errors import ConfigError

DIRECTORIES_MAX = 10
SCANNED_NAMES_MAX = 100_000

_WILDCARD = re.compile(r"[*?\[]")
_CHARACTER_CLASSES = {
    "[:alpha:]": "a-zA-Z",
    "[:digit:]": "0-9",
    "[:alnum:]": "a-zA-Z0-9",
    "[:lower:]": "a-z",
    "[:upper:]": "A-Z",
}


def is_pattern(path: str) -> bool:
    return _WILDCARD.search(path) is not None


def expand(pattern: str) -> list[str]:
    """Paths that match a pattern with wildcards, sorted by their bytes.

    Raises ConfigError when a directory cannot be searched, or when too many names would have to be.
    """
    found = [""]
    exact = True
    names_left = SCANNED_NAMES_MAX
    for part in re.split(r"(/+)", pattern):
        if not is_pattern(part):
            found = [path + part.replace("\\", "") for path in found]
            continue
        matches = re.compile(_translate(part)).match
        next_found = []
        for directory in found:
            if not exact and not os.path.lexists(directory):
                continue
            try:
                for name in _names(directory):
                    names_left -= 1
                    if names_left < 0:
                        raise ConfigError(f"Could not search for files matching {pattern}")
                    if (part.startswith(".") or not name.startswith(".")) and matches(name):
                        next_found.append(directory + name)
            except OSError as error:
                raise ConfigError(f"Could not search for files matching {pattern}") from error
        found = next_found
        exact = False
    return sorted((path for path in found if os.path.lexists(path)), key=os.fsencode)


def _names(directory: str) -> Iterator[str]:
    try:
        with os.scandir(directory or ".") as entries:
            for entry in entries:
                yield entry.name
    except NotADirectoryError:
        return


def _translate(part: str) -> str:
    part = re.sub(r"\\(.)", r"[\1]", part)
    for name, members in _CHARACTER_CLASSES.items():
        part = part.replace(name, members)
    return fnmatch.translate(part.replace("[^", "[!"))


def files_in(directories: Iterable[str], suffix: str) -> list[str]:
    """Paths of the files with this suffix in the directories."""
    chosen: dict[str, str] = {}
    for directory in directories:
        try:
            names = os.listdir(directory)
        except (OSError, ValueError):
            continue
        for name in names:
            if name.endswith(suffix) and not name.startswith("."):
                chosen.setdefault(name, f"{directory}/{name}")
    return [chosen[name] for name in sorted(chosen, key=os.fsencode)]
