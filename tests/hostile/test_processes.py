"""Real processes: signals, pipes that nobody reads, full disks, odd surroundings, and users without rights."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent / "vit-registers"
ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="mounts a file system, or becomes somebody else")
NOBODY = 65534


def start(*arguments: str, **options) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([BIN, *arguments], **{**pipes, **options})


def ended(*arguments: str, **options) -> tuple[int, str, str]:
    process = start(*arguments, **options)
    out, errors = process.communicate(timeout=120)
    return process.returncode, out or "", errors or ""


def one_line(result: tuple[int, str, str], status: int, said: str) -> None:
    assert result[0] == status, result
    lines = result[2].splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], result
    assert said in lines[-1]
    assert "Traceback" not in result[2]


def test_bad_input_of_a_real_process(base, tmp_path):
    one_line(ended("prepare", "--dataset", "no", "--params", base, cwd=tmp_path), 2, "no data set 'no'")
    one_line(ended("nothing", cwd=tmp_path), 2, "No such command 'nothing'")
    assert [path.name for path in tmp_path.iterdir()] == ["base.json"]


@pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_a_signal_is_one_line_and_nothing_half_written_stays(base, tmp_path, number, status, said):
    process = start("prepare", "--dataset", "shapes", "--params", base, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("data/prepared/smoke/.shapes.*.partial/**/*.png")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    one_line((process.returncode, out, errors), status, said)
    assert not list((tmp_path / "data/prepared/smoke").iterdir())


def test_a_pipe_that_nobody_reads_is_no_error(base, tmp_path):
    process = start("schema", cwd=tmp_path)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) in (0, 1)  # by whether all of it had been written


def test_a_full_disk_behind_stdout(tmp_path):
    with open("/dev/full", "w") as full:
        one_line(ended("schema", cwd=tmp_path, stdout=full), 2, "No space left on device; make room and run again")


def test_streams_that_are_closed(base, tmp_path):
    shell = f"{BIN} prepare --dataset no --params {base} >&- 2>&-"
    assert subprocess.run(shell, shell=True, cwd=tmp_path).returncode == 2


def test_surroundings_make_no_difference(base, tmp_path):
    """HOME unset, LANG=C, umask 077, a folder with spaces, quotes and $."""
    folder = tmp_path / "a 'b' \"c\" $HOME"
    folder.mkdir()
    env = {"PATH": os.environ["PATH"], "LANG": "C", "LC_ALL": "C", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    (folder / "naïve.yaml").write_text("study: {title: naïve café}", encoding="utf-8")
    options = {"cwd": folder, "env": env, "umask": 0o077}
    result = ended("prepare", "--dataset", "shapes-grey", "--params", base, "--params", "naïve.yaml", **options)
    assert result[0] == 0, result
    result = ended("prepare", "--dataset", "naïve", "--params", base, **options)
    one_line(result, 2, "no data set")


@pytest.fixture
def small(tmp_path) -> Iterator[Path]:
    """A file system of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def fill(path: Path) -> None:
    """Write a file until there is no room."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(file, bytes(4096))
    os.close(file)


PAIR = ["--dataset", "shapes", "--model", "vit-r0"]
STEPS = {
    "prepare": ["prepare", "--dataset", "shapes"],
    "train": ["train", "--model", "vit-r0"],
    "extract": ["extract", *PAIR],
    "detect": ["detect", *PAIR],
    "calibrate": ["calibrate", *PAIR],
    "ablate": ["ablate", *PAIR],
    "measure": ["object-discovery", *PAIR],
    "collect": ["collect", "object_discovery"],
    "table": ["table", "lost_corloc"],
    "figure": ["figure", "lost_steps"],
}
MADE = {
    "prepare": "data/prepared/tiny/shapes/manifest.parquet", "train": "results/tiny/models/vit-r0/model.safetensors",
    "extract": "results/tiny/features/baseline/shapes/vit-r0/norms.npy", "detect": "results/tiny/registers/shapes/vit-r0.json",
    "calibrate": "results/tiny/features/ablated/shapes/vit-r0.safetensors", "ablate": "results/tiny/features/ablated/shapes/vit-r0.json",
    "measure": "results/tiny/measures/object_discovery/shapes/vit-r0/rows.csv", "collect": "results/tiny/rows/object_discovery.csv",
    "table": "results/tiny/tables/lost_corloc.csv", "figure": "results/tiny/figures/lost_steps.png",
}  # fmt: skip


@ROOT_ONLY
@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_is_one_line_and_with_room_the_step_ends_in_the_same_bytes(finished, small, tmp_path, step):
    """A12 and E11: what a step writes is on a disk that is full; then there is room."""
    work = tmp_path / "work"
    shutil.copytree(finished, work)
    made = work / MADE[step]
    before = made.read_bytes() if made.exists() else None
    for path in (made, made.with_name(made.stem), made.parent if step in ("prepare", "train") else made):
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
    if step == "extract":
        shutil.rmtree(made.parent, ignore_errors=True)
    if step == "ablate":
        shutil.rmtree(made.with_suffix(""), ignore_errors=True)
    parent = made.parents[1] if step in ("prepare", "train", "extract") else made.parent
    shutil.copytree(parent, small / "on", dirs_exist_ok=True) if parent.exists() else (small / "on").mkdir()
    shutil.rmtree(parent, ignore_errors=True)
    parent.symlink_to(small / "on")
    filler = small / "filler"
    fill(filler)
    result = ended(*STEPS[step], "--params", "params.json", cwd=work)
    one_line(result, 2, "No space left on device; make room and run again")
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=50m", small], check=True)
    assert ended(*STEPS[step], "--params", "params.json", cwd=work)[0] == 0
    assert before is None or made.read_bytes() == before


@ROOT_ONLY
def test_folders_and_files_that_somebody_may_not_read_or_write(base, tmp_path):
    """B8, E6, A13: as somebody who is not root."""
    from PIL import Image

    for label in ("cat", "dog"):
        for i in range(4):
            (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "photos" / label / f"{i}.png")
    (tmp_path / "mine.yaml").write_text("datasets: {mine: {kind: folder, path: photos}}")
    for folder in (tmp_path, *tmp_path.rglob("*")):
        folder.chmod(0o777)
    for parent in tmp_path.parents:
        if parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    try:
        subprocess.run([BIN, "--help"], user=NOBODY, group=NOBODY, capture_output=True, cwd="/", check=True)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("the environment is root's alone")
    call = ["prepare", "--dataset", "mine", "--params", str(base), "--params", "mine.yaml"]
    who = {"user": NOBODY, "group": NOBODY, "cwd": tmp_path, "env": {**os.environ, "HOME": "/nonexistent"}}
    (tmp_path / "photos/cat").chmod(0)
    one_line(ended(*call, **who), 2, "photos/cat: Permission denied; make the folder readable")
    (tmp_path / "photos/cat").chmod(0o777)
    (tmp_path / "photos/cat/0.png").chmod(0)
    one_line(ended(*call, **who), 2, "0.png: cannot be read (Permission denied)")
    (tmp_path / "photos/cat/0.png").chmod(0o777)
    (tmp_path / "mine.yaml").chmod(0)
    one_line(ended(*call, **who), 2, "mine.yaml: cannot be read (Permission denied)")
    (tmp_path / "mine.yaml").chmod(0o777)
    tmp_path.chmod(0o555)
    one_line(ended(*call, **who), 2, "Permission denied; change its permissions and run again")
