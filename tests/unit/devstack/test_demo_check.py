"""An archive that is not what was asked for is found out, and it is said what differs."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from haulyard_devstack.demo_check import differences, self_test
from haulyard_devstack.demo_errors import DemoError

CONTENTS = {"a b.txt": b"one", "写真/ü.txt": b"two", "empty": b""}
EXPECTED = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENTS.items()}

Pack = Callable[[dict[str, bytes]], Path]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    def write(contents: dict[str, bytes]) -> Path:
        path = tmp_path / "archive.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in contents.items():
                archive.writestr(name, data)
        return path

    return write


def test_a_right_archive_has_no_differences(pack: Pack) -> None:
    assert differences(pack(CONTENTS), EXPECTED) == []


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({"a b.txt": b"One"}, "other bytes than its source: a b.txt"),
        ({"more": b""}, "not asked for: more"),
    ],
)
def test_a_difference_is_named(pack: Pack, contents: dict[str, bytes], said: str) -> None:
    found = differences(pack(CONTENTS | contents), EXPECTED)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_a_missing_member_is_named(pack: Pack) -> None:
    assert differences(pack({"a b.txt": b"one", "empty": b""}), EXPECTED) == ["not in the archive: 写真/ü.txt"]


def test_damaged_data_is_a_difference_and_not_a_crash(pack: Pack) -> None:
    path = pack(CONTENTS)
    path.write_bytes(path.read_bytes().replace(b"two", b"tow"))
    assert differences(path, EXPECTED)[0].startswith("unreadable: Bad CRC-32")


@pytest.mark.parametrize("has_unzip", [True, False])
async def test_strangers_test_the_archive(
    pack: Pack,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    has_unzip: bool,  # noqa: FBT001
) -> None:
    if not has_unzip:
        monkeypatch.setenv("PATH", str(tmp_path))
    path = pack(CONTENTS)
    assert await self_test(path)
    path.write_bytes(path.read_bytes().replace(b"two", b"tow"))
    with pytest.raises(DemoError, match="damaged"):
        await self_test(path)
