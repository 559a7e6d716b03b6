"""What is changed in a mutant: cosmic-ray's operators, one replacement for each, and our own for what it leaves out.

cosmic-ray replaces arithmetic, comparisons, booleans, numbers, decorators and loops. Ours change what tensor code gets wrong: a
forgotten `.detach()`, a sign, two arguments in the wrong order, a keyword that is not passed on, a statement left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import parso
from cosmic_ray.exceptions import CosmicRayTestingException
from cosmic_ray.operators import (
    binary_operator_replacement,
    boolean_replacer,
    break_continue,
    comparison_operator_replacement,
    number_replacer,
    remove_decorator,
    unary_operator_replacement,
    zero_iteration_for_loop,
)
from cosmic_ray.operators.operator import Operator

CHOSEN = {  # of cosmic-ray's replacements of one operator by another
    binary_operator_replacement: {
        "Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Mul", "Pow_Mul", "BitOr_BitAnd", "BitAnd_BitOr",
    },
    comparison_operator_replacement: {
        "Lt_LtE", "Lt_Gt", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_Lt", "GtE_Gt", "GtE_Lt",
        "Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is",
    },
    unary_operator_replacement: {"Delete_USub", "Delete_Not", "Delete_Invert"},
}  # fmt: skip


class ChangeNumber(number_replacer.NumberReplacer):
    """cosmic-ray's, one more and one less; behind a minus sign, which has a mutant of its own, only one more."""

    def mutation_positions(self, node):
        places = list(super().mutation_positions(node))
        return places[:1] if places and node.parent.type == "factor" else places


class _Ours(Operator):
    """One of ours says which nodes it changes (`_choices`, one for every possible change) and how (`mutate`)."""

    def __init__(self, modules: frozenset[str]) -> None:
        self.modules = modules | {
            "self",
            "cls",
        }  # names that have no value of their own: `np.abs(x)` is no method of `np`

    def _of_module(self, node) -> bool:
        return getattr(node.children[0], "value", "") in self.modules

    def _choices(self, node) -> list:
        raise NotImplementedError

    def mutation_positions(self, node) -> Iterator[tuple]:
        for choice in self._choices(node):
            place = choice[-1] if isinstance(choice, tuple) else choice
            yield place.start_pos, place.end_pos

    @classmethod
    def examples(cls):
        return ()


def _replaced(node, old, code: str):
    """`node` with its child `old` as other code."""
    new = parso.parse(code).children[0]
    new.get_first_leaf().prefix = old.get_first_leaf().prefix
    node.children[node.children.index(old)] = new
    new.parent = node
    return node


def _is_call(node) -> bool:
    return node.type == "trailer" and node.children[0].value == "("


def _arguments(trailer) -> list:
    inside = trailer.children[1:-1]
    items = inside[0].children if inside and inside[0].type == "arglist" else inside
    return [item for item in items if item.type != "operator" or item.value != ","]


def _positional(trailer) -> list:
    return [item for item in _arguments(trailer) if item.type != "argument"]


class DropMethodCall(_Ours):
    """`x.detach()` becomes `x`."""

    def _choices(self, node):
        if node.type != "atom_expr":
            return []
        first = 2 if self._of_module(node) else 1
        pairs = zip(node.children[first:], node.children[first + 1 :], strict=False)
        return [(call, dot) for dot, call in pairs if dot.children[0].value == "." and _is_call(call)]

    def mutate(self, node, index):
        call, dot = self._choices(node)[index]
        node.children = [child for child in node.children if child is not call and child is not dot]
        return node


class ReplaceException(_Ours):
    """`except KeyError` becomes `except` of a name that nothing raises; cosmic-ray's own takes no `library.Error`."""

    def _choices(self, node):
        if node.type != "except_clause":
            return []
        kinds = node.children[1]
        if kinds.type == "atom":  # in parentheses
            kinds = kinds.children[1]
        return kinds.children[::2] if kinds.type == "testlist_comp" else [kinds]

    def mutate(self, node, index):
        kind = self._choices(node)[index]
        _replaced(kind.parent, kind, CosmicRayTestingException.__name__)
        return node


class UnwrapCall(_Ours):
    """`torch.exp(x)` becomes `(x)`."""

    def _choices(self, node):
        if node.type != "atom_expr":
            return []
        functions = node.children[1:3] if self._of_module(node) else node.children[1:2]
        return [
            child
            for child in functions
            if _is_call(child)
            and len(_arguments(child)) == len(_positional(child)) == 1
            and _positional(child)[0].type not in ("number", "factor", "string")
        ]

    def mutate(self, node, index):
        call = self._choices(node)[index]
        prefix = node.get_first_leaf().prefix
        node.children = node.children[node.children.index(call) :]
        node.get_first_leaf().prefix = prefix
        return node


