# cython: binding=True
"""`dataclass` without the compiling: the same classes as the standard library's, made much faster.

The standard decorator writes source text for each method of each class and compiles it, which took a quarter of the time
this daemon needs to start. Here all classes share compiled methods that go by the list of fields. What is made is a
dataclass for everybody else: `fields`, `replace`, `asdict` and pattern matching work. Supported is what this project
uses: `frozen`, `slots`, `eq`, `order`, `kw_only`; `field` with its defaults, `init`, `repr`, `compare`, `hash`.
"""

import dataclasses
from dataclasses import MISSING, Field, FrozenInstanceError, field, fields, replace
from typing import ClassVar

cdef extern from "Python.h":
    int PyObject_GenericSetAttr(object instance, object name, object value) except -1

__all__ = ["Field", "dataclass", "field", "fields", "replace"]


class _Parameters:
    """What `dataclasses` asks a base class about."""

    __slots__ = ("eq", "frozen", "init", "kw_only", "match_args", "order", "repr", "slots", "unsafe_hash",
                 "weakref_slot")

    def __init__(self, **values):
        for name in self.__slots__:
            setattr(self, name, values.get(name, False))


def dataclass(cls=None, *, bint frozen=False, bint slots=False, bint eq=True, bint order=False, bint kw_only=False):
    """See `dataclasses.dataclass`."""
    if cls is not None:
        return _make(cls, frozen, slots, eq, order, kw_only)

    def decorate(cls):
        return _make(cls, frozen, slots, eq, order, kw_only)

    return decorate


cdef bint _is_class_variable(annotation):
    if isinstance(annotation, str):
        return annotation.startswith(("ClassVar", "typing.ClassVar"))
    return annotation is ClassVar or getattr(annotation, "__origin__", None) is ClassVar


cdef dict _collect_fields(cls, bint kw_only):
    """Of the class and its bases, in the order of `dataclasses`."""
    cdef dict found = {}
    for base in reversed(cls.__mro__[1:]):
        inherited = base.__dict__.get("__dataclass_fields__")
        if inherited is not None:
            found.update(inherited)
    for name, annotation in cls.__dict__.get("__annotations__", {}).items():
        if _is_class_variable(annotation):
            continue
        default = cls.__dict__.get(name, MISSING)
        if isinstance(default, Field):
            one = default
            if one.default is MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, one.default)
        else:
            one = field() if default is MISSING else field(default=default)
        if one.default.__class__.__hash__ is None:
            raise ValueError(f"mutable default {type(one.default)} for field {name} is not allowed: use default_factory")
        one.name = name
        one.type = annotation
        one._field_type = dataclasses._FIELD
        if one.kw_only is MISSING:
            one.kw_only = kw_only
        found[name] = one
    return found


def _make(cls, bint frozen, bint slots, bint eq, bint order, bint kw_only):
    cdef dict found = _collect_fields(cls, kw_only)
    cdef dict own = dict(cls.__dict__)
    cdef tuple all_fields = tuple(found.values())
    cdef dict made = {
        "__dataclass_fields__": found,
        "__dataclass_params__": _Parameters(
            init=True, repr=True, match_args=True, frozen=frozen, slots=slots, eq=eq, order=order, kw_only=kw_only
        ),
    }
    compared = tuple([one.name for one in all_fields if one.compare])
    if "__init__" not in own:
        made["__init__"] = _init(all_fields, frozen, hasattr(cls, "__post_init__"))
    if "__repr__" not in own:
        made["__repr__"] = _repr(tuple([one.name for one in all_fields if one.repr]))
    if eq and "__eq__" not in own:
        made["__eq__"] = _eq(compared)
    if order:
        for name, operation in (("__lt__", 0), ("__le__", 1), ("__gt__", 2), ("__ge__", 3)):
            made[name] = _order(compared, operation)
    explicit_hash = own.get("__hash__", MISSING)
    if eq and (explicit_hash is MISSING or (explicit_hash is None and "__eq__" in own)):
        hashed = tuple([one.name for one in all_fields if (one.compare if one.hash is None else one.hash)])
        made["__hash__"] = _hash(hashed) if frozen else None
    if frozen:
        made["__setattr__"], made["__delattr__"] = _refuse_to_set, _refuse_to_delete
    if "__match_args__" not in own:
        made["__match_args__"] = tuple([one.name for one in all_fields if one.init and not one.kw_only])
    if not slots:
        for name, value in made.items():
            setattr(cls, name, value)
        return cls
    if frozen:
        made.setdefault("__getstate__", _get_state(tuple(found)))
        made.setdefault("__setstate__", _set_state(tuple(found)))
    # A class gets its slots when it is made: make it again.
    inherited = set()
    for base in cls.__mro__[1:]:
        names = base.__dict__.get("__slots__", ())
        inherited.update((names,) if isinstance(names, str) else names)
    for name in found:
        own.pop(name, None)
    own.pop("__dict__", None)
    own.pop("__weakref__", None)
    own.update(made)
    own["__slots__"] = tuple([name for name in found if name not in inherited])
    again = type(cls)(cls.__name__, cls.__bases__, own)
    again.__qualname__ = cls.__qualname__
    return again


