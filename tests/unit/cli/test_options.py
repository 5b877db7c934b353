"""The daemon's command line."""

import pytest

from ntpd_fast.cli.options import ROWS, BadArgument, Mode, Options, UsageError, parse, usage


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", Options()),
        ("-4", Options(family=4)),
        ("-4 -6", Options(family=6)),
        ("-f FILE", Options(config_file="FILE")),
        ("-n", Options(background=False)),
        ("-d", Options(background=False, log_to_stderr=True)),
        ("-d -d", Options(background=False, log_to_stderr=True, debug=True)),
        ("-dd", Options(background=False, log_to_stderr=True, debug=True)),
        ("-q", Options(background=False, log_to_stderr=True, mode=Mode.SET_ONCE)),
        ("-Q", Options(background=False, log_to_stderr=True, mode=Mode.PRINT_ONCE, control_clock=False)),
        ("-q -d", Options(background=False, log_to_stderr=True, mode=Mode.SET_ONCE)),
        ("-l FILE -L 2", Options(log_file="FILE", log_level=2)),
        ("-L -1", Options(log_level=-1)),
        ("-p -r -R -s", Options(print_config=True, reload_dumps=True, restarted=True, set_from_rtc=True)),
        ("-t 3 -u USER -U", Options(timeout_s=3, user="USER", check_superuser=False)),
        ("-F -2 -P 5 -m -x", Options(filter_level=-2, priority=5, lock_memory=True, control_clock=False)),
        ("-F2 -nx", Options(filter_level=2, background=False, control_clock=False)),
        ("-N 7", Options(ready_descriptor=7)),
        ("-t 3x", Options(timeout_s=3)),
        ("-t 99999999999999999999", Options(timeout_s=2**31 - 1)),
        ("a -x b -n", Options(control_clock=False, background=False, directives=("a", "b"))),
        ("-- -x", Options(directives=("-x",))),
        ("-v", Options(version=True)),
        ("-h", Options(help=True)),
        ("-Z --version", Options(version=True)),
        ("--help -t", Options(help=True)),
        ("--strict -p", Options(print_config=True, strict=True)),
    ],
)
def test_options(words, expected):
    assert parse(words.split()) == expected


@pytest.mark.parametrize("words", ["-Z", "-f", "-nt", "--nonsense", "-x -Z", "--strict", "-x --strict"])
def test_mistakes(words):
    with pytest.raises(UsageError):
        parse(words.split())


@pytest.mark.parametrize("option", "LtFPN")
def test_words_that_are_no_numbers(option):
    with pytest.raises(BadArgument, match=r"^Invalid argument x5$"):
        parse([f"-{option}", "x5"])


def test_usage_shows_every_option_once():
    text = usage("chronyd")
    assert text.startswith("Usage: chronyd [OPTION]... [DIRECTIVE]...\n")
    for letter, argument, _, _ in ROWS:
        assert text.count(f"\n  -{letter}{' ' + argument if argument else ''}") == 1
    assert text.count("\n  --strict ") == 1


@pytest.mark.parametrize(("options", "single"), [("", False), ("-n", False), ("-d", True), ("-q", True), ("-Q", True)])
def test_what_runs_in_one_process(options, single):
    assert parse(options.split()).single_process is single
