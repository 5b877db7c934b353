"""Directives with several arguments of fixed places.

Their numbers are read as one list: what follows a number in its word is taken for the next argument, except
after the last number, where it is ignored (`makestep 1 3.9` means a limit of 3).
"""

from __future__ import annotations

import math
from typing import ClassVar

from ntpd_fast._record import dataclass
from ntpd_fast.config.kinds import Draft, check_count, could_not_parse, missing_arguments, unusable_value
from ntpd_fast.config.lexer import Line
from ntpd_fast.config.model import (
    INTERVAL_MAX_S,
    BroadcastConfig,
    FallbackDrift,
    InitStepServer,
    InitStepSlew,
    MailOnChange,
    MakeStep,
    MaxChange,
    SmoothTime,
    TempComp,
)
from ntpd_fast.config.resolve import parse_address
from ntpd_fast.config.words import NotANumber, Scanner, int_prefix, real_prefix

FALLBACK_LOG2_MAX = 32


@dataclass(frozen=True, slots=True)
class MakeStepKind:
    syntax: ClassVar[str] = "THRESHOLD LIMIT"

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        check_count(line, 2)
        scanner = Scanner(line.words[1:])
        try:
            step = MakeStep(scanner.real_value(), scanner.int_value())
        except NotANumber as error:
            raise could_not_parse(line) from error
        if math.isnan(step.threshold_s):
            unusable_value(line, draft)
        else:
            draft.values[fields[0]] = step


@dataclass(frozen=True, slots=True)
class MaxChangeKind:
    syntax: ClassVar[str] = "OFFSET START IGNORE"

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        check_count(line, 3)
        scanner = Scanner(line.words[1:])
        try:
            change = MaxChange(scanner.real_value(), scanner.int_value(), scanner.int_value())
        except NotANumber as error:
            raise could_not_parse(line) from error
        if math.isnan(change.offset_s):
            unusable_value(line, draft)
        else:
            draft.values[fields[0]] = change if change.start >= 0 else None


@dataclass(frozen=True, slots=True)
class FallbackDriftKind:
    syntax: ClassVar[str] = "MIN MAX"

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        check_count(line, 2)
        scanner = Scanner(line.words[1:])
        try:
            low, high = scanner.int_value(), scanner.int_value()
        except NotANumber as error:
            raise could_not_parse(line) from error
        # One average is kept for each power of two: 2^32 s are 136 years.
        low, high = min(low, FALLBACK_LOG2_MAX), min(high, FALLBACK_LOG2_MAX)
        draft.values[fields[0]] = FallbackDrift(low, high) if high >= low > 0 else None


@dataclass(frozen=True, slots=True)
class SmoothTimeKind:
    syntax: ClassVar[str] = "MAX-FREQ MAX-WANDER [leaponly]"

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        check_count(line, 2, 3)
        scanner = Scanner(line.words[1:])
        try:
            freq, wander = scanner.real_value(), scanner.real_value()
        except NotANumber as error:
            raise could_not_parse(line) from error
        leap_only = len(line.words) == 4
        if leap_only and line.words[3].lower() != "leaponly":
            raise could_not_parse(line)
        if not math.isfinite(freq) or not math.isfinite(wander):
            unusable_value(line, draft)
        elif freq > 0.0 and wander > 0.0:
            draft.values[fields[0]] = SmoothTime(freq, wander, leap_only)
        else:
            draft.values[fields[0]] = None


@dataclass(frozen=True, slots=True)
class TempCompKind:
    syntax: ClassVar[str] = "FILE INTERVAL T0 K0 K1 K2 | FILE INTERVAL POINTS-FILE"

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        check_count(line, 3, 6)
        file, *rest = line.words[1:]
        scanner = Scanner(rest)
        points_file = rest[1] if len(rest) == 2 else None
        try:
            if points_file is not None:
                interval, coefficients = real_prefix(rest[0])[0], (0.0, 0.0, 0.0, 0.0)
            elif len(rest) == 5:
                interval = scanner.real_value()
                t0, k0, k1, k2 = (scanner.real_value() for _ in range(4))
                coefficients = (t0, k0, k1, k2)
            else:
                raise missing_arguments(line)
        except NotANumber as error:
            raise could_not_parse(line) from error
        if not all(map(math.isfinite, coefficients)):
            unusable_value(line, draft)
            return
        interval = min(interval, INTERVAL_MAX_S) if interval > 0.0 else 1.0
        draft.values[fields[0]] = TempComp(file, interval, points_file, *coefficients)


@dataclass(frozen=True, slots=True)
class MailOnChangeKind:
    syntax: ClassVar[str] = "ADDRESS THRESHOLD"

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        check_count(line, 2)
        try:
            threshold, _ = real_prefix(line.words[2])
        except NotANumber as error:
            raise could_not_parse(line) from error
        if math.isnan(threshold):
            unusable_value(line, draft)
        else:
            draft.values[fields[0]] = MailOnChange(line.words[1], threshold)


@dataclass(frozen=True, slots=True)
class InitStepSlewKind:
    syntax: ClassVar[str] = "THRESHOLD [NAME]..."

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        if len(line.words) < 2:
            raise could_not_parse(line)
        try:
            threshold, _ = real_prefix(line.words[1])
        except NotANumber as error:
            raise could_not_parse(line) from error
        servers = []
        for name in line.words[2:]:
            address = parse_address(name) or draft.resolver(name)
            if address is None:
                draft.warn(f"Could not resolve address of initstepslew server {name}")
            else:
                servers.append(InitStepServer(name, address))
        if math.isnan(threshold):
            unusable_value(line, draft)
        else:
            draft.values[fields[0]] = InitStepSlew(threshold, tuple(servers))


@dataclass(frozen=True, slots=True)
class BroadcastKind:
    """Every line counts."""

    syntax: ClassVar[str] = "INTERVAL ADDRESS [PORT]"

    def apply(self, line: Line, draft: Draft, fields: tuple[str, ...]) -> None:
        words = line.words[1:]
        address = parse_address(words[1]) if 2 <= len(words) <= 3 else None
        if address is None:
            raise could_not_parse(line)
        try:
            interval, _ = int_prefix(words[0])
            port, _ = int_prefix(words[2]) if len(words) == 3 else (123, "")
        except NotANumber as error:
            raise could_not_parse(line) from error
        if not 0 <= port <= 65535:
            raise could_not_parse(line)
        interval = min(max(interval, 1), int(INTERVAL_MAX_S))
        draft.add(fields[0], BroadcastConfig(interval, address, port))
