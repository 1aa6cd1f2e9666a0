"""The check of words: what it finds, and in which files it looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a pod is Told twice", ["Told"]),
        ("def told_twice(): ...", ["told"]),
        ("the only way_in, and nobody knows it", ["nobody", "way_in"]),
        ("stolen, stolid, a bodyguard, always inside, whomp", []),
        ("who may read it; a wayside inn; network", []),
    ],
)
def test_words_that_are_found(text: str, found: list[str]) -> None:
    assert sorted(word for _, word, _ in words.find_words(text)) == found


def test_a_place_has_its_line_and_a_remedy() -> None:
    (place,) = words.find_words("one\ntwo in vain\n")
    assert place == (2, "in vain", "failed, found none")


def test_files_that_are_checked() -> None:
    names = ["Makefile", "ops/errors.py", "docs/a.md", "LICENSE", "sandbox/shop/README.md", "a.go", "tests/words.py"]
    assert words.select_files(names) == ["Makefile", "ops/errors.py", "docs/a.md"]


def test_a_word_makes_the_check_fail(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(words, "ROOT", tmp_path)
    (tmp_path / "notes.md").write_text("Nobody knows.\n")
    assert words.main(["notes.md"]) == 1
    assert capsys.readouterr().out.startswith("notes.md:1: “Nobody”: write ")
    (tmp_path / "notes.md").write_text("No operator knows.\n")
    assert words.main(["notes.md"]) == 0
