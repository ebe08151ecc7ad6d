"""The documentation names what is there: files, commands, options, statuses, tests."""

from __future__ import annotations

import argparse
import ast
import configparser
import re
import shlex
import typing
from collections.abc import Iterator
from pathlib import Path

import architecture
import pytest
import stage
import yaml

from onebox import bundlefile, cli
from onebox.commands import base
from tests import docs_commands

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
CONFORMANCE = REFERENCE / "onebox.md"
TUTORIAL = DOCS / "tutorial" / "from-nothing-to-a-prediction.md"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        *ROOT.glob("charms/*/README.md"),
        ROOT / "images" / "README.md",
        ROOT / "onebox" / "README.md",
    ]
)
OUR_CHARMS = sorted(path.parent.name for path in ROOT.glob("charms/*/charmcraft.yaml"))
ROLES = ("requires", "provides", "peers")

# Programs of others, which are not looked into.
FOREIGN = frozenset(
    {"cat", "cd", "curl", "export", "git", "microk8s", "podman", "rm", "snap", "umask", "xargs"}
)
VARIABLES = frozenset({"PORT", "SUBNET", "REGISTRY"})


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


class TestLinks:
    @pytest.mark.parametrize("page", PAGES, ids=_name)
    def test_lead_somewhere(self, page: Path):
        text = re.sub(r"`[^`]*`", "", _prose(page))
        targets = re.findall(r"\]\(([^)\s]+)\)", text)
        targets += re.findall(r"^\[.*\]: (\S+)$", text, re.MULTILINE)
        for target in targets:
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            found = (page.parent / path).resolve() if path else page
            assert found.exists(), f"{_name(page)}: {target}"
            assert not anchor or anchor in _anchors(found), f"{_name(page)}: {target}"

    def test_every_page_is_listed(self):
        listed = (DOCS / "README.md").read_text(encoding="utf-8")
        pages = [page for page in DOCS.glob("*/*.md") if page.parent.name != "decisions"]
        assert [_name(page) for page in pages if str(page.relative_to(DOCS)) not in listed] == []

    def test_every_decision_is_listed(self):
        listed = (DOCS / "decisions" / "README.md").read_text(encoding="utf-8")
        assert [p.name for p in (DOCS / "decisions").glob("2*.md") if p.name not in listed] == []


def _commands() -> Iterator[tuple[str, docs_commands.Command]]:
    for page in PAGES:
        for command in docs_commands.commands(page):
            yield f"{_name(page)}:{command.line}", command


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        raise ValueError(message)


def _parse(words: list[str]) -> argparse.Namespace:
    """Parse a command of juju as onebox does.

    Raises:
        ValueError: it has no such option, or too many or too few words.
    """
    known = base.COMMANDS[words[0]]
    parser = _Parser(prog=words[0], allow_abbrev=False)
    parser.add_argument("-m", "--model")
    for names, settings in known.arguments:
        parser.add_argument(*names, **settings)
    if known.remainder:
        return parser.parse_args(words[1:])
    return parser.parse_intermixed_args(words[1:])


def _manifests() -> dict[str, dict[str, typing.Any]]:
    return {
        name: yaml.safe_load((folder / "charmcraft.yaml").read_text())
        for name, folder in stage.charms().items()
    }


MANIFESTS = _manifests()


def _endpoints(manifest: dict[str, typing.Any]) -> dict[str, tuple[str, typing.Any]]:
    return {
        name: (role, spec) for role in ROLES for name, spec in (manifest.get(role) or {}).items()
    }


def _unknown_in_charms(name: str, parsed: argparse.Namespace) -> str:
    """Return what a command names that the charm of this repository does not have."""
    if name == "config" and parsed.application in MANIFESTS:
        options = MANIFESTS[parsed.application].get("config", {}).get("options", {})
        keys = {word.partition("=")[0] for word in parsed.values} | set(parsed.reset)
        return " ".join(sorted(keys - options.keys()))
    if name == "run":
        application, action = parsed.words[0].partition("/")[0], parsed.words[1]
        actions = MANIFESTS.get(application, {}).get("actions", {action: None})
        return "" if action in actions else action
    if name in {"integrate", "relate", "remove-relation"}:
        for side in (parsed.a, parsed.b):
            application, _, endpoint = side.partition(":")
            # Charms of onebox have fewer endpoints than those whose names they carry.
            ours = application in OUR_CHARMS
            if ours and endpoint and endpoint not in _endpoints(MANIFESTS[application]):
                return side
    return ""


