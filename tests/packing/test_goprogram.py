"""Pinned Go programs are built once per set of pins."""

from __future__ import annotations

import shutil
from pathlib import Path

import goprogram
import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONEBOX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_builds_once(cache: Path):
    # GIVEN a program that was built
    program = goprogram.build("juju-charm")
    assert program.is_relative_to(cache)
    built = program.stat().st_mtime_ns
    # WHEN it is asked for again, THEN nothing is built
    assert goprogram.build("juju-charm") == program
    assert program.stat().st_mtime_ns == built


def test_changed_pins_build_anew(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = goprogram.build("juju-charm")
    # GIVEN the same program with other sources
    programs = tmp_path / "go"
    shutil.copytree(goprogram.PROGRAMS / "juju-charm", programs / "juju-charm")
    with (programs / "juju-charm" / "main.go").open("a") as source:
        source.write("\n// A remark.\n")
    monkeypatch.setattr(goprogram, "PROGRAMS", programs)
    # WHEN it is built, THEN it has a place of its own, and the other one stays
    assert goprogram.build("juju-charm") != before
    assert before.exists()


def test_a_failed_build_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    programs = tmp_path / "go"
    shutil.copytree(goprogram.PROGRAMS / "juju-charm", programs / "juju-charm")
    (programs / "juju-charm" / "main.go").write_text("package main\n\nfunc main() { nonsense }\n")
    monkeypatch.setattr(goprogram, "PROGRAMS", programs)
    with pytest.raises(goprogram.GoProgramError, match="undefined: nonsense"):
        goprogram.build("juju-charm")
    assert not list(cache.glob("go/*/juju-charm"))


def test_unknown_program():
    with pytest.raises(goprogram.GoProgramError, match="no Go program 'frobnicate'"):
        goprogram.build("frobnicate")


def test_command_line_says_what_is_wrong(capsys: pytest.CaptureFixture[str]):
    assert goprogram.main(["frobnicate"]) == 1
    assert "no Go program 'frobnicate'" in capsys.readouterr().err
