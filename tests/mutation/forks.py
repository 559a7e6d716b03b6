"""One mutant, one fork of the session that has imported and collected everything."""

from __future__ import annotations

import ast
import gc
import importlib.abc
import importlib.util
import os
import resource
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import CodeType, FunctionType

import pytest
from mutants import Mutant


class TestsFail(Exception):
    """A module's tests fail without a mutant: they can judge none."""


class Forks:
    """Tries mutants of one module on its tests. Raises TestsFail where these fail without a mutant."""

    def __init__(self, root: Path, module: str, items: list[pytest.Item], folder: Path) -> None:
        self.root, self.path, self.items, self.log = root, root / module, items, folder / "last.log"
        self.name = ".".join(Path(module).with_suffix("").parts)
        self._kills: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}
        gc.unfreeze()
        functions = [each for each in gc.get_objects() if isinstance(each, FunctionType)]
        self._functions = [each for each in functions if each.__code__.co_filename == str(self.path)]
        gc.freeze()  # or every fork would look through all that was imported
        source = self.path.read_text()
        for again in (False, True):
            started = os.times()
            killer = self._fork(source, again, limit=600, notes=not again)
            if killer is not None:
                raise TestsFail(f"{module}: {killer} fails without a mutant; see {self.log}")
            spent = os.times()
            # Processor seconds, not seconds of a clock that others use too; a mutant may be slower, but not for ever.
            self._limit = int(10 + 5 * (spent.children_user - started.children_user))
        self._bodies = _bodies(source)

    def outcome(self, mutant: Mutant) -> tuple[str, str, float]:
        """("killed" or "survived", the test that failed first, seconds)"""
        started = time.monotonic()
        in_function = any(first <= mutant.line <= last for first, last in self._bodies)
        killer = self._fork(mutant.code, not in_function, self._limit)
        if killer in self._seconds:
            self._kills[killer] += 1
        return "survived" if killer is None else "killed", killer or "", time.monotonic() - started

    def _fork(self, code: str, again: bool, limit: int, notes: bool = False) -> str | None:
        """What failed first, or None."""
        self.items.sort(key=lambda item: (-self._kills[item.nodeid], self._seconds.get(item.nodeid, 0)))
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            _become_child(self.log, limit)
            try:
                status = self._reimport(code, write) if again else self._swap(code, write)
            except BaseException as error:  # a mutant may raise anything; whatever ends it has noticed it
                os.write(write, f"failed {type(error).__name__}\n".encode())
                status = 1
            os._exit(status)
        os.close(write)
        with os.fdopen(read) as stream:
            lines = [line.strip().split(" ", 1) for line in _until_end(stream, child, 10 * limit)]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if notes:
            self._seconds = {
                text.split(" ", 1)[1]: float(text.split(" ", 1)[0]) for kind, text in lines if kind == "took"
            }
        failed = [text for kind, text in lines if kind == "failed"]
        return failed[0] if failed else (None if status == 0 else f"exit status {status}")

    def _swap(self, code: str, write: int) -> int:
        """The functions that are there already, wherever they were imported to, get the mutant's code."""
        assert self._functions, "the tests import the module"
        codes = _codes(compile(code, str(self.path), "exec"))
        for function in self._functions:
            function.__code__ = codes[function.__code__.co_qualname]
        session = self.items[0].session
        for item, following in zip(self.items, [*self.items[1:], None], strict=True):
            started = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                os.write(write, f"failed {item.nodeid}\n".encode())
                return 1
            os.write(write, f"took {time.process_time() - started:.3f} {item.nodeid}\n".encode())
        return 0

    def _reimport(self, code: str, write: int) -> int:
        """The package and the tests are imported again, in a session of their own."""
        package, tests = self.name.partition(".")[0] + ".", str(self.root / "tests")
        for name, module in list(sys.modules.items()):
            if f"{name}.".startswith((package, "tests.")) or str(getattr(module, "__file__", None)).startswith(tests):
                del sys.modules[name]
        sys.meta_path.insert(0, _Finder(self.name, self.path, code))
        nodes = [str(self.root / item.nodeid) for item in self.items]
        config = self.items[0].config
        arguments = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--rootdir={self.root}",
            f"--basetemp={config.option.basetemp}",
        ]
        return int(pytest.main([*nodes, *arguments], plugins=[_FirstFailure(write)]))


class _FirstFailure:
    def __init__(self, write: int) -> None:
        self.write = write

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os.write(self.write, f"failed {report.nodeid}\n".encode())


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    def __init__(self, name: str, path: Path, code: str) -> None:
        self.name, self.path, self.code = name, path, code

    def find_spec(self, fullname, path=None, target=None):
        return (
            importlib.util.spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None
        )

    def get_source(self, fullname: str) -> str:
        return self.code


def _become_child(log: Path, limit: int) -> None:
    """A process group of its own, output to a file, a limit of processor time."""
    os.setsid()
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, 1)
    os.dup2(target, 2)
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit += int(used.ru_utime + used.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _until_end(stream, child: int, seconds: int):
    """Lines of the child; after that many seconds on the clock it is ended, with its own children."""

    def end(*_):
        os.killpg(child, signal.SIGKILL)

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield from stream
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _codes(code: CodeType) -> dict[str, CodeType]:
    """Every function's code by its qualified name."""
    found = {}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= {constant.co_qualname: constant, **_codes(constant)}
    return found


def _bodies(source: str) -> list[tuple[int, int]]:
    """First and last lines of the bodies of all functions."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return [(node.body[0].lineno, node.end_lineno) for node in functions]
