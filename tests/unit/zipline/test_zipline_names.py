import re
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from haulyard_zipline import safe_names
from haulyard_zipline.names import _folders


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        # What is safe stays as it is.
        ("report.pdf", "report.pdf"),
        ("a/b c/d.txt", "a/b c/d.txt"),
        ("日本語/😀👩‍👩‍👧.png", "日本語/😀👩‍👩‍👧.png"),
        (".bashrc", ".bashrc"),
        ("...x", "...x"),
        ("100% & 'more' (1) [2] {3} ~$#@!^=+,;.txt", "100% & 'more' (1) [2] {3} ~$#@!^=+,;.txt"),
        # Paths stay below the folder they are unpacked in.
        ("/etc/passwd", "etc/passwd"),
        ("///a//b///c", "a/b/c"),
        ("../../a", "a"),
        ("a/../../b/./c", "a/b/c"),
        (". ./.. /.../a", "a"),
        ("a\\b\\..\\c", "a/b/c"),
        ("C:\\Users\\me\\a.txt", "Users/me/a.txt"),
        ("c:a.txt", "a.txt"),
        ("/C:/a.txt", "a.txt"),
        ("a/C:/b", "a/C_/b"),
        ("\\\\server\\share\\a", "server/share/a"),
        ("a/", "a"),
        # Nothing left.
        ("", "file"),
        ("/", "file"),
        ("..", "file"),
        ("C:\\", "file"),
        (" . ", "file"),
        ("a/../ /.", "a"),
        ("\u200b", "file"),
        ("a/\u200b..\u200b/b", "a/b"),
        # Characters.
        ("a\u0000b\nc\x7fd\x85e", "a_b_c_d_e"),
        ('<a>:"b|c?d*', "_a___b_c_d_"),
        ("a\ud800b\udfff", "a_b_"),
        ("photo\u202egpj.exe", "photo_gpj.exe"),
        ("a\u2066b\u2069c\u200fd\u061ce", "a_b_c_d_e"),
        ("a\u2028b\u2029c", "a_b_c"),
        ("e\u0301.txt", "\u00e9.txt"),
        ("\u212b.txt", "\u00c5.txt"),
        # A greater-than sign that a combining stroke has made another character is no greater-than sign.
        (">\u0338", "\u226f"),
        # Trailing dots and spaces, which Windows drops.
        ("a. . ", "a"),
        ("a. /b. .", "a/b"),
        (" a", "a"),
        # Devices of Windows.
        ("CON", "CON_"),
        ("nul.txt", "nul_.txt"),
        ("Nul.tar.gz", "Nul_.tar.gz"),
        ("aux/prn/com1/LPT9.x", "aux_/prn_/com1_/LPT9_.x"),
        ("com¹.txt", "com¹_.txt"),
        ("con .txt", "con_ .txt"),
        ("conin$", "conin$_"),
        ("conx", "conx"),
        ("com10", "com10"),
        ("xcon", "xcon"),
        ("con\u0000", "con_"),
    ],
)
def test_a_name_is_made_safe(name: str, safe: str) -> None:
    assert safe_names([name]) == [safe]