def _objection(command: docs_commands.Command, words: list[str]) -> str:
    """Return what is wrong with a command, empty for nothing."""
    if words == ["sudo", "-s"]:
        return ""
    program, *rest = words[words[0] == "sudo" :]
    for word in rest:
        path = word.rpartition("=")[2].removeprefix("@")
        local = re.match(r"(\./|overlays/|onebox/|docs/|examples/|images/.*/|tools/)", path)
        charm = re.fullmatch(r"\./build/(.*)\.charm", path)
        if charm and charm[1] not in MANIFESTS:
            return f"there is no charm {charm[1]}"
        if local and not charm and not (ROOT / path).exists():
            return f"there is no file {path}"
    match Path(program).name:
        case "juju":
            return _juju_objection(command, rest)
        case "onebox":
            return "" if rest[0] in cli.ONEBOX else f"onebox has no {rest[0]}"
        case "make":
            return _make_objection(rest)
        case "tox":
            config = configparser.ConfigParser()
            config.read(ROOT / "tox.ini")
            return "" if f"testenv:{rest[rest.index('-e') + 1]}" in config else "no such env"
        case "python" | "uv" if program.startswith(".venv/bin/"):
            return ""
        case _:
            return "" if program in FOREIGN else f"{program} is not known"


def _juju_objection(command: docs_commands.Command, words: list[str]) -> str:
    if words[0] not in base.COMMANDS:
        elsewhere = words[0] in cli.ELSEWHERE and not command.runs
        return "" if elsewhere else f"there is no juju {words[0]}"
    try:
        unknown = _unknown_in_charms(words[0], _parse(words))
    except ValueError as error:
        return str(error)
    return f"the charm has no {unknown}" if unknown else ""


def _make_objection(words: list[str]) -> str:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for word in words:
        variable, assigned, _ = word.partition("=")
        if (variable not in VARIABLES) if assigned else (word not in targets):
            return f"make has no {word}"
    return ""


def _simple_commands(text: str) -> list[list[str]]:
    """Split what is typed into its simple commands."""
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    redirected = False
    for word in lexer:
        if set(word) <= set("|;&"):
            found.append([])
        elif set(word) <= set("<>"):
            redirected = True
        elif redirected:
            redirected = False
        else:
            found[-1].append(word)
    return [words for words in found if words]


class TestCommands:
    @pytest.mark.parametrize(
        ("place", "command"), [pytest.param(*c, id=c[0]) for c in _commands()]
    )
    def test_can_be_typed(self, place: str, command: docs_commands.Command):
        for words in _simple_commands(command.text):
            assert _objection(command, words) == "", f"{place}: {command.text}"

    @pytest.mark.parametrize(
        "text",
        [
            "juju no-such-command",
            "juju status --no-such-option",
            "juju config mlflow-server no-such-option=1",
            "juju run mlflow-server/leader no-such-action",
            "juju integrate mlflow-server:no-such-endpoint minio",
            "juju deploy ./no-such-bundle.yaml",
            "juju deploy ./build/no-such.charm",
            "sudo make no-such-target",
            "make up NO_SUCH=1",
            ".venv/bin/tox -e no-such-env",
            ".venv/bin/python tools/no-such-program.py",
            "onebox/bin/onebox no-such-command",
            "no-such-program",
        ],
    )
    def test_one_that_is_not_there_is_told(self, text: str):
        command = docs_commands.Command(text, (), 1, runs=False)
        assert any(_objection(command, words) for words in _simple_commands(text))

    def test_the_tutorial_has_commands_that_run(self):
        assert sum(command.runs for command in docs_commands.commands(TUTORIAL)) > 10

    def test_what_is_shown_has_to_come_back(self):
        shown = docs_commands.Command(
            "juju status", ("a/0*  active  ...  done", "b"), 1, runs=True
        )
        assert shown.missing("x\na/0*   active   10.0.0.1  all done\nb\n") == []
        assert shown.missing("a/0*  active  10.0.0.1  done\n") == ["b"]
        assert shown.missing("a/0*  blocked  10.0.0.1  done\nb\n") == ["a/0*  active  ...  done"]
        assert shown.missing("a/0*  active  10.0.0.1  done, not\nb") == ["a/0*  active  ...  done"]


def _table(page: Path, heading: str) -> list[list[str]]:
    """Return the rows of the first table below a heading, without its title row."""
    text = page.read_text(encoding="utf-8")
    section = re.split(rf"^## {heading}\n", text, flags=re.MULTILINE)[1]
    lines = re.split(r"^## ", section, flags=re.MULTILINE)[0].splitlines()
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            rows.append(_cells(line))
        elif rows:
            break
    return rows[2:]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]


def _code(cell: str) -> str:
    return cell.strip("`")


def _default(value: object) -> str:
    if value is None:
        return "(none)"
    return str(value).lower() if isinstance(value, bool) else str(value) or "(empty)"


