"""Our `dataclass` and the standard library's side by side: whoever uses one cannot tell."""

import copy
import dataclasses
import pickle
from typing import ClassVar

import pytest

from ntpd_fast import _record

KINDS = pytest.mark.parametrize("module", [dataclasses, _record], ids=["standard", "ours"])
OPTIONS = [
    {},
    {"slots": True},
    {"frozen": True},
    {"frozen": True, "slots": True},
    {"frozen": True, "slots": True, "order": True},
    {"eq": False, "slots": True},
    {"frozen": True, "kw_only": True},
]


def make(module, **options):
    """A class with every kind of field that the project uses."""

    class Point:
        """Where something is."""

        unit: ClassVar[str] = "m"
        x: int
        y: int = 2
        tags: list[str] = module.field(default_factory=list)
        note: str = module.field(default="", compare=False, repr=False)

        def norm(self) -> int:
            return self.x + self.y

    return module.dataclass(**options)(Point)


@KINDS
@pytest.mark.parametrize("options", OPTIONS)
def test_objects_behave(module, options):
    cls = make(module, **options)
    one, same = cls(x=1), cls(x=1, y=2, note="not compared")
    other = cls(x=1, y=3)
    assert (one.x, one.y, one.tags, one.note, one.unit, one.norm()) == (1, 2, [], "", "m", 3)
    assert one.tags is not same.tags
    if options.get("eq", True):
        assert one == same
        assert one != other
    else:
        assert one != same
    assert one != (1, 2, [])
    assert repr(one) == "make.<locals>.Point(x=1, y=2, tags=[])"
    assert [field.name for field in dataclasses.fields(one)] == ["x", "y", "tags", "note"]
    assert dataclasses.asdict(one) == {"x": 1, "y": 2, "tags": [], "note": ""}
    moved = dataclasses.replace(one, y=5)
    assert (type(moved), moved.y) == (cls, 5)
    assert cls.__doc__ == "Where something is."
    assert hasattr(one, "__dict__") is not options.get("slots", False)
    if options.get("frozen"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            one.x = 2
        with pytest.raises(dataclasses.FrozenInstanceError):
            del one.x
    else:
        one.x = 2
        assert one.x == 2
    assert copy.deepcopy(other).norm() == 4
    if options.get("order"):
        assert one < other
        assert sorted([other, one]) == [one, other]
        assert not one > other
        assert one <= same
        assert one >= same


@KINDS
def test_arguments_are_checked(module):
    cls = make(module, frozen=True, slots=True)
    assert cls(1, 3, ["a"], "n").tags == ["a"]
    for args, kwargs in (((), {}), ((1, 2, [], "", 5), {}), ((1,), {"x": 1}), ((1,), {"z": 1})):
        with pytest.raises(TypeError):
            cls(*args, **kwargs)
    with pytest.raises(TypeError):
        make(module, kw_only=True)(1)


@KINDS
def test_hashes_and_patterns(module):
    @module.dataclass(frozen=True, slots=True)
    class Pair:
        one: int
        two: int = module.field(default=0, compare=False)

    @module.dataclass
    class Changing:
        one: int

    assert hash(Pair(1)) == hash(Pair(1, 5))
    assert len({Pair(1), Pair(1, 5), Pair(2)}) == 2
    with pytest.raises(TypeError):
        hash(Changing(1))
    match Pair(3, 4):
        case Pair(one, two):
            assert (one, two) == (3, 4)


@KINDS
def test_fields_are_inherited_and_own_methods_stay(module):
    @module.dataclass(frozen=True, slots=True)
    class Base:
        one: int
        two: int = 2

    @module.dataclass(frozen=True, slots=True)
    class Derived(Base):
        two: int = 3
        three: int = 4

        def __repr__(self) -> str:
            return "mine"

        def __hash__(self) -> int:
            return 7

    assert [field.name for field in dataclasses.fields(Derived)] == ["one", "two", "three"]
    found = Derived(1)
    assert (found.one, found.two, found.three, repr(found), hash(found)) == (1, 3, 4, "mine", 7)
    assert not hasattr(found, "__dict__")
    assert Base(1, 3) != found


@KINDS
def test_after_the_fields_comes_post_init(module):
    @module.dataclass(slots=True)
    class Sum:
        one: int
        twice: int = module.field(init=False, default=0)

        def __post_init__(self) -> None:
            self.twice = 2 * self.one

    assert Sum(4).twice == 8


@KINDS
def test_mistakes_of_a_class_are_told(module):
    with pytest.raises(ValueError, match="mutable default"):

        @module.dataclass
        class _Mutable:
            one: list[int] = []     # noqa: RUF012

    with pytest.raises(TypeError, match="non-default argument"):

        @module.dataclass
        class _Order:
            one: int = 1
            two: int


@_record.dataclass(frozen=True, slots=True)
class Pickled:
    """Module level, so that it can be found again."""

    one: int
    two: str = "2"


def test_frozen_objects_travel():
    assert pickle.loads(pickle.dumps(Pickled(1, "x"))) == Pickled(1, "x")
    assert copy.copy(Pickled(1)) == Pickled(1)
