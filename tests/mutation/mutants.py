"""The mutants of one file: every place where an operator changes its code, without those that no test is meant to notice.

Left out by rule: docstrings, type annotations, imports, `raise` statements (their conditions are mutated, their texts are not),
messages of `assert`, `warn` and logging calls, `strict=` of `zip` (an assertion); and what is no other program, or none at all.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import pickle
from collections.abc import Iterator
from dataclasses import dataclass

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import MutationVisitor
from operators import operators

Place = tuple[int, int]  # line and column

_MESSAGES = {"warn", "debug", "info", "warning", "error", "exception", "log"}


@dataclass(frozen=True)
class Mutant:
    module: str  # its path from the root of the repository
    line: int
    operator: str
    code: str  # of the whole module
    part: str  # of the function or class that was changed, without comments
    before: str  # the lines that differ
    after: str

    @property
    def key(self) -> str:
        """What was changed and what it is part of: results hold while that function or class stays as it is."""
        return hashlib.sha256(f"{self.module}\0{self.part}".encode()).hexdigest()[:20]

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.operator}\n    - {self.before}\n    + {self.after}"


def mutants(module: str, source: str) -> list[Mutant]:
    """In the order of the lines, each different program once."""
    left_out, original = _left_out(source), ast.dump(ast.parse(source))
    tree = pickle.dumps(get_ast(source))  # operators change the tree that they are given; a copy is faster than parsing
    found: dict[str, Mutant] = {}
    for name, operator in operators().items():
        positions = [place for node in ast_nodes(pickle.loads(tree)) for place in operator.mutation_positions(node)]
        for occurrence, (start, end) in enumerate(positions):
            if any(first <= start and end <= last for first, last in left_out):
                continue
            code = MutationVisitor(occurrence, operator).walk(pickle.loads(tree)).get_code()
            try:
                tree_of_it = ast.parse(code)
            except SyntaxError:
                continue
            program = ast.dump(tree_of_it)
            if program != original and program not in found:
                part = ast.unparse(next(node for node in reversed(tree_of_it.body) if _first_line(node) <= start[0]))
                found[program] = Mutant(module, start[0], name, code, part, *_difference(source, code))
    return sorted(found.values(), key=lambda mutant: mutant.line)


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])


def _difference(source: str, code: str) -> tuple[str, str]:
    lines = list(difflib.ndiff(source.splitlines(), code.splitlines()))
    before, after = (
        " ".join(line[2:].strip() for line in lines if line.startswith(sign)).strip() for sign in ("- ", "+ ")
    )
    return before, after or "(nothing)"


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
