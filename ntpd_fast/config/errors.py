"""The one exception of the configuration language.

`str()` of it is the literal line that tools compare: `TEXT at line N in file F` for a bad line,
`TEXT at line N` for a directive given on the command line, bare TEXT for what only a start can find.
"""

from __future__ import annotations

from ntpd_fast.config.model import Where


class ConfigError(Exception):
    """A configuration that cannot be used.

    `text` is the message without its position, `where` the line to blame (also for errors found at
    start, whose literal message names no line).
    """

    def __init__(self, text: str, where: Where | None = None, *, located: bool = True) -> None:
        super().__init__(f"{text} {where}" if where is not None and located else text)
        self.text = text
        self.where = where
