"""Back ends of the command protocol on the data plane: what a command changes, and what its client is told."""

from ipaddress import IPv4Address

import pytest

from ntpd_fast._clientlog import ClientRecord
from ntpd_fast.config.model import AccessRule
from ntpd_fast.control.reports import AccessBackend, Statistics
from ntpd_fast.monitor.backend import CommandFailed
from ntpd_fast.monitor.codec.address import UNSPECIFIED
from ntpd_fast.monitor.codec.commands import Status
from ntpd_fast.monitor.codec.replies import NEVER
from ntpd_fast.server.access import AccessTable
from ntpd_fast.system.messages import Severity


def rule(address, prefix_len, *, allow=True):
    return AccessRule(allow=allow, all=False, address=IPv4Address(address), prefix_len=prefix_len)


def backend(table):
    logged, published = [], []
    return AccessBackend(table, "NTP", lambda *line: logged.append(line), published.append), logged, published


def test_a_rule_is_in_force_published_and_logged():
    access, logged, published = backend(AccessTable())
    access.set_rule(rule("192.0.2.0", 24))
    assert access.is_allowed(IPv4Address("192.0.2.9"))
    assert published == [access.table]
    assert logged == [(Severity.INFO, "Allowed NTP access from 192.0.2.0/24")]


def test_a_rule_there_is_no_room_for_fails_with_a_line_in_the_log():
    access, logged, published = backend(AccessTable(nodes_max=8))
    with pytest.raises(CommandFailed) as failed:
        access.set_rule(rule("192.0.2.1", 32))
    assert failed.value.status is Status.FAILED
    [(severity, text)] = logged
    assert severity is Severity.ERROR
    assert text.startswith("Could not change NTP access : no room for the access rule 192.0.2.1/32")
    assert not published
    assert not access.is_allowed(IPv4Address("192.0.2.1"))


def test_an_impossible_prefix_is_a_bad_subnet():
    access, _, published = backend(AccessTable())
    with pytest.raises(CommandFailed) as failed:
        access.set_rule(rule("192.0.2.1", 33))
    assert failed.value.status is Status.BAD_SUBNET
    assert not published


class Accounts:
    """A client log of 100 records with nobody to show in the part that was looked at."""

    enabled = True
    indices = 100

    def page(self, first_index, rows_max, hits_min, reset, now_ns):
        row = ClientRecord(bytes([192, 0, 2, 1]), (5, 0, 0), (1, 0, 0), (3, 127, 127), 127, (9, -1, -1))
        return first_index + 40, [row]


def test_a_page_that_ended_with_its_work_is_filled_up_so_that_it_does_not_look_like_the_last():
    statistics = Statistics(None, Accounts(), lambda: 0)
    page = statistics.client_accesses(0, 8, 0, False)
    assert (page.n_indices, page.next_index, len(page.clients)) == (100, 40, 8)
    first = page.clients[0]
    assert (str(first.ip), first.ntp_hits, first.ntp_interval, first.last_ntp_hit_ago) == ("192.0.2.1", 5, 3, 9)
    assert first.last_cmd_hit_ago == NEVER
    assert all(client.ip == UNSPECIFIED for client in page.clients[1:])
    assert len(statistics.client_accesses(60, 8, 0, False).clients) == 1
