"""Nothing is accepted and then ignored: every directive with what the daemon does with it.

For an active directive, code outside the package must read each field it sets from a variable called
`config` or `..._config`; where the field holds a class of the model, code must also read all of its fields.
"""

import ast
import dataclasses
import typing
from pathlib import Path

import pytest

import ntpd_fast
from ntpd_fast.config import Config, ConfigError, model
from ntpd_fast.config.directives import DIRECTIVES
from ntpd_fast.config.support import SUPPORT, Support, check_support
from tests.unit.config.conftest import parse

PACKAGE = Path(ntpd_fast.__file__).parent

def _attributes_read(sources: dict[str, str]) -> tuple[set[str], set[str]]:
    """Names of attributes read from a configuration, and from anything."""
    of_config, of_anything = set(), set()
    for path, text in sources.items():
        for node in ast.walk(ast.parse(text, path)):
            if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
                continue
            of_anything.add(node.attr)
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if name == "config" or name.endswith("_config"):
                of_config.add(node.attr)
    return of_config, of_anything


def _model_classes(annotation: object) -> set[type]:
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        nested = typing.get_type_hints(annotation).values()
        return {annotation}.union(*(_model_classes(inner) for inner in nested))
    return set().union(*(_model_classes(inner) for inner in typing.get_args(annotation)))


def _wanted(directives: typing.Iterable[str]) -> set[str]:
    """Fields that somebody has to read: of Config, and `Class.field` of what they hold."""
    hints = typing.get_type_hints(Config)
    wanted = set()
    for name in directives:
        for field in DIRECTIVES[name].fields:
            wanted.add(field)
            for cls in _model_classes(hints[field]) - {model.Where}:
                wanted |= {f"{cls.__name__}.{inner.name}" for inner in dataclasses.fields(cls) if inner.name != "where"}
    return wanted


# Methods of the configuration that code calls in place of reading the fields they weigh against each other.
METHODS = {"sample_limits": {"minsamples", "maxsamples", "SourceOptions.minsamples", "SourceOptions.maxsamples"}}


def _unread(directives: typing.Iterable[str], sources: dict[str, str]) -> set[str]:
    of_config, of_anything = _attributes_read(sources)
    by_method = set().union(*(fields for method, fields in METHODS.items() if method in of_config))
    return {
        field
        for field in _wanted(directives) - by_method
        if (field.partition(".")[2] not in of_anything if "." in field else field not in of_config)
    }


def _sources_outside_config() -> dict[str, str]:
    return {
        str(path): path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*.py")
        if (PACKAGE / "config") not in path.parents
    }


def test_every_directive_has_a_status() -> None:
    assert SUPPORT.keys() == DIRECTIVES.keys()
    assert SUPPORT["ntscachedir"] is SUPPORT["ntsdumpdir"]
    nothing_to_read = {name for name, row in DIRECTIVES.items() if not row.fields}
    assert {name for name, support in SUPPORT.items() if support is Support.LANGUAGE} == nothing_to_read


def test_own_directives_are_active() -> None:
    assert all(SUPPORT[name] is Support.ACTIVE for name, row in DIRECTIVES.items() if row.ours)


def test_what_active_directives_set_is_read() -> None:
    active = [name for name, support in SUPPORT.items() if support is Support.ACTIVE]
    unread = _unread(active, _sources_outside_config())
    assert unread == set()


def test_search_finds_what_is_ignored() -> None:
    code = "def f(config, my_config, self, sock):\n    config.port, my_config.dscp, self.config.user, sock.cmdport\n"
    code += "    config.local.stratum\n    config.workers = 1\n"
    unread = _unread(["port", "dscp", "user", "cmdport", "local", "workers", "allow"], {"x.py": code})
    assert unread == {
        "cmdport", "workers", "access", "AccessRule.address", "AccessRule.all", "AccessRule.allow",
        "AccessRule.prefix_len", "LocalOptions.activate_s", "LocalOptions.distance_s", "LocalOptions.orphan",
        "LocalOptions.waitsynced_s", "LocalOptions.waitunsynced_s",
    }  # fmt: skip


def test_nested_classes_are_searched_too() -> None:
    wanted = _wanted(["server", "initstepslew"])
    assert {"sources", "SourceConfig.kind", "SourceOptions.iburst", "InitStepServer.address"} <= wanted
    assert not any("where" in field or "Where" in field for field in wanted)


def test_refused_directive_is_told_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is refused at present; whatever is entered so is told."""
    monkeypatch.setitem(typing.cast(dict[str, Support], SUPPORT), "server", Support.REFUSED)
    config = parse("port 1")
    where = model.Where("/etc/x.conf", 7)
    used = dataclasses.replace(config, first_uses={"port": model.Where(None, 1), "server": where})
    with pytest.raises(ConfigError) as error:
        check_support(used)
    assert str(error.value) == "server directive is not supported yet at line 7 in file /etc/x.conf"


def test_directive_without_effect_is_told_once() -> None:
    lines = [name for name, support in SUPPORT.items() if support is Support.INERT]
    values = {"refclock": "SHM 0", "hwtimestamp": "*", "rtcautotrim": "1", "rtcfile": "/x", "rtcdevice": "/x"}
    values |= {"hwclockfile": "/x", "hwtstimeout": "1", "maxtxbuffers": "1"}
    config = parse(*[f"{name} {values.get(name, '')}" for name in lines] * 2)
    assert check_support(config) == tuple(f"{name} directive has no effect yet" for name in lines)


def test_words_of_the_past_need_no_support() -> None:
    assert check_support(parse("commandkey 1", "dumponexit", "linux_hz 100")) == ()
