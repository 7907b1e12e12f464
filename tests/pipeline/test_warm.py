"""Jobs that a process of a run forks: they are what they would be by themselves, and nothing outlives its caller."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vit_registers import cli, warm
from vit_registers.pipeline.steps import steps

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux alone")
BIN = Path(sys.executable).parent
# A run that starts the process.
STARTED = """
import os, sys, time
from vit_registers import cli, warm

process = warm.start()
print(os.environ[warm.NAME], process.pid, flush=True)
time.sleep(600)
"""
# The process itself, whose jobs execute their first argument as Python.
SERVED = """
import os, signal, socket, sys, time
from vit_registers import cli, warm

cli.modules = lambda arguments: []
cli.main = lambda: exec(sys.argv[1])
warm.serve(socket.socket(fileno=int(sys.argv[1])))
"""


def call(name, *arguments, **options):
    """``vit-registers`` with arguments, in a run whose process listens at ``name``; by itself without one."""
    environment = {**os.environ, **options.pop("env", {}), warm.NAME: name}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([BIN / "vit-registers", *arguments], env=environment, **pipes, **options)


def result(process):
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def gone(pid):
    """Whether a process ends within a while."""
    for _ in range(1000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def run():
    """A run as Snakemake is one: its process, and the name and the id of the process that it started."""
    process = subprocess.Popen([sys.executable, "-c", STARTED], stdout=subprocess.PIPE, text=True)
    name, pid = process.stdout.readline().split()
    yield process, name, int(pid)
    process.kill()
    process.communicate()


@pytest.fixture
def doing():
    """Name of a process whose jobs execute their first argument as Python."""
    name = f"vit-registers-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        command = [sys.executable, "-c", SERVED, str(listener.fileno())]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])
    yield name
    process.communicate()


@pytest.mark.slow
def test_commands_say_and_end_as_they_do_by_themselves(run, tmp_path):
    _, name, _ = run
    for arguments in (["--help"], ["table", "nope"], ["fetch"], ["schema", "schema.json"]):
        folders = [tmp_path / who / arguments[0] for who in ("forked", "alone")]
        for folder in folders:
            folder.mkdir(parents=True)
        forked = result(call(name, *arguments, cwd=folders[0]))
        assert forked == result(call("", *arguments, cwd=folders[1]))
        written = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
        assert written[0] == written[1]
    assert written[0]


def test_a_job_has_the_environment_of_its_caller_and_nothing_of_the_job_before(doing):
    shown = "import os; print(os.environ.get('OF_A_CALLER')); os.environ['LEFT'] = 'behind'"
    assert result(call(doing, shown, env={"OF_A_CALLER": "yes"})) == (0, "yes\n", "")
    assert result(call(doing, "import os; print(os.environ.get('LEFT'))")) == (0, "None\n", "")


@pytest.mark.slow
def test_libraries_compute_on_one_thread_whatever_the_caller_has(doing):
    asked = {"OMP_NUM_THREADS": "7"}
    assert result(call(doing, "print(os.environ['OMP_NUM_THREADS'])", env=asked)) == (0, "1\n", "")


@pytest.mark.slow
def test_every_way_to_end_reaches_the_caller(doing):
    assert result(call(doing, "sys.exit(3)"))[0] == 3
    assert result(call(doing, "sys.exit('why')")) == (1, "", "why\n")
    status, _, errors = result(call(doing, "1 / 0"))
    assert status == 1
    assert errors.rstrip().endswith("ZeroDivisionError: division by zero")
    status, _, errors = result(call(doing, "os.kill(os.getpid(), signal.SIGKILL)"))
    assert status == 137
    assert errors == "error: the process of this job was killed; for want of memory?\n"


def test_a_job_and_what_it_started_end_when_the_caller_is_killed(doing):
    for fatal in (signal.SIGTERM, signal.SIGKILL):
        caller = call(
            doing,
            "import subprocess as s; print(os.getpid(), s.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)",
        )
        pids = [int(pid) for pid in caller.stdout.readline().split()]
        caller.send_signal(fatal)
        caller.communicate()
        assert all(gone(pid) for pid in pids)


@pytest.mark.slow
def test_the_process_ends_with_the_run_that_started_it(run):
    process, name, pid = run
    process.kill()
    process.wait()
    assert gone(pid)
    status, output, _ = result(call(name, "--help"))  # nobody listens: the command runs by itself
    assert status == 0
    assert "detect" in output


def test_an_interrupt_is_for_the_run_and_not_for_the_process(run):
    _, name, pid = run
    assert result(call(name, "--help"))[0] == 0
    os.kill(pid, signal.SIGINT)
    assert result(call(name, "--help"))[0] == 0
    os.kill(pid, 0)


def test_a_caller_of_another_environment_is_sent_away(run):
    _, name, _ = run
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(f"\0{name}")
        request = {"prefix": "/elsewhere", "arguments": ["vit-registers"], "folder": "/", "environment": {}}
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        assert connection.recv(100) == warm.ELSEWHERE


@pytest.mark.slow
@pytest.mark.parametrize("command", [["table", "detection"], ["collect", "overview"]])
def test_what_needs_no_torch_is_not_kept_waiting_for_it(command):
    modules = cli.modules(command)
    code = f"import importlib, sys; [importlib.import_module(m) for m in {modules}]; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_step_imports_its_function_beforehand():
    for name, step in steps().items():
        assert step.run.partition(":")[0] in cli.modules([name.replace("_", "-"), "--model", "vit-r0"])
