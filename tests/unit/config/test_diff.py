"""What changed between two configurations, and the way it reaches a running daemon."""

from ntpd_fast.config.diff import ConfigChanges, compare, compare_sources
from ntpd_fast.config.directives import DIRECTIVES, Reload
from tests.unit.config.conftest import parse


def changes(old: list[str], new: list[str]) -> ConfigChanges:
    return compare(parse(*old), parse(*new))


def names(result: ConfigChanges) -> set[str]:
    return {row.name for row in result.directives}


def test_same_effect_is_no_change() -> None:
    result = changes(
        ["# a", "port 1", "allow 10/8", "server a minpoll -32", "log tracking rtc"],
        ["log rtc", "SERVER a minpoll 6", "port  001", "allow 10.0.0.0/8", "log tracking", "cmdport 323"],
    )
    assert result.fields == frozenset()
    assert result.directives == ()
    assert result.reload is Reload.IN_PLACE
    assert (result.sources.removed, result.sources.added) == ((), ())


def test_fields_and_directives() -> None:
    result = changes(["port 1", "makestep 1 3", "server a"], ["port 1", "maxchange 1 2 3", "server b"])
    assert result.fields == {"makestep", "maxchange", "sources"}
    assert names(result) == {"makestep", "maxchange", "server"}
    assert result.reload is Reload.IN_PLACE


def test_directive_that_went_away_is_a_change() -> None:
    result = changes(["deny 10.1/16", "user a", "workers 2"], [])
    assert names(result) == {"deny", "user", "workers"}
    assert result.reload is Reload.RESTART
    assert result.needing(Reload.IN_PLACE) == ("deny",)
    assert result.needing(Reload.HANDOVER) == ("workers",)
    assert result.needing(Reload.RESTART) == ("user",)


def test_processes_are_replaced_only_for_what_they_learn_at_their_start() -> None:
    for line in ("workers 2", "ntsservercert /c", "ntsserverkey /k", "ntsratelimit", "maxntsconnections 5"):
        assert changes([], [line]).reload is Reload.HANDOVER


def test_what_reload_promises_is_in_place() -> None:
    promised = (
        "allow deny cmdallow cmddeny server pool peer sourcedir ratelimit cmdratelimit keyfile "
        "ntstrustedcerts log logdir logbanner bindaddress port"
    )
    assert {DIRECTIVES[name].reload for name in promised.split()} == {Reload.IN_PLACE}


def test_alias_is_told_by_the_name_it_stands_for() -> None:
    assert names(changes(["ntscachedir /a"], ["ntsdumpdir /b"])) == {"ntsdumpdir"}


def test_order_of_access_rules_is_a_change() -> None:
    assert names(changes(["allow 10/8", "deny 10.1/16"], ["deny 10.1/16", "allow 10/8"])) == {"allow", "deny"}


def test_sources() -> None:
    old = parse("server a", "server b iburst", "pool c", "server d port 1", "server e ipv4").sources
    new = parse("pool c", "server f", "server b", "peer a", "server d port 2", "server e ipv6").sources
    result = compare_sources(old, new)
    assert [source.name for source in result.kept] == ["c"]
    assert [source.name for source in result.removed] == ["a", "b", "d", "e"]
    assert [(source.kind.value, source.name) for source in result.added] == [
        ("server", "f"),
        ("server", "b"),
        ("peer", "a"),
        ("server", "d"),
        ("server", "e"),
    ]


def test_equal_sources_are_counted() -> None:
    old = parse("server a", "server a", "server b").sources
    new = parse("server a", "server b", "server b").sources
    result = compare_sources(old, new)
    assert [source.name for source in result.kept] == ["a", "b"]
    assert [source.name for source in result.removed] == ["a"]
    assert [source.name for source in result.added] == ["b"]
    assert [source.where.line for source in result.added] == [3]