@pytest.mark.parametrize(
    ("names", "safe"),
    [
        (["a.txt", "a.txt", "a.txt"], ["a.txt", "a (2).txt", "a (3).txt"]),
        (["A.txt", "a.TXT"], ["A.txt", "a (2).TXT"]),
        (["a", "a"], ["a", "a (2)"]),
        (["a.tar.gz", "a.tar.gz"], ["a.tar.gz", "a (2).tar.gz"]),
        (["a.b.c", "a.b.c"], ["a.b.c", "a.b (2).c"]),
        ([".bashrc", ".bashrc"], [".bashrc", ".bashrc (2)"]),
        ([".tar.gz", ".tar.gz"], [".tar.gz", ".tar (2).gz"]),
        (["v1. final", "v1. final"], ["v1. final", "v1. final (2)"]),
        (["x/a", "y/a", "x/a"], ["x/a", "y/a", "x/a (2)"]),
        (["ß", "SS", "ss"], ["ß", "SS (2)", "ss (3)"]),
        (["\u00e9", "e\u0301", "\u00c9"], ["\u00e9", "\u00e9 (2)", "\u00c9 (3)"]),
        (["a?", "a*", "a_"], ["a_", "a_ (2)", "a_ (3)"]),
        (["a", "a\u200b"], ["a", "a\u200b (2)"]),
        (["❤", "❤\ufe0f", "\u200d❤"], ["❤", "❤\ufe0f (2)", "\u200d❤ (3)"]),
        (["a", "a\u200d/b"], ["a (2)", "a\u200d/b"]),
        (["σ", "ς", "Σ"], ["σ", "ς (2)", "Σ (3)"]),  # noqa: RUF001 - the same letter, thrice
        (["a.txt", "a.txt", "a.pdf", "a.pdf", "x/a.txt"], ["a.txt", "a (2).txt", "a.pdf", "a (2).pdf", "x/a.txt"]),
        (["a", "a", "x/a", "x/a"], ["a", "a (2)", "x/a", "x/a (2)"]),
        # Equal in any case only once taken apart: the iota below stands between letter and accent.
        (["\u1fb4\u0301", "\u0386\u0301\u0345"], ["\u1fb4\u0301", "\u0386\u0301\u0345 (2)"]),
        (["a", "./a", "/a", "a ", "a."], ["a", "a (2)", "a (3)", "a (4)", "a (5)"]),
        (["", "file", "/"], ["file", "file (2)", "file (3)"]),
        # A number that another name was given is left to it, wherever that stands in the list.
        (["a", "a", "a (2)"], ["a", "a (3)", "a (2)"]),
        (["a (2)", "a", "a"], ["a (2)", "a", "a (3)"]),
        (["a", "a", "A (2)", "a (2)"], ["a", "a (3)", "A (2)", "a (2) (2)"]),
        # A file cannot be a folder too; it is the file that gives way.
        (["a", "a/b"], ["a (2)", "a/b"]),
        (["a/b", "a"], ["a/b", "a (2)"]),
        (["A", "a/b/c", "a/B"], ["A (2)", "a/b/c", "a/B (2)"]),
        (["a", "a/b", "a (2)/c"], ["a (3)", "a/b", "a (2)/c"]),
    ],
)
def test_names_are_made_unique(names: list[str], safe: list[str]) -> None:
    assert safe_names(names) == safe


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("x" * 255, "x" * 255),
        ("x" * 256, "x" * 255),
        ("x" * 300 + ".pdf", "x" * 251 + ".pdf"),
        ("x" * 300 + ".tar.gz", "x" * 248 + ".tar.gz"),
        ("é" * 200, "é" * 127),
        ("é" * 200 + ".é", "é" * 126 + ".é"),
        ("😀" * 100, "😀" * 63),
        ("x" * 10 + "." + "y" * 300, "x" * 10 + "." + "y" * 244),
        ("x" * 254 + " y", "x" * 254),
        ("x" * 300 + "/" + "y" * 300, "x" * 255 + "/" + "y" * 255),
        ("con" + " " * 300 + ".txt", "con_" + " " * 247 + ".txt"),
        ("con." + "y" * 300, "con_." + "y" * 250),
        (" " * 300 + "x", "x"),
    ],
)
def test_a_long_segment_is_cut_before_its_extension(name: str, safe: str) -> None:
    assert safe_names([name]) == [safe]


def test_a_long_path_loses_its_innermost_folders() -> None:
    folders = [str(number) * 200 for number in range(9)]
    assert safe_names(["/".join([*folders, "a.txt"])]) == ["/".join([*folders[:3], "a.txt"])]
    # Also those that would fit again, or the path would name other folders than it did.
    assert safe_names(["/".join([*folders, "short", "a.txt"])]) == ["/".join([*folders[:3], "a.txt"])]
    assert safe_names(["a/" * 5_000 + "b" * 300]) == ["a/" * 384 + "b" * 255]


