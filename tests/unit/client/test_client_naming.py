import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard.errors import UploadError
from haulyard.transfer.naming import local_files, safe_filename


@given(st.text())
def test_no_name_from_the_server_leaves_the_folder_or_hides(name: str) -> None:
    safe = safe_filename(name, fallback="job.zip")
    assert Path(safe).name == safe
    assert safe not in ("", ".", "..")
    assert not safe.startswith(".")
    assert len(safe.encode("utf-8", "surrogateescape")) <= 200
    assert all(character.isprintable() or ord(character) > 127 for character in safe)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("quarter.zip", "quarter.zip"),
        ("Übersicht 写真.zip", "Übersicht 写真.zip"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\x.zip", "C__x.zip"),
        ("con.zip", "job.zip"),
        (".bashrc", "bashrc"),
        ("a" * 300 + ".zip", "a" * 196 + ".zip"),
    ],
)
def test_names_are_kept_as_far_as_they_are_safe(name: str, safe: str) -> None:
    assert safe_filename(name, fallback="job.zip") == safe


def test_a_folder_gives_all_below_it_under_its_own_name(tmp_path: Path) -> None:
    top = tmp_path / "photos"
    (top / "2026" / "empty").mkdir(parents=True)
    (top / "a.jpg").write_bytes(b"aa")
    (top / "2026" / "b.jpg").write_bytes(b"b")
    (top / "link.jpg").symlink_to(top / "a.jpg")
    (top / "circle").symlink_to(tmp_path)
    (top / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(top / "pipe")
    found = {(file.name, file.size) for file in local_files(top)}
    assert found == {("photos/2026/b.jpg", 1), ("photos/a.jpg", 2), ("photos/link.jpg", 2)}
    assert [file.name for file in local_files(top / "a.jpg", prefix="x/y/")] == ["x/y/a.jpg"]


def test_the_current_folder_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert [file.name for file in local_files(Path())] == ["a.txt"]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UploadError, match="no such file"):
        list(local_files(tmp_path / "nothing"))
