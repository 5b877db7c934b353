"""`top`: the terminal around `top_view`, and the reading of the daemon's reports."""

import os
import time
from typing import TYPE_CHECKING, TypeVar

from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec.commands import Number
from ntpd_fast.monitor.codec.layout import Message

from . import arguments as arg
from .output import Output
from .reports.clients import fetch_page, is_last
from .session import CommandError, RequestFailed, Session
from .top_view import HEADING, ORDERS, STRONG, WARNING, View

if TYPE_CHECKING:
    import curses

M = TypeVar("M", bound=Message)

INTERVAL_DEFAULT_S = 2.0
INTERVAL_MIN_S = 0.2
# Share of each turn spent on reading the client list: the daemon has better things to do than to be watched.
_READING_SHARE = 0.25
_KEYS = {"r": "rate", "h": "hits", "d": "drops", "a": "address"}
_NAMES_PER_TURN = 5


def top(session: Session, rest: str) -> None:
    order, interval_s = parse(rest)
    if not session.output.is_text or not os.isatty(0) or not os.isatty(1):
        raise CommandError("top needs a terminal; watch prints reports anywhere")
    import curses

    curses.wrapper(_run, session, View(order), interval_s)


def parse(rest: str) -> tuple[str, float]:
    """(order, interval in s)."""
    order, interval_s = "rate", INTERVAL_DEFAULT_S
    words = rest.split()
    while words:
        option, text = words[0], words[1] if len(words) > 1 else ""
        if option == "--by":
            if text not in ORDERS:
                raise CommandError(f"Invalid order: {text or 'none given'} ({', '.join(ORDERS)})")
            order = text
        elif option == "--interval":
            interval_s = arg.whole_real(text) or 0.0
            if not INTERVAL_MIN_S <= interval_s < float("inf"):
                raise CommandError(f"Invalid interval: {text or 'none given'} (seconds, at least {INTERVAL_MIN_S})")
        else:
            raise CommandError(f"Unknown option of top: {option}")
        words = words[2:]
    return order, interval_s


class Reader:
    """Reads the daemon's reports into a view; what is refused is left out and said."""

    def __init__(self, session: Session, view: View) -> None:
        # The view has the screen: status lines must not go there.
        self._output = Output(_nowhere, _nowhere)
        self._session = Session(session.connection, self._output, extended=False)
        self._view = view
        self._next_index = 0

    def turn(self, budget_s: float) -> None:
        """One sample of the server, and as much of the client list as the time allows."""
        stats = self._report(Number.SERVER_STATS, (rep.ServerStats, rep.ServerStats3))
        assert stats is None or isinstance(stats, rep.ServerStats | rep.ServerStats3)
        tracking = self._report(Number.TRACKING, rep.Tracking)
        activity = self._report(Number.ACTIVITY, rep.Activity)
        answers = (stats, tracking, activity)
        self._view.message = "" if any(answers) else "The daemon does not answer"
        self._view.take_server(time.monotonic(), stats, tracking, activity)
        if any(answers):
            self._read_clients(time.monotonic() + budget_s)

    def _read_clients(self, until_s: float) -> None:
        while True:
            try:
                page = fetch_page(self._session, self._next_index)
            except RequestFailed:
                self._view.message = "The client list is not open to us, or not kept"
                return
            last = is_last(page)
            progress = 1.0 if last else page.next_index / page.n_indices
            clients = (client for client in page.clients if client.ip.packed)
            self._view.take_clients(time.monotonic(), clients, progress)
            self._next_index = 0 if last else page.next_index
            if last:
                self._view.end_pass()
                return
            if time.monotonic() >= until_s:
                return

    def _report(self, number: Number, wanted: type[M] | tuple[type[M], ...]) -> M | None:
        try:
            return self._session.report(number, wanted)
        except RequestFailed:
            return None
        finally:
            self._output.flush()


def _nowhere(_: bytes) -> None:
    return


def _run(screen: "curses.window", session: Session, view: View, interval_s: float) -> None:
    import curses

    curses.use_default_colors()
    with_names = False
    styles = {HEADING: curses.A_REVERSE, STRONG: curses.A_BOLD, WARNING: curses.A_BOLD}
    if curses.has_colors():
        curses.init_pair(1, curses.COLOR_YELLOW, -1)
        styles[WARNING] = curses.color_pair(1)
    reader = Reader(session, view)
    next_turn_s = time.monotonic()
    while True:
        if time.monotonic() >= next_turn_s:
            if not view.paused:
                reader.turn(interval_s * _READING_SHARE)
            next_turn_s = time.monotonic() + interval_s
        _draw(screen, view, styles)
        screen.timeout(max(int((next_turn_s - time.monotonic()) * 1000), 0))
        key = screen.getch()
        letter = chr(key) if 0 < key < 128 else ""
        if letter == "q":
            return
        if letter in _KEYS:
            view.set_order(_KEYS[letter])
        elif letter == "p":
            view.paused = not view.paused
        elif letter == "n":
            with_names = not with_names
            view.names.clear()
        if with_names:
            _resolve(session, view, screen.getmaxyx()[0])


def _resolve(session: Session, view: View, height: int) -> None:
    """A few names a turn, so that a slow name server does not stop the screen for long."""
    on_screen = view.addresses(height)
    view.names = {address: name for address, name in view.names.items() if address in on_screen}
    unknown = [address for address in on_screen if address not in view.names]
    for address in unknown[:_NAMES_PER_TURN]:
        view.names[address] = session.host_name(address, truncate=False)


def _draw(screen: "curses.window", view: View, styles: dict[str, int]) -> None:
    import curses

    height, width = screen.getmaxyx()
    screen.erase()
    for row, (text, style) in enumerate(view.render(width, height)):
        try:
            screen.addnstr(row, 0, text, width, styles.get(style, curses.A_NORMAL))
        except curses.error:
            # The last cell of the last line cannot be written without scrolling; or the window just shrank.
            continue
    screen.refresh()
