"""What a run of Snakemake says: of an error a line where it happens, and last the line of the step itself.

Snakemake would print the whole shell command of a failed job, twice, and frames of the Snakefile. With ``--verbose`` it
still does, and its own log file always has everything.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from vit_registers.core.errors import one_line

STREAM = "DefaultStreamHandler"  # Snakemake's name of what writes to the terminal
LONGEST = 600  # characters of a message or a reason; params of a job can be pages


def shortened(text: str) -> str:
    """``text`` on one line, cut where it would fill the screen."""
    line = one_line(text)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


class Brief(logging.Formatter):
    """Formats what Snakemake logs, errors in a line each and all else as ``whole`` does; knows which jobs failed."""

    def __init__(self, whole: logging.Formatter) -> None:
        super().__init__()
        self.whole, self.failed, self.ended = whole, list[tuple[str, list[str]]](), False

    def filter(self, record: logging.LogRecord) -> bool:
        """Note a job that failed, whether it is shown or not; nothing is held back."""
        if getattr(record, "event", None) == LogEvent.JOB_ERROR:
            self.failed.append((str(record.__dict__["rule_name"]), _logs(record.__dict__)))
        return True

    def format(self, record: logging.LogRecord) -> str:
        """One message; empty where there is nothing to say."""
        event, job = getattr(record, "event", None), record.__dict__
        if self.ended:
            return ""
        if event == LogEvent.JOB_ERROR:
            return f"failed: {job['rule_name']} ({', '.join(_logs(job)) or 'no log'})"
        if event == LogEvent.ERROR:
            return _exception(record)
        if event == LogEvent.JOB_INFO and job.get("reason"):
            return self.whole.format(logging.makeLogRecord({**job, "reason": shortened(str(job["reason"]))}))
        return self.whole.format(record)

    def last_words(self) -> list[str]:
        """The line of each step that failed, from its log; nothing is said after them."""
        self.ended = True
        return [f"error: {_line(logs) or _silent(rule, logs)}" for rule, logs in self.failed]


def _logs(job: Mapping[str, Any]) -> list[str]:
    return [str(path) for path in job.get("log") or []]


def _silent(rule: str, logs: list[str]) -> str:
    """What is said of a step that said nothing."""
    where = f"; its log is {logs[0]}" if logs else ""
    return f"{rule} ended without a word{where}; if it was killed for want of memory, give it more and run again"


def _line(logs: list[str]) -> str | None:
    """The last line of some logs that says what went wrong, without ``error:``."""
    for path in (Path(path) for path in logs):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        if said:
            return said[-1]
    return None


def _exception(record: logging.LogRecord) -> str:
    """What Snakemake itself stumbled over; nothing where a job did, of which another message tells."""
    text = record.getMessage()
    if "CalledProcessError" in text:
        return ""
    lines = [line for line in text.splitlines() if not line.startswith('  File "')]
    return f"error: {shortened(' '.join(lines))}"


def install() -> Brief:
    """Say less on the terminal from now on, unless somebody wants to read all or chose another way."""
    stream = next((handler for handler in logger.handlers if handler.name == STREAM), None)
    brief = Brief(stream.formatter if stream is not None and stream.formatter is not None else logging.Formatter())
    logger.addFilter(brief)
    if stream is not None and logger.level > logging.DEBUG:
        stream.setFormatter(brief)
    return brief
