"""The program's options are read as getopt reads chronyc's."""

import pytest

from ntpd_fast.cli.ntpc.options import OptionError, Options, parse


def test_nothing_is_interactive_mode_with_the_defaults():
    assert parse([]) == Options()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-n", "tracking"], Options(numeric=True, words=("tracking",))),
        (["-ncm", "a b", "c"], Options(numeric=True, csv=True, multi=True, words=("a b", "c"))),
        (["-N", "-c"], Options(source_names=True, csv=True)),
        (["-p", "11323", "-h", "a,/b"], Options(port=11323, hosts="a,/b")),
        (["-p11323", "-ha"], Options(port=11323, hosts="a")),
        (["-4"], Options(family=4)),
        (["-46"], Options(family=6)),
        (["-e", "-d", "-a", "-f", "/etc/x", "-u", "ntp", "x"], Options(end_dots=True, user="ntp", words=("x",))),
        (["--", "-n"], Options(words=("-n",))),
        (["-", "-n"], Options(words=("-", "-n"))),
        (["--json", "--color=never", "sources"], Options(json=True, color="never", words=("sources",))),
        (["-v"], Options(version=True)),
        (["tracking", "--help"], Options(help=True)),
        (["-z", "--version"], Options(version=True)),
    ],
)
def test_options_end_at_the_first_word_that_is_none(arguments, expected):
    assert parse(arguments) == expected


def test_words_after_the_command_are_the_commands():
    assert parse(["tracking", "-n"]).words == ("tracking", "-n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-z"], "invalid option -- 'z'"),
        (["-nz"], "invalid option -- 'z'"),
        (["--foo"], "invalid option -- '-'"),
        (["-p"], "option requires an argument -- 'p'"),
        (["-nh"], "option requires an argument -- 'h'"),
        (["-p", "x"], "invalid port number -- 'x'"),
        (["-p", "65536"], "invalid port number -- '65536'"),
        (["--color=sometimes"], "invalid argument -- 'sometimes' (auto, always or never)"),
    ],
)
def test_what_is_wrong_is_named(arguments, message):
    with pytest.raises(OptionError) as caught:
        parse(arguments)
    assert str(caught.value) == message