def test_numbers_fit_in_a_name_of_full_length() -> None:
    names = safe_names(["x" * 251 + ".pdf"] * 1_000)
    assert names[0] == "x" * 251 + ".pdf"
    assert names[1].endswith("x (2).pdf")
    assert names[999].endswith("x (1000).pdf")


DEVICES = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\.|$)")

# What trips up such code, more often than any text would have it.
tricky = st.text(
    st.sampled_from([*"aAbß./\\: ()2_~$con|İǅ😀", *"\u017f\u0131\u0301\u0338\u0345\u200b\u202e\0\ud800"]), max_size=12
)
long = st.builds(lambda text, times, end: text * times + end, st.text(max_size=4), st.integers(1, 700), tricky)
name_lists = st.lists(st.one_of(st.text(), tricky, tricky, long), max_size=20)


@given(name_lists)
@example(["/".join(["x" * 255] * 10)] * 3)
@example(["con" + " " * 260 + "x.txt"] * 2)
@example([" " * 20 + "." * 300 + "x"])
@example(["x" * 239 + ".tar.gz", "x" * 300 + ".tar.gz", "x" * 239 + ".tar.gz"])
def test_all_names_are_safe(names: list[str]) -> None:
    for name in safe_names(names):
        assert name == unicodedata.normalize("NFC", name)
        assert len(name.encode()) <= 1024
        assert not re.search(r'[<>:"|?*\\]', name)
        assert not any(unicodedata.category(character) in {"Cc", "Cs"} for character in name)
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", name)
        for segment in name.split("/"):
            assert segment not in {"", ".", ".."}
            assert len(segment.encode()) <= 255
            assert segment[-1] not in ". "
            assert not DEVICES.match(segment)


@given(name_lists)
def test_all_names_are_unique_whatever_their_case_and_no_file_is_a_folder(names: list[str]) -> None:
    safe = safe_names(names)
    assert len(safe) == len(names)
    folded = [unicodedata.normalize("NFC", name.casefold()) for name in safe]
    assert len(set(folded)) == len(folded)
    folders = {name.rsplit("/", up)[0] for name in folded for up in range(1, name.count("/") + 1)}
    assert not folders & set(folded)


@given(name_lists)
def test_safe_names_stay_as_they_are(names: list[str]) -> None:
    safe = safe_names(names)
    assert safe_names(safe) == safe


@given(st.lists(st.text("aA./", max_size=5), max_size=20))
def test_only_those_are_renamed_that_equal_an_earlier_name_or_a_folder(names: list[str]) -> None:
    alone = [safe_names([name])[0] for name in names]
    folded = [name.lower() for name in alone]
    folders = {name.rsplit("/", up)[0] for name in folded for up in range(1, name.count("/") + 1)}
    for at, name in enumerate(safe_names(names)):
        has_to = folded[at] in folded[:at] or folded[at] in folders
        assert (name != alone[at]) == has_to


@pytest.mark.parametrize(
    "names",
    [
        ["same.txt"] * 70_000,
        ["x" * 300 + ".txt"] * 20_000,
        # Different names that become equal once they are cut to make room for a number.
        [f"{'x' * 245}{number:05}" for number in range(20_000)] * 2,
        ["a", *(f"a ({number})" for number in range(2, 20_000)), *["a"] * 20_000],
        [f"{number}/a" for number in range(20_000)] + [f"{number}" for number in range(20_000)],
        ["d/" * 380 + "x"] * 1_000,
        ["d/" * 100_000 + "x"],
    ],
    ids=["equal", "equal and long", "equal when cut", "numbers taken", "files and folders", "deep", "very deep"],
)
def test_many_names_take_seconds_not_hours(names: list[str]) -> None:
    start = time.process_time()
    safe = safe_names(names)
    assert time.process_time() - start < 10
    assert len({name.casefold() for name in safe}) == len(names)


def test_the_folders_of_many_files_in_one_deep_folder_are_looked_at_once() -> None:
    start = time.process_time()
    assert len(_folders(["d/" * 380 + "x"] * 200_000)) == 380
    assert time.process_time() - start < 5
