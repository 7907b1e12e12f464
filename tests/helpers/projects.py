"""Projects in which a run is at work."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(project: Path, study: str = "smoke") -> Iterator[int]:
    """Hold a study as a run of this process would; the id of this process."""
    with (project / f".snakemake/{study}.run.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield os.getpid()