@pytest.mark.parametrize("charm", OUR_CHARMS)
class TestReferenceOfACharm:
    def test_has_all_options_and_no_other(self, charm: str):
        there = {
            name: (option["type"], _default(option.get("default")))
            for name, option in MANIFESTS[charm]["config"]["options"].items()
        }
        table = _table(REFERENCE / f"{charm}.md", "Options")
        assert {_code(row[0]): (row[1], _code(row[2])) for row in table} == there

    def test_has_all_actions_and_no_other(self, charm: str):
        there = {
            name: ", ".join(action.get("params", {})) or "none"
            for name, action in MANIFESTS[charm]["actions"].items()
        }
        table = _table(REFERENCE / f"{charm}.md", "Actions")
        assert {_code(row[0]): _code(row[1]) for row in table} == there

    def test_has_all_endpoints_and_no_other(self, charm: str):
        there = {
            name: (role, spec["interface"], str(spec.get("limit", "")))
            for name, (role, spec) in _endpoints(MANIFESTS[charm]).items()
        }
        table = _table(REFERENCE / f"{charm}.md", "Endpoints")
        assert {_code(r[0]): (r[1], _code(r[2]), r[3]) for r in table} == there

    def test_has_messages_that_the_charm_says(self, charm: str):
        said = "\n".join(_texts(charm))
        table = _table(REFERENCE / f"{charm}.md", "Statuses")
        assert len(table) > 5
        for row in table:
            for message in re.findall(r"`([^`]*)`", row[1]):
                parts = [part.strip(" ();:,.") for part in re.split(r"<[^>]*>", message)]
                assert [part for part in parts if part and part not in said] == [], message


def _texts(charm: str) -> Iterator[str]:
    """Yield the literal texts in the sources of a charm and the library."""
    for folder in (ROOT / "charms" / charm / "src", ROOT / "charms" / charm / "workload"):
        for path in [*folder.glob("*.py"), *(ROOT / "lib" / "mlflow_kit").glob("*.py")]:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


class TestReferenceOfTheBundle:
    PAGE = REFERENCE / "bundle-and-overlays.md"

    def test_has_all_applications_and_no_other(self):
        bundle = bundlefile.load(ROOT / "bundle.yaml", [])
        there: dict[str, tuple[str, str, str]] = {}
        raw = yaml.safe_load((ROOT / "bundle.yaml").read_text())["applications"]
        for name, spec in bundle.applications.items():
            images = list((spec.get("resources") or {"": "the charm's"}).values())
            there[name] = (raw[name]["charm"], spec.get("channel", ""), images[0])
        table = _table(self.PAGE, "bundle.yaml")
        assert {_code(r[0]): (_code(r[1]), _code(r[2]), _code(r[3])) for r in table} == there

    def test_has_all_relations_and_no_other(self):
        bundle = bundlefile.load(ROOT / "bundle.yaml", [])
        table = _table(self.PAGE, "Relations")
        shown = {frozenset({_code(row[0]), _code(row[1])}) for row in table}
        assert shown == {frozenset(pair) for pair, _ in bundle.relations}

    def test_has_all_overlays(self):
        listed = {_code(row[0]) for row in _table(self.PAGE, "Overlays")}
        there = [*ROOT.glob("overlays/*"), ROOT / "onebox" / "overlay.yaml"]
        there += ROOT.glob("onebox/overlays/*")
        assert listed == {_name(path) for path in there}


class TestConformance:
    def test_every_rule_has_a_test_or_says_that_it_has_none(self):
        text = CONFORMANCE.read_text(encoding="utf-8").partition("## Conformance")[2]
        rows = [
            _cells(line)
            for line in text.splitlines()
            if line.startswith("|") and not line.startswith(("| Rule", "|---"))
        ]
        assert len(rows) > 80
        for rule, source, test, differs in rows:
            assert rule
            assert differs
            assert source.startswith("["), rule
            assert test == "no test yet" or re.fullmatch(r"`\S+::\S+`(<br>`\S+::\S+`)*", test), (
                rule
            )

    def test_every_source_is_given(self):
        text = CONFORMANCE.read_text(encoding="utf-8")
        given = set(re.findall(r"^\[([^]]+)\]: http", text, re.MULTILINE))
        table = re.sub(r"`[^`]*`", "", text.partition("## Conformance")[2])
        used = set(re.findall(r"\[([^]]+)\](?![(:])", table))
        assert used == given

    def test_every_test_is_there(self):
        named = re.findall(r"`(tests/\S+?\.py)::(\S+?)`", CONFORMANCE.read_text(encoding="utf-8"))
        assert len(named) > 80
        missing = [f"{path}::{test}" for path, test in named if test not in _tests(ROOT / path)]
        assert missing == []


def _tests(path: Path) -> set[str]:
    """Return the names of the tests in a module, with those of their classes before."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}::{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)
            }
    return found


def test_the_architecture_names_every_rule():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Rules")[2]
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text)) - {"mlflow_kit"}
    assert named == {rule.name for rule in architecture.RULES}
