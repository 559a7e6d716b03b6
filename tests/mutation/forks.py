"""One mutant, one fork of the session that has imported and collected everything."""

from __future__ import annotations

import ast
import gc
import importlib.abc
import importlib.util
import json
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from contextlib import suppress
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
        self._entered: dict[str, set[str]] = {}
        gc.unfreeze()
        functions = [each for each in gc.get_objects() if isinstance(each, FunctionType)]
        self._functions = [each for each in functions if each.__code__.co_filename == str(self.path)]
        gc.freeze()  # or every fork would look through all that was imported
        source = self.path.read_text()
        for again in (False, True):
            started = os.times()
            killer = self._fork(source, again, self.items, limit=600, notes=not again)
            if killer is not None:
                raise TestsFail(f"{module}: {killer} fails without a mutant; see {self.log}")
            spent = os.times()
            # Processor seconds, not seconds of a clock that others use too; a mutant may be slower, but not for ever.
            self._limit = int(10 + 5 * (spent.children_user - started.children_user))
        self._bodies = _bodies(source)

    def outcome(self, mutant: Mutant) -> tuple[str, str, float]:
        """("killed" or "survived", the test that failed first, seconds)"""
        started = time.monotonic()
        name = next((name for first, last, name in self._bodies if first <= mutant.line <= last), None)
        items = [item for item in self.items if name is None or name in self._entered[item.nodeid]]
        killer = self._fork(mutant.code, name is None, items, self._limit) if items else None
        if killer in self._seconds:
            self._kills[killer] += 1
        return "survived" if killer is None else "killed", killer or "", time.monotonic() - started

    def _fork(self, code: str, again: bool, items: list[pytest.Item], limit: int, notes: bool = False) -> str | None:
        """What failed first, or None."""
        items.sort(key=lambda item: (-self._kills[item.nodeid], self._seconds.get(item.nodeid, 0)))
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            _become_child(self.log, limit)
            try:
                status = (self._reimport if again else self._swap)(code, items, write, notes)
            except BaseException as error:  # a mutant may raise anything; whatever ends it has noticed it
                os.write(write, f"failed {type(error).__name__}\n".encode())
                status = 1
            os._exit(status)
        os.close(write)
        with os.fdopen(read) as stream:
            lines = [line.strip().split(" ", 1) for line in _until_end(stream, child, 10 * limit)]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if notes:
            notes_of = [json.loads(text) for kind, text in lines if kind == "noted"]
            for name in [text for kind, text in lines if kind == "imported"]:
                with suppress(ImportError):  # an alias of another module has no file
                    importlib.import_module(name)  # or every fork would import it again
            self._seconds = {name: seconds for name, seconds, _ in notes_of}
            self._entered = {name: set(functions) for name, _, functions in notes_of}
        failed = [text for kind, text in lines if kind == "failed"]
        return failed[0] if failed else (None if status == 0 else f"exit status {status}")

    def _swap(self, code: str, items: list[pytest.Item], write: int, notes: bool) -> int:
        """The functions that are there already, wherever they were imported to, get the mutant's code."""
        assert self._functions, "the tests import the module"
        codes = _codes(compile(code, str(self.path), "exec"))
        for function in self._functions:
            function.__code__ = codes[function.__code__.co_qualname]
        session = items[0].session
        before = set(sys.modules)
        calls = _Calls(str(self.path), session.config) if notes else None
        seconds = {}
        for item, following in zip(items, [*items[1:], None], strict=True):
            started = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                os.write(write, f"failed {item.nodeid}\n".encode())
                return 1
            seconds[item.nodeid] = time.process_time() - started
        if calls is not None:
            for name, spent in seconds.items():
                line = json.dumps([name, round(spent, 3), sorted(calls.by_test[name] | calls.of_fixtures)])
                os.write(write, f"noted {line}\n".encode())
            for name, module in sys.modules.items():
                if name not in before and "site-packages" in (getattr(module, "__file__", None) or ""):
                    os.write(write, f"imported {name}\n".encode())
        return 0

    def _reimport(self, code: str, items: list[pytest.Item], write: int, notes: bool) -> int:
        """The package and the tests are imported again, in a session of their own."""
        package, tests = self.name.partition(".")[0] + ".", str(self.root / "tests")
        for name, module in list(sys.modules.items()):
            if f"{name}.".startswith((package, "tests.")) or str(getattr(module, "__file__", None)).startswith(tests):
                del sys.modules[name]
        sys.meta_path.insert(0, _Finder(self.name, self.path, code))
        nodes = [str(self.root / item.nodeid) for item in items]
        config = items[0].config
        arguments = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--rootdir={self.root}",
            f"--basetemp={config.option.basetemp}",
        ]
        return int(pytest.main([*nodes, *arguments], plugins=[_FirstFailure(write)]))


class _Calls:
    """Which of a file's functions every test enters. What a fixture enters counts for all tests: they may share it."""

    def __init__(self, path: str, config: pytest.Config) -> None:
        self.path = path
        self.of_fixtures: set[str] = set()
        self.by_test: dict[str, set[str]] = defaultdict(set)
        self._now = self.of_fixtures
        config.pluginmanager.register(self)
        threading.settrace(self._call)
        sys.settrace(self._call)

    def _call(self, frame, event, argument) -> None:
        if frame.f_code.co_filename == self.path:
            self._now.add(frame.f_code.co_qualname)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        self._now = self.of_fixtures

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        self._now = self.by_test[item.nodeid]


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


def _bodies(source: str) -> list[tuple[int, int, str]]:
    """First and last line of the body of every function and method, and its qualified name; none of those inside another."""
    found = []
    for node in ast.parse(source).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        found += [
            (each.body[0].lineno, each.end_lineno or 0, prefix + each.name)
            for each in members
            if isinstance(each, ast.FunctionDef)
        ]
    return found
