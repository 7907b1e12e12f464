"""A SLURM of one node, begun for a test by hand: munged, slurmctld and slurmd below one folder, no systemd."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=2
MaxArraySize=1001
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=32000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def answers() -> bool:
    """Whether a controller answers on this machine."""
    return bool(shutil.which("sinfo")) and subprocess.run(["sinfo"], capture_output=True).returncode == 0


def missing() -> str | None:
    """Why there is no SLURM, and none can be begun."""
    if not shutil.which("sbatch"):
        return "sbatch is not there: apt-get install slurm-wlm munge"
    where = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [name for name in DAEMONS if not shutil.which(name, path=where)]
    if not answers() and (absent or os.geteuid() != 0):
        return f"no controller answers, and {'root alone can begin one' if not absent else f'there is no {absent[0]}'}"
    return None


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return ports


@contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """A cluster that answers, that of the machine or one begun below ``folder``; environment of its commands."""
    if answers():
        yield {}
        return
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname().split(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder, ports=_free_ports(2), cpus=os.cpu_count()))
    environment = {"SLURM_CONF": str(conf), "PATH": f"{folder}/bin:{os.environ['PATH']}"}
    # The plugin takes all of SLURM's variables out of a job's environment, and a job begins its step by srun.
    wrapper = folder / "bin/srun"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={conf} exec {shutil.which("srun")} "$@"\n')
    wrapper.chmod(0o755)
    where = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    munge = [
        f"--{name.replace('_', '-')}={folder}/munge.{name}" for name in ("socket", "pid_file", "log_file", "seed_file")
    ]
    commands = [
        ["munged", "--foreground", "--force", f"--key-file={key}", *munge],
        ["slurmctld", "-D", "-i"],
        ["slurmd", "-D"],
    ]
    begun: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            begun.append(
                subprocess.Popen(
                    [shutil.which(command[0], path=where) or command[0], *command[1:]],
                    env={**os.environ, **environment},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
            time.sleep(1)
        for _ in range(60):
            shown = subprocess.run(
                ["sinfo", "--noheader", "--format=%T"],
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
            )
            if shown.stdout.strip() == "idle":
                break
            time.sleep(1)
        else:
            raise RuntimeError(f"the cluster does not come up: {shown.stdout}{shown.stderr}; logs are in {folder}")
        yield environment
    finally:
        for process in reversed(begun):
            process.terminate()
        for process in begun:
            process.wait(30)
