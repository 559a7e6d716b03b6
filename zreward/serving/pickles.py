"""The pickle protocol of flow_grpo and verl-omni, read without a pickle machine.

`pickletools.genops` splits a pickle into opcodes; the few that plain data needs are followed here, over dicts, lists, tuples,
texts, bytes, numbers and numpy arrays of bytes or texts. Nothing is imported or called, and no numpy object is made from what
the pickle says: an array stays a list of what its bytes spell. Work and memory are in proportion to the body. Off unless
`--allow-pickle`, and then on loopback only.
"""

from __future__ import annotations

import pickle
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zreward.common.errors import InputError, shown

_MOST_OPCODES, _MOST_ELEMENTS = 50_000, 10_000
_CODE = re.compile(r"O8?|[SU][0-9]{1,9}", re.ASCII)  # of a dtype
_MARK = object()


class _Refused(Exception):
    """What was found in the pickle that plain data does not hold."""


@dataclass(frozen=True)
class _Global:
    """A name that a pickle of numpy arrays holds; it stands for itself, nothing is looked up."""

    name: str


@dataclass
class _Dtype:
    """Bytes ('S') or texts ('U') of a fixed size, or objects ('O'), whose array is a plain list."""

    code: str
    order: str = "<"


@dataclass
class _Array:
    """A numpy array before (`values` is None) and after its state was set."""

    values: list[Any] | None = None


_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_GLOBALS = {f"{module} {name}": name for module in _MODULES for name in ("_reconstruct", "scalar")} | {
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",  # how protocols 0 to 2 spell bytes
    "numpy.core.numeric _frombuffer": "_frombuffer",  # protocol 5
    "numpy._core.numeric _frombuffer": "_frombuffer",
}


def read_request(body: bytes | bytearray) -> tuple[list[bytes], list[str]]:
    """Encoded images and their prompts. InputError for anything else."""
    try:
        request = _Machine().run(body)
    except _Refused as error:
        raise _no_data(str(error)) from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _no_data(f"{type(error).__name__}: {str(error)[:200]}") from None
    if not isinstance(request, dict) or "images" not in request or "prompts" not in request:
        raise InputError("the pickle has no images and prompts; expected {'images': [bytes], 'prompts': [text]}")
    images, prompts = _listed(request["images"], "images"), _listed(request["prompts"], "prompts")
    if not images or len(images) != len(prompts) or not all(isinstance(image, bytes) for image in images):
        raise InputError(
            f"{len(images)} images, {len(prompts)} prompts; expected one prompt per image, images as encoded bytes"
        )
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise InputError(f"a prompt is a {type(prompt).__name__}; expected a text")
    return images, prompts


def reply(found: dict[str, Any]) -> bytes:
    """What flow_grpo (`outputs`) and verl-omni (`scores`) read."""
    return pickle.dumps(found | {"outputs": found["rewards"], "scores": found["rewards"]})


def _no_data(why: str) -> InputError:
    return InputError(
        f"not a pickle of plain data ({why}); expected a dict of images (a list of encoded bytes) and prompts (texts)"
    )


def _listed(value: Any, what: str) -> list[Any]:
    if isinstance(value, _Array) and value.values is not None:
        return value.values
    if isinstance(value, list | tuple):
        return list(value)
    raise InputError(f"{what} of the pickle are no list; expected a list or a numpy array of bytes or texts")


