"""Is the archive right? Strangers read it: `unzip` where there is one, and Python's `zipfile`."""

import asyncio
import hashlib
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from haulyard_devstack import tool
from haulyard_devstack.demo_errors import DemoError
from haulyard_devstack.errors import DevstackError


async def self_test(archive: Path) -> str:
    """Let a stranger test the archive's structure and checksums; return who did.

    Raises:
        DemoError: It found something.
    """
    unzip = shutil.which("unzip")
    if unzip is None:
        damaged = await asyncio.to_thread(_damaged_member, archive)
        if damaged is not None:
            raise DemoError(f"{archive} is damaged: {damaged}")
        return "zipfile.testzip"
    try:
        # Without a UTF-8 locale, unzip cannot compare the names that it has read twice.
        await tool.run([unzip, "-tq", os.fspath(archive)], env={"LC_ALL": "C.UTF-8"})
    except DevstackError as error:
        raise DemoError(f"{archive} is damaged: {error}") from error
    return "unzip -tq"


def differences(archive: Path, expected: Mapping[str, str]) -> list[str]:
    """Compare every member with its source.

    Args:
        archive: The ZIP.
        expected: The SHA-256 of each member, by its name.

    Returns:
        What differs, a line each; nothing when the archive is right.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            counts = Counter(member.filename for member in members)
            found = [f"twice in the archive: {name}" for name, count in counts.items() if count > 1]
            found += [f"not in the archive: {name}" for name in expected if name not in counts]
            for member in members:
                wanted = expected.get(member.filename)
                if wanted is None:
                    found.append(f"not asked for: {member.filename}")
                elif (actual := _digest(opened, member)) != wanted:
                    found.append(f"other bytes than its source: {member.filename} ({actual} instead of {wanted})")
    except (zipfile.BadZipFile, EOFError) as error:
        return [f"unreadable: {error}"]
    return found


def _digest(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    with archive.open(member) as data:
        return hashlib.file_digest(data, "sha256").hexdigest()  # type: ignore[arg-type]


def _damaged_member(archive: Path) -> str | None:
    try:
        with zipfile.ZipFile(archive) as opened:
            return opened.testzip()
    except zipfile.BadZipFile as error:
        return str(error)
