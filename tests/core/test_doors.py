import os

import pytest

from vit_registers.core import doors, ending, seals
from vit_registers.core.errors import InputError


def test_whatever_reading_raises_names_the_file_and_what_to_do(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"x")
    for error in (ValueError("odd\nand more"), KeyError(5), RecursionError(), MemoryError(), ZeroDivisionError()):
        with (
            pytest.raises(InputError, match=r"a\.bin: not a thing.*; put it right$") as refused,
            doors.door(path, "a thing", "put it right"),
        ):
            raise error
        assert "\n" not in str(refused.value)


def test_only_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name, said in {
        "pipe": "is no file",
        "folder": "is a folder",
        "loop": "cannot be read",
        "no": "no such",
    }.items():
        with pytest.raises(InputError, match=f"{name}: {said}"):
            doors.read_text(tmp_path / name)


def test_text_is_utf_8_without_a_mark_and_without_nul(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\rc")
    assert doors.read_text(path) == "a\nb\nc"
    path.write_bytes(b"a\nb\0")
    with pytest.raises(InputError, match="a NUL byte in line 2"):
        doors.read_text(path)
    path.write_bytes("a".encode("utf-16"))
    with pytest.raises(InputError, match="no text in UTF-8 at byte 1"):
        doors.read_text(path)


def test_json_has_the_keys_that_are_asked_for(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert doors.read_json(path, "a") == {"a": 1}
    with pytest.raises(InputError, match=r"a\.json: lacks 'b'"):
        doors.read_json(path, "a", "b")
    path.write_text("[]")
    with pytest.raises(InputError, match="expected an object with 'a'"):
        doors.read_json(path, "a")
    path.write_text('{"a": "\\ud800"}')
    with pytest.raises(InputError, match="half of a character"):
        doors.read_json(path)


def test_a_sealed_file_that_changes_is_refused_and_one_that_fails_to_be_written_keeps_its_seal(tmp_path):
    path = tmp_path / "a"
    with seals.renewed([path]):
        path.write_text("whole")
    seals.check([path])

    def fail():
        with seals.renewed([path]):
            assert not seals.place(path).exists()
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    seals.check([path])
    assert seals.place(path).exists()
    path.write_text("who")
    with pytest.raises(InputError, match="a: not as it was written"):
        seals.check([path])
    seals.lift([path])
    seals.check([path])


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (InputError("a: wrong\n\x1b[31m"), 2, r"error: a: wrong \x1b[31m"),
        (OSError(28, "No space left on device", "/a"), 2, "error: /a: No space left on device; make room"),
        (PermissionError(13, "Permission denied", "/a"), 2, "error: /a: Permission denied; change its permissions"),
        (MemoryError(), 2, "error: out of memory"),
        (KeyboardInterrupt(), 130, "error: interrupted; run the same command again"),
        (ZeroDivisionError("division by zero"), 70, "error: ZeroDivisionError in test_doors.py:"),
    ],
)
def test_every_end_is_one_line_and_a_status(tmp_path, monkeypatch, capsys, raised, status, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ending.DEBUG, raising=False)

    def command():
        raise raised

    assert ending.ended(command) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)
    assert (tmp_path / "logs").exists() == (status == 70)


def test_a_command_that_ends_well_says_nothing(capsys):
    assert ending.ended(lambda: None) == 0
    assert capsys.readouterr().err == ""
