"""Run the unit tests: one pytest process per charm, one for the library, one for onebox.

Each charm has top-level modules of its own called `charm`, `state`, `config` and so on, so two of
them cannot be imported into one process. Coverage of charms and library is combined.

    python tests/run_unit.py [charm ...] [-- pytest arguments]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LIBRARY, ONEBOX = "lib", "onebox"
"""The suites that are no charm's: the folders of tests/ with the same names."""


def suites() -> dict[str, tuple[list[Path], list[Path]]]:
    """All suites by name: the folders with tests, and what goes on PYTHONPATH."""
    found: dict[str, tuple[list[Path], list[Path]]] = {}
    for pattern in ("charms/*/tests/unit", "onebox/charms/*/tests/unit"):
        for tests in sorted(ROOT.glob(pattern)):
            charm = tests.parent.parent
            found[charm.name] = ([tests], [charm / "src", ROOT / "lib"])
    for name in (ONEBOX, LIBRARY):
        found[name] = ([ROOT / "tests" / name], [ROOT / "lib", ROOT])
    return found


def size(name: str) -> int:
    """The bytes of a suite's sources, by which it takes its time."""
    folders, _ = suites()[name]
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*.py"))


def run(name: str, arguments: list[str]) -> bool:
    """Run one suite under coverage and print what it said; tell whether it passed."""
    folders, path = suites()[name]
    started = time.monotonic()
    # Coverage counts charms and library (pyproject.toml); onebox's own tests would only be slower.
    measured = [] if name == ONEBOX else ["-m", "coverage", "run"]
    command = [sys.executable, *measured, "-m", "pytest", "-q"]
    # No unit test waits for anything, so one that takes minutes hangs.
    command += ["--timeout=120"]
    # The same examples in each run, and no deadline that a busy machine would miss.
    command += ["--hypothesis-profile=ci"]
    done = subprocess.run(
        [*command, *arguments, *folders],
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(str(entry) for entry in path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(f"{done.stdout}== {name}: {time.monotonic() - started:.1f} s\n", flush=True)
    return done.returncode == 0


def coverage(*arguments: str) -> bool:
    """Run a command of coverage.py; tell whether it succeeded."""
    command = [sys.executable, "-m", "coverage", *arguments]
    return subprocess.run(command, check=False, cwd=ROOT).returncode == 0


def main(arguments: list[str]) -> int:
    """Run the suites named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "suite", nargs="*", metavar="charm", help=f"or {LIBRARY}, {ONEBOX}; all if none"
    )
    for_pytest: list[str] = []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, for_pytest = arguments[:cut], arguments[cut + 1 :]
    names: list[str] = parser.parse_args(arguments).suite
    unknown = sorted(set(names) - set(suites()))
    if unknown:
        parser.error(f"no suite {', '.join(unknown)}; there are: {', '.join(suites())}")
    coverage("erase")
    chosen = names or list(suites())
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        # A long one that begins late would end alone.
        longest_first = sorted(chosen, key=size, reverse=True)
        runs = {name: pool.submit(run, name, for_pytest) for name in longest_first}
    failed = [name for name in chosen if not runs[name].result()]
    covered = True
    if set(chosen) != {ONEBOX}:
        coverage("combine", "--quiet")
        # A part of the tests covers a part of the code, so only a full run is held to the bound.
        covered = coverage("report", *(["--fail-under=0"] if names or for_pytest else []))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 0 if covered and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
