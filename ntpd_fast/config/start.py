"""What only a daemon that really starts checks, as far as the configuration alone can tell.

Devices, interfaces and sockets are checked by those who open them. The order is the one chrony finds these
mistakes in, because a file with two of them is told of one.
"""

from __future__ import annotations

import pwd
from collections.abc import Callable

from ntpd_fast.config.errors import ConfigError
from ntpd_fast.config.model import Config, RefclockConfig
from ntpd_fast.config.tempcomp import read_points

REFCLOCK_DRIVER_OPTIONS: dict[str, frozenset[str]] = {
    "PPS": frozenset({"clear"}),
    "SHM": frozenset({"perm"}),
    "SOCK": frozenset(),
    "PHC": frozenset({"nocrossts", "extpps", "pin", "channel", "clear"}),
    "RTC": frozenset({"utc"}),
}
FILTER_LEVELS = frozenset({-2, -1, 0, 1, 2})


def user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):
        return False
    return True


def check_start(
    config: Config,
    *,
    user: str | None = None,
    sched_priority: int | None = None,
    filter_level: int = 0,
    user_known: Callable[[str], bool] = user_exists,
) -> None:
    """Raise ConfigError unless a daemon may start with this configuration.

    `user`, `sched_priority` and `filter_level` are the daemon's options -u, -P and -F, which win over the
    directives. Messages name no line (as chrony's do not); the error's `where` does where there is one.
    """
    if filter_level not in FILTER_LEVELS:
        raise ConfigError("Unsupported filter level")
    name = config.user if user is None else user
    if name is not None and not user_known(name):
        raise _error(config, f"Could not get user/group ID of {name}", "user")
    if len(config.ntsservercerts) != len(config.ntsserverkeys):
        blamed = "ntsservercert" if config.ntsservercerts else "ntsserverkey"
        raise _error(config, "Uneven number of NTS certs and keys", blamed)
    if config.ntssharedkey is not None and config.ntsrotate_s == 0:
        # chrony has no such directive, so this mistake has no place in its order
        raise _error(config, "ntssharedkey directive cannot be used with ntsrotate 0", "ntssharedkey")
    if config.rtcfile is not None and config.rtcsync:
        raise _error(config, "rtcfile directive cannot be used with rtcsync", "rtcfile")
    if config.kernelclock is not None and (config.sources or config.sourcedirs or config.refclocks):
        raise _error(config, "kernelclock directive cannot be used with sources", "kernelclock")
    for clock in config.refclocks:
        _check_refclock(config, clock)
    for rule in config.access + config.cmd_access:
        if rule.address is not None and rule.prefix_len > rule.address.max_prefixlen:
            raise ConfigError(f"Bad subnet in {rule.address}/{rule.prefix_len}", rule.where, located=False)
    priority = config.sched_priority if sched_priority is None else sched_priority
    if not 0 <= priority <= 99:
        raise _error(config, f"Bad scheduler priority: {priority}", "sched_priority")
    if config.noclientlog:
        for limit in ("ratelimit", "ntsratelimit", "cmdratelimit"):
            if config.uses(limit):
                raise _error(config, "Rate limiting cannot be enabled with noclientlog", limit)
    if config.tempcomp is not None and config.tempcomp.points_file is not None:
        read_points(config.tempcomp.points_file)
    if config.mailonchange is not None and filter_level != 0:
        raise _error(config, "mailonchange directive cannot be used with -F enabled", "mailonchange")


def _error(config: Config, text: str, directive: str) -> ConfigError:
    return ConfigError(text, config.first_uses.get(directive), located=False)


def _check_refclock(config: Config, clock: RefclockConfig) -> None:
    def refuse(text: str) -> ConfigError:
        return ConfigError(text, clock.where, located=False)

    known = REFCLOCK_DRIVER_OPTIONS.get(clock.driver)
    if known is None:
        raise refuse(f"unknown refclock driver {clock.driver}")
    if clock.tai and config.leapseclist is None and config.leapsectz is None:
        raise refuse("refclock tai option requires leapseclist or leapsectz")
    for option in clock.driver_options:
        if option.partition("=")[0] not in known:
            raise refuse(f"Invalid refclock driver option {option}")
    if clock.driver == "RTC" and (config.rtcsync or config.rtcfile is not None):
        raise refuse("RTC refclock cannot be used together with rtcsync or rtcfile")
