"""The mutants of one file: every place where an operator changes its code, without those that no test is meant to notice.

Left out by rule: docstrings, type annotations, imports, `raise` statements (their conditions are mutated, their texts are not),
messages of `assert`, `warn` and logging calls, `strict=` of `zip` (an assertion); and what is no other program, or none at all.
"""

from __future__ import annotations

import ast
import hashlib
import pickle
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators.operator import Operator
from operators import operators

Place = tuple[int, int]  # line and column

_MESSAGES = {"warn", "debug", "info", "warning", "error", "exception", "log"}


@dataclass(frozen=True)
class Mutant:
    module: str  # its path from the root of the repository
    line: int
    operator: str
    code: str  # of the whole module
    part: str  # the function, method or statement that was changed, without comments
    before: str  # the lines that differ
    after: str

    @property
    def key(self) -> str:
        """What was changed and what it is part of: results hold while that function stays as it is."""
        return hashlib.sha256(f"{self.module}\0{self.part}".encode()).hexdigest()[:20]

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.operator}\n    - {self.before}\n    + {self.after}"


def mutants(module: str, source: str, chosen: Collection[int] | None = None) -> list[Mutant]:
    """In the order of the lines, each different program once; with `chosen` only those of these lines, which is faster."""
    tree, left_out, lines = ast.parse(source), _left_out(source), source.splitlines(keepends=True)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = frozenset(alias.asname or alias.name.partition(".")[0] for node in imports for alias in node.names)
    found = []
    for node in tree.body:  # one function or class after the other: parsing and copying a whole file takes long
        first, last = _first_line(node) - 1, node.end_lineno
        if chosen is not None and not any(first < line <= last for line in chosen):
            continue
        before, part, after = ("".join(lines[place]) for place in (slice(first), slice(first, last), slice(last, None)))
        for line, name, code in _changed(part, first, left_out, operators(names), chosen):
            changed = _changed_part(ast.parse(code).body[0], line - first)
            if changed == "pass":  # a whole statement is gone: which one?
                changed = f"without {ast.unparse(node)}"
            found.append(Mutant(module, line, name, before + code + after, changed, *_difference(part, code)))
    return sorted(found, key=lambda mutant: mutant.line)


def _changed(
    part: str,
    offset: int,
    left_out: list[tuple[Place, Place]],
    available: dict[str, Operator],
    chosen: Collection[int] | None,
) -> Iterator[tuple[int, str, str]]:
    """Line, operator and code of every change to a part of a file that begins after `offset` lines."""
    tree = pickle.dumps(get_ast(part))  # operators change the tree that they are given
    nodes, seen = list(ast_nodes(pickle.loads(tree))), {ast.dump(ast.parse(part))}
    for name, operator in available.items():
        positions = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, (start, end) in enumerate(positions):
            start, end = (start[0] + offset, start[1]), (end[0] + offset, end[1])
            if chosen is not None and start[0] not in chosen:
                continue
            if any(first <= start and end <= last for first, last in left_out):
                continue
            code = MutationVisitor(occurrence, operator).walk(pickle.loads(tree)).get_code()
            try:
                program = ast.dump(ast.parse(code))
            except SyntaxError:
                continue
            if program not in seen:
                seen.add(program)
                yield start[0], name, code


def _changed_part(node: ast.stmt, line: int) -> str:
    """Of a class the method or other member at this line, under the class's name; else all of it."""
    if isinstance(node, ast.ClassDef):
        for member in node.body:
            if _first_line(member) <= line <= member.end_lineno:
                return f"{node.name}\0{ast.unparse(member)}"
    return ast.unparse(node)


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])


def _difference(source: str, code: str) -> tuple[str, str]:
    """The lines that are not the same in both, each side joined into one."""
    old, new = source.splitlines(), code.splitlines()
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    return " ".join(line.strip() for line in old), " ".join(line.strip() for line in new).strip() or "(nothing)"


def _left_out(source: str) -> list[tuple[Place, Place]]:
    lines = source.splitlines()

    def column(line: int, offset: int) -> int:  # ast counts bytes, parso characters
        return len(lines[line - 1].encode()[:offset].decode())

    return [
        (
            (node.lineno, column(node.lineno, node.col_offset)),
            (node.end_lineno, column(node.end_lineno, node.end_col_offset)),
        )
        for node in _nodes_left_out(ast.parse(source))
    ]


def _nodes_left_out(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            case ast.Raise() | ast.Import() | ast.ImportFrom():
                yield node
            case ast.Expr(value=ast.Constant(value=str())):
                yield node
            case ast.Assert(msg=ast.expr() as message):
                yield message
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield node
            case ast.Call(func=ast.Attribute(attr=name)) if name in _MESSAGES:
                yield from [*node.args, *node.keywords]
            case ast.Call(func=ast.Name(id="cast")):
                yield node.args[0]
            case ast.keyword(arg="strict"):
                yield node
            case ast.AnnAssign():
                yield node.annotation
            case ast.arg(annotation=ast.expr() as annotation):
                yield annotation
            case ast.FunctionDef(returns=ast.expr() as returns):
                yield returns
