"""The one place where exceptions become words: how every command ends.

In nothing; in one line ``error: ...`` with status 2, for what its reader can put right (input, params, a damaged file,
a full disk); or in one line that names the file with the traceback, with status 70, for what nobody foresaw. Tracebacks
are shown too where the environment says so (:data:`DEBUG`, or ``vit-registers --debug``).
"""

import os
import re
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from vit_registers.core.errors import InputError, of_the_machine, one_line, reason

DEBUG = "VIT_REGISTERS_DEBUG"  # of the environment: tracebacks are shown where it is set, and not to 0
REFUSED = 2
UNFORESEEN = 70  # sysexits.h: an error of the program itself
UNEXPECTED = "nobody foresaw this"  # in the line of such an error
KEPT = Path("logs", "unforeseen")  # tracebacks of such
RESUMES = "run the same command again: what is whole is kept"


class Terminated(BaseException):
    """SIGTERM reached this process."""


def ended(command: Callable[[], object]) -> int:
    """Run ``command``; its exit status, after what went wrong was said on stderr."""
    try:
        with _terminable():
            command()
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk behind it is said here, and not at the interpreter's own end
        return 0
    except SystemExit as end:
        if isinstance(end.code, str):
            _say(end.code)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:
        _forget_stdout()  # whoever read it has seen enough
        return 0
    except BaseException as error:
        line, status = _words(error)
        if os.environ.get(DEBUG, "0") not in ("", "0"):
            _say("".join(traceback.format_exception(error)).rstrip())
        _say(f"error: {one_line(line)}")
        if isinstance(error, OSError):
            _forget_stdout()
        return status


def _words(error: BaseException) -> tuple[str, int]:
    """What is said of an exception, and the exit status."""
    if isinstance(error, InputError):
        return str(error), REFUSED
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted; {RESUMES}", 128 + signal.SIGINT
    if isinstance(error, Terminated):
        return f"ended by SIGTERM; {RESUMES}", 128 + signal.SIGTERM
    said = of_the_machine(error)
    if said is not None:
        return said, REFUSED
    place = traceback.extract_tb(error.__traceback__)[-1:] or [traceback.FrameSummary("?", 0, "?")]
    where = f"{Path(place[0].filename).name}:{place[0].lineno}"
    return (
        f"{type(error).__name__} in {where}: {reason(error)}; {UNEXPECTED}: {_kept(error)}; please report it",
        UNFORESEEN,
    )


def _kept(error: BaseException) -> str:
    """Write the traceback to a file; in words, where it is."""
    called = [Path(sys.argv[0]).name, *sys.argv[1:]]
    name = re.sub(r"[^\w.-]+", "-", " ".join(called)).strip("-.")[:100] + ".log"
    content = " ".join(called) + "\n" + "".join(traceback.format_exception(error))
    for folder in (KEPT, Path(tempfile.gettempdir())):
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8", errors="backslashreplace")
            return f"the traceback is in {folder / name}"
    return f"{DEBUG}=1 shows the traceback"


def _say(line: str) -> None:
    if sys.stdout is not None:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


def _forget_stdout() -> None:
    """Let the interpreter's last flush go nowhere: it would fail, and say so in lines of its own."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _terminable() -> Iterator[None]:
    """Within, SIGTERM is an exception, so that temporary files go and it can be said; unless somebody handles it."""
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends it at once
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
