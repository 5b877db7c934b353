"""Mails about large changes of the clock (`mailonchange`), where they are wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ntpd_fast.config.model import Config
from ntpd_fast.system.mail import Mailer
from ntpd_fast.system.messages import Log

if TYPE_CHECKING:
    import asyncio


class Mailing:
    """`tell` takes the offset of a change above the threshold, s; None where no mails are wanted."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: Config, program: str, log: Log) -> None:
        """`program`: what the daemon is called in the mail."""
        self._loop = loop
        self._program = program
        self._log = log
        self._mailer: Mailer | None = None
        self.tell: Callable[[float], None] | None = None
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """Follow a changed configuration; a mail that is on its way is not called back."""
        wanted = config.mailonchange
        if wanted is None:
            self.tell = None
            return
        if self._mailer is None:
            self._mailer = Mailer(
                self._loop, wanted.address, wanted.threshold_s, program=self._program, log=self._log
            )
        self._mailer.send_to(wanted.address, wanted.threshold_s)
        self.tell = self._mailer.tell

    def close(self) -> None:
        """Wait for no mail program any more."""
        if self._mailer is not None:
            self._mailer.close()