cdef _init(tuple all_fields, bint frozen, bint has_post_init):
    cdef tuple positional = tuple([one for one in all_fields if one.init and not one.kw_only])
    cdef tuple keyword = tuple([one for one in all_fields if one.init and one.kw_only])
    cdef tuple taken = positional + keyword
    cdef tuple names = tuple([one.name for one in taken])
    cdef tuple defaults = tuple([one.default for one in taken])
    cdef tuple factories = tuple([one.default_factory for one in taken])
    cdef tuple others = tuple([one for one in all_fields if not one.init])
    cdef Py_ssize_t positional_count = len(positional), count = len(taken)
    cdef bint optional = False
    for one in positional:
        if one.default is not MISSING or one.default_factory is not MISSING:
            optional = True
        elif optional:
            raise TypeError(f"non-default argument {one.name!r} follows default argument")

    def __init__(self, *args, **kwargs):
        cdef Py_ssize_t index, given = len(args), left = len(kwargs)
        if given > positional_count:
            raise TypeError(
                f"{type(self).__qualname__}.__init__() takes {positional_count + 1} positional arguments "
                f"but {given + 1} were given"
            )
        missing = None
        for index in range(count):
            name = names[index]
            if index < given:
                value = args[index]
            elif left and name in kwargs:
                value = kwargs[name]
                left -= 1
            else:
                value = defaults[index]
                if value is MISSING:
                    factory = factories[index]
                    if factory is MISSING:
                        missing = f"{missing}, {name!r}" if missing else repr(name)
                        continue
                    value = factory()
            if frozen:
                PyObject_GenericSetAttr(self, name, value)
            else:
                setattr(self, name, value)
        if missing is not None:
            raise TypeError(f"{type(self).__qualname__}.__init__() missing required arguments: {missing}")
        if left:
            _complain_of_keywords(self, names, given, kwargs)
        for one in others:
            value = one.default if one.default_factory is MISSING else one.default_factory()
            if value is not MISSING:
                PyObject_GenericSetAttr(self, one.name, value)
        if has_post_init:
            self.__post_init__()

    return __init__


cdef _complain_of_keywords(self, tuple names, Py_ssize_t given, dict kwargs):
    for name in kwargs:
        if name not in names:
            raise TypeError(f"{type(self).__qualname__}.__init__() got an unexpected keyword argument {name!r}")
        if names.index(name) < given:
            raise TypeError(f"{type(self).__qualname__}.__init__() got multiple values for argument {name!r}")


cdef tuple _values(self, tuple names):
    return tuple([getattr(self, name) for name in names])


cdef _repr(tuple names):
    def __repr__(self):
        shown = ", ".join([f"{name}={getattr(self, name)!r}" for name in names])
        return f"{self.__class__.__qualname__}({shown})"

    return __repr__


cdef _eq(tuple names):
    def __eq__(self, other):
        if other.__class__ is not self.__class__:
            return NotImplemented
        if self is other:
            return True
        return _values(self, names) == _values(other, names)

    return __eq__


cdef _order(tuple names, int operation):
    def compare(self, other):
        if other.__class__ is not self.__class__:
            return NotImplemented
        mine, theirs = _values(self, names), _values(other, names)
        if operation == 0:
            return mine < theirs
        if operation == 1:
            return mine <= theirs
        if operation == 2:
            return mine > theirs
        return mine >= theirs

    return compare


cdef _hash(tuple names):
    def __hash__(self):
        return hash(_values(self, names))

    return __hash__


def _refuse_to_set(self, name, value):
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self, name):
    raise FrozenInstanceError(f"cannot delete field {name!r}")


cdef _get_state(tuple names):
    def __getstate__(self):
        return list(_values(self, names))

    return __getstate__


cdef _set_state(tuple names):
    def __setstate__(self, state):
        for name, value in zip(names, state):
            PyObject_GenericSetAttr(self, name, value)

    return __setstate__
