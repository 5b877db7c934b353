"""What the daemon does with each directive today, so that none is accepted and then ignored.

Every directive of the table is one of
- ACTIVE: code outside this package reads what it sets (a test searches for it);
- INERT: a daemon starts with it, but says in one warning that it has no effect yet;
- REFUSED: a daemon does not start with it;
- LANGUAGE: it is finished with when the file is read, or has been of no use for years.

Whoever finishes a feature moves its directives to ACTIVE. Checking a file (-p) does not ask this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from ntpd_fast.config.directives import DIRECTIVES
from ntpd_fast.config.errors import ConfigError
from ntpd_fast.config.model import Config


class Support(Enum):
    ACTIVE = "active"
    INERT = "inert"
    REFUSED = "refused"
    LANGUAGE = "language"


_NAMES = {
    Support.ACTIVE: """
        acquisitionport allow authselectmode bindacqaddress bindacqdevice bindaddress bindcmdaddress
        bindcmddevice binddevice broadcast clientloglimit clientlogprefix6 clockprecision cmdallow cmddeny
        cmdgroup cmdport cmdratelimit combinelimit corrtimeratio deny driftfile dscp dumpdir fallbackdrift
        initstepslew kernelclock keyfile leapseclist leapsecmode leapsectz local lock_all log logbanner logchange logdir
        mailonchange makestep manual maxchange maxclockerror maxdistance maxdrift maxjitter maxntsconnections
        maxsamples maxslewrate maxstratum maxupdateskew minsamples minsources minstratum nocerttimecheck
        noclientlog nosystemcert ntpsigndsocket ntsaeads ntscachedir ntsdumpdir ntsntpserver ntsport
        ntsprocesses ntsratelimit ntsrefresh ntsrotate ntsservercert ntsserverkey ntssharedkey ntstrustedcerts
        opencommands peer pidfile pool port ptpdomain ptpport ratelimit refresh reselectdist rtcsync
        sched_priority server smoothtime sourcedir stratumweight tempcomp user workers
    """,
    Support.INERT: """
        hwclockfile hwtimestamp hwtstimeout maxtxbuffers refclock rtcautotrim rtcdevice rtcfile rtconutc
    """,
    Support.LANGUAGE: """
        commandkey confdir dumponexit generatecommandkey include linux_freq_scale linux_hz
    """,
    Support.REFUSED: "",
}

SUPPORT: Mapping[str, Support] = {
    name: support for support, names in _NAMES.items() for name in names.split()
}


def check_support(config: Config) -> tuple[str, ...]:
    """Warnings about directives without effect, one each; ConfigError for the first that is refused."""
    warnings = []
    for name, where in config.first_uses.items():
        support = SUPPORT[name]
        if support is Support.REFUSED:
            raise ConfigError(f"{name} directive is not supported yet", where)
        if support is Support.INERT:
            warnings.append(f"{name} directive has no effect yet")
    return tuple(warnings)


assert SUPPORT.keys() == DIRECTIVES.keys()
