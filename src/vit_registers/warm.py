"""A process that imports torch and the rest once for all jobs of a run, and forks each job from itself.

Many jobs of a small study compute for a second or two, and import for up to five. So a run of Snakemake starts this
process (:func:`start`), and ``vit-registers`` hands its command to it where the environment names one. The job still
runs in a process of its own, with the folder, the environment and the streams of whoever called it; it ends when its
caller is killed, and its caller ends with its status. Without such a process ``vit-registers`` runs the command itself.
"""

import contextlib
import gc
import importlib
import json
import os
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from typing import Any, NoReturn

from vit_registers.core import ending

NAME = "VIT_REGISTERS_WARM"  # of the environment: where the process listens
LARGEST = 1 << 20  # bytes of a request: arguments and environment
STREAMS = (0, 1, 2)
# Read by libraries when they are imported; sums over several threads differ in the last bit (core/threads.py).
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "GOTO")}
ELSEWHERE = b"elsewhere"  # the answer to a caller of another environment
GRACE = 5.0  # seconds in which a job may take its temporary files away
KILLED = 128 + signal.SIGKILL  # what a shell says of a process that was killed


def main() -> None:
    """Entry point of ``vit-registers``: the same bytes by hand as in a run, whose jobs Snakemake gives one thread."""
    os.environ.update(ONE_THREAD)
    sys.exit(ending.ended(_command))


def _command() -> None:
    name = os.environ.get(NAME)
    status = _handed_over(name) if name else None
    if status is not None:
        sys.exit(status)
    from vit_registers import cli

    cli.main()


# The caller.


def _address(name: str) -> str:
    """A name of the kernel's own, outside the file system: nothing is left behind."""
    return f"\0{name}"


def _handed_over(name: str) -> int | None:
    """Exit status of this command in a process forked elsewhere; None where nobody would run it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        request = {"prefix": sys.prefix, "arguments": sys.argv, "folder": os.getcwd(), "environment": {**os.environ}}
        try:
            connection.connect(_address(name))
            socket.send_fds(connection, [json.dumps(request).encode()], STREAMS)
        except OSError:
            return None
        answer = connection.recv(LARGEST)
    if answer == ELSEWHERE:
        return None
    if not answer:
        print("error: the process of this job was killed; for want of memory?", file=sys.stderr)
        return KILLED
    return int(answer)


# The process that forks.


def start() -> subprocess.Popen[bytes] | None:
    """Start the process for this one and its children, which find it in the environment; None where it cannot be.

    It ends when this process does, whatever ends it: then the pipe to it is closed.
    """
    if sys.platform != "linux":  # elsewhere libraries of the system do not survive a fork, or sockets lack names
        return None
    name = f"vit-registers-{secrets.token_hex(8)}"  # that nobody else takes once the process is gone
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(_address(name))
        listener.listen(socket.SOMAXCONN)  # callers wait from now on
        command = [sys.executable, "-m", "vit_registers.warm", str(listener.fileno())]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        process = subprocess.Popen(command, env={**os.environ, **ONE_THREAD}, pass_fds=[listener.fileno()], **pipes)
    os.environ[NAME] = name
    return process


def serve(listener: socket.socket) -> NoReturn:
    """Fork a job for every caller, until whoever started this process ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the run, which ends this process when it ends
    lifeline = sys.stdin.fileno()
    while True:
        ready, _, _ = select.select([listener, lifeline], [], [])
        if lifeline in ready:
            os._exit(0)  # at the usual end, bindings of libraries complain of what gc.freeze kept
        connection, _ = listener.accept()
        with connection:
            request, streams = _received(connection)
            if request is None:
                continue
            with contextlib.suppress(Exception):  # the job meets the same error, and tells it where it is looked for
                _imported(request["arguments"])
            if os.fork() == 0:
                listener.close()
                _job(connection, request, streams)
            for stream in streams:
                os.close(stream)


def _received(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """What a caller wants and its streams; None for a caller that may not, or must not, be served here."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", peer)[1] != os.getuid():  # names of the kernel's own have no owner
        return None, []
    message, streams, _, _ = socket.recv_fds(connection, LARGEST, len(STREAMS))
    if not message:
        return None, []
    request: dict[str, Any] = json.loads(message)
    if request["prefix"] != sys.prefix:
        connection.send(ELSEWHERE)
        for stream in streams:
            os.close(stream)
        return None, []
    return request, streams


def _imported(arguments: list[str]) -> None:
    """Import what the command will need, for it and for those that follow."""
    from vit_registers import cli

    for module in cli.modules(arguments[1:]):
        importlib.import_module(module)
    gc.freeze()  # what is there already is not walked, and so not copied, by every job


# The job, in a process of its own.


def _job(connection: socket.socket, request: dict[str, Any], streams: list[int]) -> NoReturn:
    """Run the command as if its caller had run it, tell its exit status and end."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setpgid(0, 0)  # one group with what it starts itself
        for stream, own in zip(streams, STREAMS, strict=True):
            os.dup2(stream, own)
            os.close(stream)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = request["arguments"]
        threading.Thread(target=_end_with, args=[connection], daemon=True).start()
        status = _run()
    finally:
        with contextlib.suppress(OSError):
            connection.send(str(status).encode())
        os._exit(status)


def _run() -> int:
    """Exit status of the command, as the interpreter would have it."""
    from vit_registers import cli

    try:
        cli.main()
        return 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _end_with(connection: socket.socket) -> None:
    """End this process and those that it started when its caller is gone, which sends nothing more."""
    if not connection.recv(1):
        os.killpg(0, signal.SIGTERM)
        time.sleep(GRACE)
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
