import json
import subprocess
import sys
import time

import pytest

from vit_registers.core import files
from vit_registers.core.errors import InputError


def test_a_failed_write_leaves_the_old_file_and_no_trace(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"x": 1})

    def fail_half_way():
        with files.replacing(path) as temporary:
            temporary.write_text("{")
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        fail_half_way()
    assert files.read_json(path) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_the_next_writer_removes_what_a_killed_one_left_and_not_what_a_living_one_writes(tmp_path):
    code = (
        "import sys, time; from vit_registers.core.files import replacing\n"
        "with replacing(sys.argv[1]) as t: t.write_text('half'); print(t.name, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a[1].csv")]
    killed, alive = (subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2))
    left, written = killed.stdout.readline().strip(), alive.stdout.readline().strip()
    killed.kill()
    killed.communicate()
    assert (tmp_path / left).exists()
    files.write_text(tmp_path / "a[1].csv", "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([written, "a[1].csv"])
    alive.kill()
    alive.communicate()


def test_bad_json_names_the_file(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json: not valid JSON"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"b\.json: no such file"):
        files.read_json(tmp_path / "b.json")


def test_canonical_forgets_the_order_of_keys_and_nothing_else():
    assert files.canonical({"a": 1, "b": [1, 2]}) == files.canonical({"b": [1, 2], "a": 1})
    assert files.canonical({"a": 1, "b": 2}) != files.canonical({"a": 2, "b": 1})
    assert files.canonical([1, 2]) != files.canonical([2, 1])
    assert json.loads(files.canonical({"é": 1.5})) == {"é": 1.5}


@pytest.mark.slow
def test_a_second_process_waits_for_the_folder_and_a_killed_one_frees_it(tmp_path):
    code = (
        "import sys, time; from vit_registers.core.files import exclusive\n"
        f"with exclusive({str(tmp_path)!r}): print('in', flush=True); time.sleep(float(sys.argv[1]))"
    )
    first = subprocess.Popen([sys.executable, "-c", code, "60"], stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "in\n"
    second = subprocess.Popen([sys.executable, "-c", code, "0"], stdout=subprocess.PIPE, text=True)
    time.sleep(1.0)
    assert second.poll() is None  # still waiting
    first.kill()
    assert second.communicate(timeout=30)[0] == "in\n"
    first.communicate()
