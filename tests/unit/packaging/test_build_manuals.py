"""The manual pages: everything a table has is on them, in roff that mandoc finds nothing wrong with."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ntpd_fast.cli.ntpc.commands import COMMANDS
from ntpd_fast.cli.ntpc.help import HELP, OWN_HELP
from ntpd_fast.cli.options import ROWS
from ntpd_fast.config.directives import DIRECTIVES, options_of
from ntpd_fast.config.model import Config, SourceOptions

ROOT = Path(__file__).parents[3]
# What mandoc cannot know: pages that are not installed here, and the name of what the page belongs to.
HARMLESS = re.compile(r"STYLE: (referenced manual not found|operating system explicitly specified)")


def generator():
    spec = importlib.util.spec_from_file_location("build_manuals", ROOT / "packaging/build_manuals.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MANUALS = generator()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    made = tmp_path_factory.mktemp("man")
    MANUALS.build(made)
    return made


@pytest.fixture(scope="module")
def conf(directory):
    """The text of ntpd-fast.conf(5) as a reader sees it, without line breaks."""
    return shown(directory / "ntpd-fast.conf.5")


def shown(path: Path) -> str:
    assert shutil.which("mandoc"), "'make deps' installs mandoc"
    done = subprocess.run(
        ["mandoc", "-Tascii", "-Owidth=1000", path],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    )
    return re.sub(r".\x08", "", done.stdout)


@pytest.mark.parametrize("name", ["ntpd-fast.8", "ntpc-fast.1", "ntpd-fast.conf.5", "ntpd-fast-loadtest.1"])
def test_mandoc_has_nothing_to_say(directory, name):
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wall", directory / name],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )
    assert [line for line in done.stdout.splitlines() if not HARMLESS.search(line)] == []
    # an escape that was escaped once more
    assert re.findall(r".*\\\(.*", shown(directory / name)) == []


def test_every_directive_has_an_item_and_every_option_is_explained(conf):
    heads = re.findall(r"^     (\w+)(?: .*)?$", conf.partition("DIRECTIVES")[2].partition("EXAMPLES")[0], re.MULTILINE)
    assert [name for name in DIRECTIVES if name not in heads] == []
    options = {option for row in DIRECTIVES.values() for option in options_of(row)}
    assert [name for name in options if not re.search(rf"^             {name}\b", conf, re.MULTILINE)] == []


def test_every_description_is_a_sentence():
    described = [row.description for row in DIRECTIVES.values()]
    described += [option.description for row in DIRECTIVES.values() for option in options_of(row).values()]
    assert [text for text in described if not re.fullmatch(r"[A-Z].{8,}\.", text)] == []


def item(conf: str, directive: str) -> str:
    """The text of one directive."""
    start = re.search(rf"^     {directive}(?: .*)?$", conf, re.MULTILINE)
    return re.split(r"^     \w", conf[start.end():], maxsplit=1, flags=re.MULTILINE)[0]


def test_defaults_and_ranges_are_those_of_the_model(conf):
    model = Config()
    assert f"Default: {model.maxntsconnections}.  Range: at least 1." in item(conf, "maxntsconnections")
    assert f"Default: {model.refresh_s} seconds (14 days)." in item(conf, "refresh")
    assert f"Default: {model.maxdistance_s:g} seconds." in item(conf, "maxdistance")
    assert f"Default: {model.authselectmode.value}." in item(conf, "authselectmode")
    assert "Default: 30 15." in item(conf, "ntsaeads")
    assert "Range: 0 to 63." in item(conf, "dscp")
    server = item(conf, "server")
    assert f"maxpoll N\n{' ' * 21}Longest interval" in server
    assert f"(-32 to 32, default: {SourceOptions().maxpoll})" in server
    assert "is -4." in item(conf, "cmdratelimit")


def test_a_default_can_be_told_only_where_the_model_has_none(tmp_path):
    path = tmp_path / "texts.mdoc"
    path.write_text("@port\nText.\n@default 7\n")
    texts = MANUALS.Texts(path)
    with pytest.raises(ValueError, match="contradicts"):
        MANUALS.default_of(123, "port", texts, "port")
    with pytest.raises(ValueError, match="@default of dumpdir is missing"):
        MANUALS.default_of(None, "dumpdir", texts, "dumpdir")
    with pytest.raises(ValueError, match="nothing about dumpdir"):
        texts.of("dumpdir")
    with pytest.raises(ValueError, match="no row of a table asks for port"):
        MANUALS.complain(MANUALS.Texts(path))


def test_what_is_ours_and_what_has_no_effect_is_said(conf):
    for name, row in DIRECTIVES.items():
        assert ("Not one of chrony's." in item(conf, name)) == row.ours, name
        inert = MANUALS.SUPPORT[name] is MANUALS.Support.INERT
        assert ("has no effect yet" in item(conf, name)) == inert, name


def test_every_option_of_the_daemon_is_there(directory):
    page = shown(directory / "ntpd-fast.8")
    assert [letter for letter, *_ in ROWS if not re.search(rf"^     -{letter}\b", page, re.MULTILINE)] == []


def test_every_command_is_there(directory):
    page = shown(directory / "ntpc-fast.1")
    known = {word for _, rows in HELP + OWN_HELP for syntax, _ in rows for word in syntax.split()[0].split("|")}
    assert known <= set(COMMANDS)
    assert [word for word in COMMANDS if not re.search(rf"\b{word}\b", page)] == []


@pytest.mark.parametrize(
    ("text", "macros"),
    [
        ("NAME [OPTION]...", "Ar NAME Oo Ar OPTION Oc Ns No ..."),
        ("require|mix", "Cm require | Cm mix"),
        ("[[<mask>/]<address>]", "Oo Oo Ar mask Ns No \\&/ Oc Ns Ar address Oc"),
        ("PARAMETER[:OPTION]...", "Ar PARAMETER Ns Oo No \\&: Ns Ar OPTION Oc Ns No ..."),
        ("--by rate|drops", "Cm \\-\\-by Cm rate | Cm drops"),
    ],
)
def test_syntax_becomes_macros(text, macros):
    assert MANUALS.syntax(text) == macros


def test_chronys_names_lead_to_the_same_pages(directory):
    for name, ours in MANUALS.CHRONY_NAMES.items():
        assert (directory / name).read_text() == f".so man{ours[-1]}/{ours}\n"
        assert (directory / ours).exists()
