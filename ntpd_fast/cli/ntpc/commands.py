"""The table of commands: the word, the function that executes it, and what goes along.

`target` is `module:function` in this package, imported when the command is used. The function takes the session,
the rest of the line and the row's arguments; it returns False, or raises, when it did not succeed.
"""

from typing import Any, NamedTuple

from ntpd_fast.monitor.codec.commands import Number


class Row(NamedTuple):
    target: str
    arguments: tuple[Any, ...] = ()
    plain: bool = True
    """Its success does not depend on the output being taken: it changed something, or printed nothing."""
    extension: bool = False
    """Not one of chronyc's."""


def _report(target: str, *arguments: Any) -> Row:
    return Row(f"reports.{target}", arguments, plain=False)


def _plain(function: str, *arguments: Any) -> Row:
    return Row(f"plain:{function}", arguments)


COMMANDS: dict[str, Row] = {
    "accheck": _plain("check_access", Number.ACCHECK),
    "activity": _report("server:activity"),
    "add": Row("add:add"),
    "allow": _plain("access", Number.ALLOW, Number.ALLOWALL),
    "authdata": _report("sources:authdata"),
    "authhash": Row("local:no_authentication"),
    "burst": _plain("burst"),
    "clients": _report("clients:clients"),
    "cmdaccheck": _plain("check_access", Number.CMDACCHECK),
    "cmdallow": _plain("access", Number.CMDALLOW, Number.CMDALLOWALL),
    "cmddeny": _plain("access", Number.CMDDENY, Number.CMDDENYALL),
    "cyclelogs": _plain("simple", Number.CYCLELOGS),
    "delete": _plain("delete"),
    "deny": _plain("access", Number.DENY, Number.DENYALL),
    "dfreq": _plain("real", Number.DFREQ, "Invalid value"),
    "dns": Row("local:dns"),
    "doffset": _plain("real", Number.DOFFSET2, "Invalid value"),
    "dump": _plain("simple", Number.DUMP),
    "exit": Row("local:leave"),
    "faults": Row("reports.server:faults", plain=False, extension=True),
    "help": Row("help:print_help", plain=False),
    "keygen": Row("keygen:keygen", plain=False),
    "local": _plain("local"),
    "makestep": _plain("makestep"),
    "manual": Row("manual:manual"),
    "maxdelay": _plain("source_real", Number.MODIFY_MAXDELAY),
    "maxdelaydevratio": _plain("source_real", Number.MODIFY_MAXDELAYDEVRATIO),
    "maxdelayratio": _plain("source_real", Number.MODIFY_MAXDELAYRATIO),
    "maxpoll": _plain("source_integer", Number.MODIFY_MAXPOLL),
    "maxupdateskew": _plain("real", Number.MODIFY_MAXUPDATESKEW, ""),
    "minpoll": _plain("source_integer", Number.MODIFY_MINPOLL),
    "minstratum": _plain("source_integer", Number.MODIFY_MINSTRATUM),
    "ntpdata": _report("ntpdata:ntpdata"),
    "offline": _plain("match_sources", Number.OFFLINE),
    "offset": _plain("offset"),
    "online": _plain("match_sources", Number.ONLINE),
    "onoffline": _plain("simple", Number.ONOFFLINE),
    "password": Row("local:no_authentication"),
    "polltarget": _plain("source_integer", Number.MODIFY_POLLTARGET),
    "quit": Row("local:leave"),
    "refresh": _plain("simple", Number.REFRESH),
    "rekey": _plain("simple", Number.REKEY),
    "reload": _plain("reload"),
    "reselect": _plain("simple", Number.RESELECT),
    "reselectdist": _plain("real", Number.RESELECTDISTANCE, ""),
    "reset": _plain("sources_word", Number.RESET_SOURCES, "reset"),
    "retries": Row("local:retries"),
    "rtcdata": _report("server:rtcdata"),
    "selectdata": _report("sources:selectdata"),
    "selectopts": _plain("selectopts"),
    "serverstats": _report("server:serverstats"),
    "settime": Row("manual:settime", plain=False),
    "shutdown": _plain("simple", Number.SHUTDOWN),
    "smoothing": _report("server:smoothing"),
    "smoothtime": _plain("smoothtime"),
    "sourcename": _report("sources:sourcename"),
    "sources": _report("sources:sources"),
    "sourcestats": _report("sources:sourcestats"),
    "timeout": Row("local:timeout"),
    "top": Row("top:top", extension=True),
    "tracking": _report("tracking:tracking"),
    "trimrtc": _plain("simple", Number.TRIMRTC),
    "watch": Row("watch:watch", plain=False, extension=True),
    "waitsync": _report("tracking:waitsync"),
    "writertc": _plain("simple", Number.WRITERTC),
}