class SwapArguments(_Ours):
    """`f(a, b)` becomes `f(b, a)`, for every two neighbours."""

    def _choices(self, node):
        if not (node.type == "trailer" and _is_call(node)):
            return []
        given = _positional(node)
        return [(a, b) for a, b in pairwise(given) if a.get_code(False) != b.get_code(False)]

    def mutate(self, node, index):
        a, b = self._choices(node)[index]
        parent, code_a, code_b = a.parent, a.get_code(False), b.get_code(False)
        _replaced(parent, a, code_b)
        _replaced(parent, b, code_a)
        return node


class DropKeyword(_Ours):
    """`f(x, dim=-1)` becomes `f(x)`."""

    def _choices(self, node):
        if not (node.type == "trailer" and _is_call(node)):
            return []
        return [
            item
            for item in _arguments(node)
            if item.type == "argument" and getattr(item.children[1], "value", "") == "="
        ]

    def mutate(self, node, index):
        item = self._choices(node)[index]
        siblings = item.parent.children
        at = siblings.index(item)
        end = at + 2 if item.parent.type == "arglist" else at + 1  # with the comma behind it
        del siblings[at:end]
        return node


class Negate(_Ours):
    """`x = y`, `return y` and `f(x=y)` become those of `-(y)`."""

    NEVER = (
        "string",
        "strings",
        "lambdef",
        "keyword",
        "not_test",
        "or_test",
        "and_test",
        "fstring",
        "number",
        "factor",
    )

    def _choices(self, node):
        if node.type == "return_stmt":
            value = node.children[1]
        elif (node.type == "argument" and len(node.children) == 3) or node.type == "expr_stmt":
            value = node.children[-1]
        else:
            return []
        literal = value.type == "atom" and value.children[0].value in "[{"
        return (
            [] if literal or value.type in self.NEVER or value.type in ("annassign", "testlist_star_expr") else [value]
        )

    def mutate(self, node, index):
        value = self._choices(node)[index]
        return _replaced(node, value, f"-({value.get_code(False)})")


class ChangeString(_Ours):
    """`"mean"` becomes `"XXmean"`."""

    def _choices(self, node):
        return [node] if node.type == "string" else []

    def mutate(self, node, index):
        at = node.value.index(node.value[-1]) + 1
        node.value = node.value[:at] + "XX" + node.value[at:]
        return node


class ChangeAugmented(_Ours):
    """`x += y` becomes `x -= y`."""

    OTHER = {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*=", "|=": "&=", "&=": "|="}

    def _choices(self, node):
        return [node] if node.type == "operator" and node.value in self.OTHER else []

    def mutate(self, node, index):
        node.value = self.OTHER[node.value]
        return node


class InvertMembership(_Ours):
    """`x in y` becomes `x not in y`, and the other way round."""

    def _choices(self, node):
        if node.type != "comparison":
            return []
        return [child for child in node.children[1::2] if child.get_code(False).split() in (["in"], ["not", "in"])]

    def mutate(self, node, index):
        found = self._choices(node)[index]
        code = " in " if found.type == "comp_op" else " not in "
        node.children[node.children.index(found)] = parso.python.tree.Operator(code, found.start_pos)
        return node


class DeleteStatement(_Ours):
    """A call for its effect, or an assignment to an attribute or an element, becomes `pass`."""

    def _choices(self, node):
        if node.type != "simple_stmt":
            return []
        statement = node.children[0]
        effect = statement.type == "atom_expr" and _is_call(statement.children[-1])
        stored = statement.type == "expr_stmt" and (
            statement.children[0].type == "atom_expr"
            or getattr(statement.children[1], "value", "") in ChangeAugmented.OTHER
        )
        return [statement] if effect or stored else []

    def mutate(self, node, index):
        return _replaced(node, self._choices(node)[index], "pass")


def operators(modules: frozenset[str]) -> dict[str, Operator]:
    """All of them by name; `modules` are the names that the file imports."""
    classes = [
        *(
            each
            for module, chosen in CHOSEN.items()
            for each in module.operators()
            if each.__name__.partition("Operator_")[2] in chosen
        ),
        boolean_replacer.AddNot,
        boolean_replacer.ReplaceTrueWithFalse,
        boolean_replacer.ReplaceFalseWithTrue,
        boolean_replacer.ReplaceAndWithOr,
        boolean_replacer.ReplaceOrWithAnd,
        break_continue.ReplaceBreakWithContinue,
        break_continue.ReplaceContinueWithBreak,
        ChangeNumber,
        remove_decorator.RemoveDecorator,
        zero_iteration_for_loop.ZeroIterationForLoop,
    ]
    return {each.__name__: each() for each in classes} | {
        each.__name__: each(modules) for each in _Ours.__subclasses__()
    }
