"""How every field of the configuration reaches a running daemon: nothing is silently ignored."""

from dataclasses import fields

from ntpd_fast.config import Config
from ntpd_fast.config.directives import DIRECTIVES, Reload
from ntpd_fast.control.reconfigure import BY_EVERY_RELOAD, BY_THE_SUPERVISOR, KEY_EXCHANGE, STEPS, describe

OF_CONTROL = frozenset().union(*(step.fields for step in STEPS))
COMPARED = {field.name for field in fields(Config) if field.compare}


def fields_of(way: Reload) -> set[str]:
    return {name for row in DIRECTIVES.values() if row.reload is way for name in row.fields}


def test_every_field_of_the_model_is_applied_or_needs_a_restart() -> None:
    applied = OF_CONTROL | BY_THE_SUPERVISOR | BY_EVERY_RELOAD
    restart = fields_of(Reload.RESTART)
    assert applied | restart == COMPARED
    assert applied & restart == set()


def test_what_the_tables_name_exists() -> None:
    for step in STEPS:
        assert step.fields <= COMPARED
    assert KEY_EXCHANGE | BY_THE_SUPERVISOR | BY_EVERY_RELOAD <= COMPARED


def test_directives_say_what_is_done() -> None:
    handed_over = fields_of(Reload.HANDOVER)
    assert handed_over == (KEY_EXCHANGE - {"port"}) | {"workers"}
    assert fields_of(Reload.IN_PLACE) <= OF_CONTROL | BY_THE_SUPERVISOR | BY_EVERY_RELOAD


def test_what_needs_a_restart_is_one_line() -> None:
    assert describe(()) == ""
    assert describe(("user", "port")) == "Changed directives that need a restart : user, port"