class _Machine:
    """A stack, a memo and the opcodes of plain data."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.budget = 0  # bytes that calls may still copy: the memo can hand the same text to thousands of them

    def run(self, body: bytes | bytearray) -> Any:
        self.budget = 4 * len(body) + 2**16
        for count, (opcode, argument, _) in enumerate(pickletools.genops(body)):
            if count > _MOST_OPCODES:
                raise _Refused(f"more than {_MOST_OPCODES:,} opcodes")
            if opcode.name == "STOP":
                return self._pop()
            if opcode.name in _VALUES:
                self.stack.append(argument)
            elif opcode.name in _PUSHED:
                self.stack.append(_PUSHED[opcode.name]())
            elif (step := _STEPS.get(opcode.name)) is not None:
                step(self, argument)
            else:
                raise _Refused(f"the opcode {opcode.name}")
        raise _Refused("no end")

    def _pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise _Refused("a mark where a value was expected")
        return value

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise _Refused(f"no {kind.__name__} to add to")
        return self.stack[-1]

    def _since_mark(self) -> list[Any]:
        values: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def put(self, key: int | None) -> None:
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]

    def get(self, key: int) -> None:
        self.stack.append(self.memo[key])

    def tuple_of(self, count: int | None) -> None:
        values = self._since_mark() if count is None else [self._pop() for _ in range(count)][::-1]
        self.stack.append(tuple(values))

    def append(self, _: Any) -> None:
        value = self._pop()
        self._top(list).append(value)

    def appends(self, _: Any) -> None:
        values = self._since_mark()
        self._top(list).extend(values)

    def list_of(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    def set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def set_items(self, _: Any) -> None:
        self._set(self._since_mark())

    def dict_of(self, _: Any) -> None:
        values = self._since_mark()
        self.stack.append({})
        self._set(values)

    def _set(self, flat: list[Any]) -> None:
        target = self._top(dict)
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if not isinstance(key, str | int):  # a tuple's hash may take for ever
                raise _Refused(f"a key of kind {type(key).__name__}")
            target[key] = value

    def global_name(self, name: str) -> None:
        if name not in _GLOBALS:
            raise _Refused(name[:200])
        self.stack.append(_Global(_GLOBALS[name]))

    def stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        self.global_name(f"{module} {name}" if isinstance(module, str) and isinstance(name, str) else "no name")

    def reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise _Refused("a call")
        if function.name not in _CALLS:
            raise _Refused(f"a call of {function.name}")
        self._spend(arguments)
        self.stack.append(_CALLS[function.name](*arguments))

    def _spend(self, values: Any) -> None:
        self.budget -= sum(len(value) for value in values if isinstance(value, str | bytes | bytearray))
        if self.budget < 0:
            raise _Refused("a text that is used again and again")

    def build(self, _: Any) -> None:
        state = self._pop()
        target = self.stack[-1]
        if isinstance(target, _Dtype):
            self._build_dtype(target, state)
        elif isinstance(target, _Array) and target.values is None:
            self._spend(state)
            target.values = _array_values(*state)
        else:
            raise _Refused("a state")

    def _build_dtype(self, target: _Dtype, state: Any) -> None:
        """(version, order, no subarray, no names, no fields, size, alignment, flags): only the order is taken."""
        _, order, subarray, names, fields, *_ = state
        if order not in ("<", ">", "|", "=") or (subarray, names, fields) != (None, None, None):
            raise _Refused("a dtype of parts")
        target.order = order


def _dtype(code: Any, *_: Any) -> _Dtype:
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise _Refused(f"a numpy array of {shown(code)}")
    return _Dtype(code)


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if kind != _Global("ndarray") or shape != (0,):
        raise _Refused("an array that is not empty at first")
    return _Array()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("an encoding")
    return text.encode("latin1")


def _scalar(kind: Any, raw: Any) -> bytes | str:
    return _elements(kind, 1, raw)[0]


def _array_values(_: Any, shape: Any, kind: Any, fortran: Any, raw: Any) -> list[Any]:
    if not isinstance(shape, tuple) or len(shape) != 1 or type(shape[0]) is not int or shape[0] < 0:
        raise _Refused("an array of more than one axis")
    return _elements(kind, shape[0], raw)


def _frombuffer(raw: Any, kind: Any, shape: Any, _: Any) -> _Array:
    return _Array(_array_values(1, shape, kind, False, raw))


def _elements(kind: Any, count: int, raw: Any) -> list[Any]:
    """The values of an array whose bytes are all there: no length is believed that the bytes do not show."""
    if not isinstance(kind, _Dtype):
        raise _Refused("an array of no kind")
    if kind.code[0] == "O":
        if not isinstance(raw, list) or len(raw) != count:
            raise _Refused("an array of objects that is no list of them")
        return raw
    size = int(kind.code[1:]) * (4 if kind.code[0] == "U" else 1)
    if not isinstance(raw, bytes | bytearray) or not size or len(raw) != count * size:
        raise _Refused("an array whose length is not that of its bytes")
    if count > _MOST_ELEMENTS:
        raise _Refused(f"an array of more than {_MOST_ELEMENTS:,} elements")
    parts = [bytes(raw[start : start + size]) for start in range(0, len(raw), size)]
    if kind.code[0] == "S":
        return [part.rstrip(b"\0") for part in parts]
    encoding = "utf-32-be" if kind.order == ">" else "utf-32-le"
    return [part.decode(encoding).rstrip("\0") for part in parts]


_CALLS: dict[str, Callable[..., Any]] = {
    "_reconstruct": _reconstruct,
    "scalar": _scalar,
    "dtype": _dtype,
    "encode": _encode,
    "_frombuffer": _frombuffer,
}
_VALUES = {
    *(
        "UNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
        "SHORT_BINBYTES",
        "BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    ),
    *("INT", "BININT", "BININT1", "BININT2", "LONG1", "FLOAT", "BINFLOAT"),
}
_PUSHED: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "TUPLE": lambda machine, _: machine.tuple_of(None),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "LIST": _Machine.list_of,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "DICT": _Machine.dict_of,
    "GLOBAL": _Machine.global_name,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
