"""What options and configuration come to together."""

from ntpd_fast.cli.daemon import _run_options
from ntpd_fast.cli.identity import identify
from ntpd_fast.cli.options import parse
from ntpd_fast.config import parse_lines


def controls_clock(arguments: list[str], *lines: str) -> bool:
    return _run_options(identify("ntpd-fast"), parse(arguments), parse_lines(lines)).control_clock


def test_who_touches_the_clock():
    assert controls_clock([])
    assert not controls_clock(["-x"])
    assert not controls_clock([], "kernelclock")
    assert not controls_clock(["-x"], "kernelclock stratum 2")
