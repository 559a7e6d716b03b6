"""Every way out of the program: an exit code, and at most one message on stderr; never a traceback for what a user can correct.

0 done, 1 the reader of the output went away (or `doctor` found a wrong kernel, or `audit` a threshold exceeded), 2 something is
wrong with the input or the machine, 75 a roll-out hung, 130 interrupted, 143 stopped by SIGTERM with everything saved.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from zreward.common.errors import InputError
from zreward.common.termination import EXIT_CODE as TERMINATED
from zreward.common.termination import Terminated

INTERRUPTED = 130
EXTRAS = {
    "matplotlib": "report",
    "datasets": "datasets",
    "ray": "ray",
    "diffusers": "generation",
    "bitsandbytes": "quantized",
    "fastapi": "serve",
    "uvicorn": "serve",
    "httpx": "serve",
    "tenacity": "serve",
    "sqlalchemy": "studio",
    "alembic": "studio",
    "argon2": "studio",
    "itsdangerous": "studio",
    "python_multipart": "studio",
    "krippendorff": "studio",
    "imagehash": "overlap",
}
"""Module -> the extra that brings it."""
SMALLER = {
    "train": "a smaller optimizer.batch_size (with more optimizer.gradient_accumulation)",
    "optimize": "a smaller optimizer.batch_size (with more optimizer.gradient_accumulation)",
    "serve": "a smaller --max-batch",
}
"""What helps when a command runs out of memory; --batch-size for all others."""


def prepare_streams() -> None:
    """Characters that an output cannot show are written as escapes; an output that was closed takes everything."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the program
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if not os.environ.get("TERMINAL_WIDTH", "1").isdecimal():  # the command line's library takes it for a number
        del os.environ["TERMINAL_WIDTH"]


def exit_code(command: Callable[[], object], arguments: list[str]) -> int:
    """Run `command` to its end and until all of its output is written."""
    try:
        code = _finished(command)
        sys.stdout.flush()
        return code
    except (InputError, FloatingPointError) as error:
        return _say(str(error))
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except Terminated as stop:
        _say(str(stop))
        return TERMINATED
    except BrokenPipeError:
        _drop_output()
        return 1
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        extra = "studio" if arguments[:1] == ["studio"] else EXTRAS[error.name]
        return _say(f"{error.name} is missing; pip install 'zreward[{extra}]'")
    except OSError as error:
        _drop_output()
        return _say(f"{error.filename}: {error.strerror}" if error.filename else _reason(error))
    except UnicodeError as error:
        return _say(_not_text(error))
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        remedy = SMALLER.get(arguments[0] if arguments else "", "a smaller --batch-size")
        return _say(f"out of memory; try {remedy}")


def _finished(command: Callable[[], object]) -> int:
    try:
        command()
    except SystemExit as stop:  # the command line's library ends every command in this way
        if stop.code == INTERRUPTED:
            raise KeyboardInterrupt from None
        if isinstance(stop.code, str):
            return _say(stop.code)
        return stop.code or 0
    return 0


def _say(message: str) -> int:
    with suppress(OSError):  # where nobody reads it, the exit code is all that is left
        print(f"zreward: {message}", file=sys.stderr, flush=True)
    return 2


def _drop_output() -> None:
    """Standard output leads nowhere from now on, so that Python's own last flush cannot fail again."""
    with suppress(OSError, ValueError):  # in tests it is no file at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reason(error: OSError) -> str:
    return f"cannot continue: {error.strerror or error}"


def _not_text(error: UnicodeError) -> str:
    if isinstance(error, UnicodeEncodeError):
        broken = ascii(error.object[max(0, error.start - 20) : error.end + 20])
        return f"{broken} holds bytes that are no Unicode text; write it in UTF-8, or rename the file"
    return f"expected text in UTF-8: {error}"


def _out_of_memory(error: Any) -> bool:
    torch = sys.modules.get("torch")
    on_device = torch is not None and isinstance(error, torch.OutOfMemoryError)
    return isinstance(error, MemoryError) or on_device or "DefaultCPUAllocator: can't allocate memory" in str(error)
