import re
from pathlib import Path

from haulyard.cli.exits import Exit

PAGE = Path(__file__).parents[3] / "docs" / "clients.md"


def test_the_page_has_each_exit_code() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE.read_text("utf-8"), re.MULTILINE)] == list(Exit)
