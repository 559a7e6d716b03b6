"""A checkpoint's chat template, run in Jinja's sandbox with limits: it can neither loop for ever nor fill memory.

Every turn of a loop, call, filter and operation costs a step, and so does every letter or item that it makes. The names,
filters and options are those of transformers' `apply_chat_template`; what no chat template needs (formats, recursive loops,
powers) is refused.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sized
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError, nodes, pass_context
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.visitor import NodeTransformer

from zreward.common.errors import InputError, shorten

_STEPS, _STEPS_PER_LETTER = (
    500_000,
    50,
)  # of a rendering; a plain conversation takes some hundred, and one or two a letter
_CALL = 20  # steps
_LARGEST = 2_000_000  # letters or items that one operation may make
_LARGEST_NUMBER = 10_000  # that a method or filter may be given: a width, a count
_MOST_TEMPLATE = 200_000  # letters of a template
_METHODS = {
    *(
        "strip",
        "lstrip",
        "rstrip",
        "split",
        "rsplit",
        "splitlines",
        "partition",
        "rpartition",
        "startswith",
        "endswith",
    ),
    *("lower", "upper", "title", "capitalize", "replace", "find", "rfind", "index", "count", "isdigit", "isspace"),
    *("items", "keys", "values", "get", "isalpha", "isalnum", "removeprefix", "removesuffix", "join"),
}
_FILTERS = {
    *(
        "abs",
        "capitalize",
        "count",
        "default",
        "d",
        "dictsort",
        "e",
        "escape",
        "first",
        "float",
        "int",
        "items",
        "join",
        "last",
    ),
    *(
        "length",
        "list",
        "lower",
        "map",
        "max",
        "min",
        "reject",
        "rejectattr",
        "replace",
        "reverse",
        "round",
        "safe",
        "select",
    ),
    *("selectattr", "sort", "string", "sum", "title", "trim", "unique", "upper", "indent"),
}


ANSWER_START = "answer_start"
"""A variable of the templates that `zreward export` writes: what the model has said already when it answers."""


class TooCostly(TemplateError):
    """The template does more than a chat template has to."""


def render_chat(template: str, messages: list[dict], **values: Any) -> str:
    """The text that a chat template makes of messages. InputError for a broken template, and for one that costs too much."""
    letters = sum(len(part.get("text", "")) for message in messages for part in message["content"])
    try:
        compiled, environment = _compiled(template)
        environment.budget.left = _STEPS + _STEPS_PER_LETTER * letters
        return "".join(compiled.generate(messages=messages, **values))
    except TooCostly as error:
        raise InputError(
            f"the chat template loops or grows without end ({error}); do not trust this checkpoint"
        ) from None
    except (
        TemplateError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as error:
        reason = shorten(str(error).strip() or type(error).__name__, 200)
        raise InputError(f"the chat template cannot be used ({type(error).__name__}: {reason})") from error


class _Budget(threading.local):
    left = 0


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.budget = _Budget()
        namespace, range_ = self.globals["namespace"], self.globals["range"]
        self.globals = {
            "namespace": namespace,
            "range": range_,
            "dict": dict,
            "raise_exception": _raise,
            "strftime_now": _now,
        }
        self.filters = {name: self._priced(name, self.filters[name]) for name in _FILTERS}
        self.filters |= {"tojson": self._priced("tojson", _to_json)}
        # Given the context so that the compiler does not work them out beforehand.
        self.filters["_turns"] = pass_context(lambda _, items: self.turns(items))
        self.filters["_joined"] = pass_context(
            lambda _, parts: self.paid("".join(str(self.paid(part)) for part in parts))
        )
        self.filters["_paid"] = pass_context(lambda _, value: self.paid(value))

    def pay(self, steps: int) -> None:
        self.budget.left -= steps
        if self.budget.left < 0:
            raise TooCostly("more steps than any conversation needs")

    def paid(self, value: Any) -> Any:
        """A value whose size was paid for."""
        size = value.bit_length() if isinstance(value, int) else len(value) if isinstance(value, Sized) else 0
        if size > _LARGEST:
            raise TooCostly(f"a text or list of {size:,}")
        self.pay(1 + size)
        return value

    def turns(self, items: Any) -> Any:
        """What a loop goes through; nothing is said of what cannot be gone through, Jinja does."""
        if not isinstance(items, Iterable):
            return items
        return _Turns(
            self, items if isinstance(items, Mapping | list | tuple | str | range) else list(self.counted(items))
        )

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.pay(1)
            yield item

    # The names are Jinja's, so that a template may give arguments of any other name.
    def call(__self, __context, __obj, *args, **kwargs):
        __self.pay(_CALL)
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if name in ("format", "format_map"):  # Jinja wraps them
            raise SecurityError(f"the method {name} is not for chat templates")
        if isinstance(owner, str | Mapping | list | tuple) and not isinstance(__obj, Macro):
            if name not in _METHODS:
                raise SecurityError(f"the method {name} is not for chat templates")
            _check_growth(name, owner, args)
        elif owner is not None and not isinstance(owner, LoopContext):
            raise SecurityError(f"the method {name} is not for chat templates")
        return __self.paid(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context, operator, left, right):
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise SecurityError(f"the operator {operator} is not for chat templates")
        if operator == "*":
            for sized, times in ((left, right), (right, left)):
                if isinstance(sized, Sized) and isinstance(times, int) and len(sized) * times > _LARGEST:
                    raise TooCostly(f"a text or list of {len(sized) * times:,}")
        return self.paid(super().call_binop(context, operator, left, right))

    def _priced(self, name: str, plain: Any) -> Any:
        mark = getattr(plain, "jinja_pass_arg", None)

        def priced(*args: Any, **kwargs: Any) -> Any:
            value, *rest = args[1:] if mark else args
            _check_growth(name, value, (*rest, *kwargs.values()))
            made = plain(*args, **kwargs)
            return list(self.counted(made)) if isinstance(made, Iterator) else self.paid(made)

        if mark:
            priced.jinja_pass_arg = mark  # type: ignore[attr-defined]
        return priced

    def _generate(self, source, name, filename, defer_init=False):
        return super()._generate(_Priced().visit(source), name, filename, defer_init)


class _Turns:
    """Items of a loop, each paid for when its turn comes; with the length that `loop.last` asks for."""

    def __init__(self, environment: _Environment, items: Any) -> None:
        self.environment, self.items = environment, items

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        return self.environment.counted(self.items)


class _Priced(NodeTransformer):
    """Puts the price of loops, output, joined, compared and cut texts into a template."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise SecurityError("recursive loops are not for chat templates")
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_turns")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "_joined")

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        plain = [nodes.Const(x.data, lineno=x.lineno) if isinstance(x, nodes.TemplateData) else x for x in node.nodes]
        node.nodes = [_filtered(part, "_paid") for part in plain]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _filtered(node.expr, "_paid")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_paid") if isinstance(node.arg, nodes.Slice) else node


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Generation(Extension):
    """transformers' {% generation %} block: what is in it, as it is."""

    tags = {"generation"}

    def parse(self, parser: Any) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _check_growth(name: str, value: Any, args: tuple) -> None:
    """TooCostly for an operation that would make a giant of small parts; it is not started."""
    number = next((arg for arg in args if isinstance(arg, int) and abs(arg) > _LARGEST_NUMBER), 0)
    if number:
        raise TooCostly(f"{name} with the number {number}")
    texts = [arg for arg in args if isinstance(arg, str)]
    size = 0
    if name == "replace" and isinstance(value, str) and len(args) >= 2:
        size = value.count(str(args[0])) * len(str(args[1]))
    elif name == "join":
        between, items = (
            (texts[0] if texts else "", value) if not isinstance(value, str) else (value, args[0] if args else ())
        )
        size = len(between) * (len(items) if isinstance(items, Sized) else 0)
    elif name == "indent" and isinstance(value, str):
        width = max([len(text) for text in texts] + [arg for arg in args if isinstance(arg, int)] + [4])
        size = value.count("\n") * width
    elif name == "tojson":
        size = 100 * max(
            [0] + [arg if isinstance(arg, int) else len(arg) for arg in args if isinstance(arg, int | str)]
        )
    if size > _LARGEST:
        raise TooCostly(f"{name} makes a text of {size:,}")


def _raise(message: str) -> None:
    raise TemplateError(message)


def _to_json(value: Any, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _now(form: str) -> str:
    return datetime.now().strftime(str(form)[:100])


@lru_cache(maxsize=32)
def _compiled(template: str) -> tuple[Any, _Environment]:
    if len(template) > _MOST_TEMPLATE:
        raise TooCostly(f"{len(template):,} letters")
    environment = _Environment()
    return environment.from_string(template), environment
