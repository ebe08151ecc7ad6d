"""The rules of the architecture, as questions to the syntax tree of one module.

Each rule answers with what it objects to and why. ARCHITECTURE.md gives the reasons; which
modules a rule looks at is said by its `scope`.
"""

from __future__ import annotations

import ast
import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath

OUR_CHARMS = ("charms/*/src/*.py",)
ALL_CHARMS = (*OUR_CHARMS, "onebox/charms/*/src/*.py")
LIBRARY = ("lib/mlflow_kit/*.py", "lib/mlflow_kit/*/*.py")
IN_CHARMS = (*ALL_CHARMS, *LIBRARY)
EVERYWHERE = (*IN_CHARMS, "charms/*/workload/*.py", "onebox/*.py", "tools/*.py", "tests/*/*.py")

# Packages that take tens of milliseconds to import, in each of the many hooks of a charm.
HEAVY = frozenset(
    {"boto3", "botocore", "cryptography", "httpx", "jinja2", "lightkube", "pydantic", "requests"}
)

# Methods of ops.Container that read or change what is in a container.
PEBBLE_CALLS = frozenset(
    {
        "add_layer",
        "autostart",
        "exec",
        "get_checks",
        "get_plan",
        "get_service",
        "get_services",
        "list_files",
        "make_dir",
        "pull",
        "pull_path",
        "push",
        "push_path",
        "remove_path",
        "replan",
        "send_signal",
    }
)


@dataclasses.dataclass(frozen=True)
class Module:
    """One source file.

    Attributes:
        path: relative to the top of the repository.
        tree: its syntax tree.
    """

    path: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return PurePosixPath(self.path).stem


@dataclasses.dataclass(frozen=True)
class Objection:
    """What a rule found."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


Finding = tuple[ast.AST, str]
Check = Callable[[Module], Iterable[Finding]]


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule and where it holds.

    Attributes:
        check: yields a node and a message for each breach.
        scope: patterns of the paths that it looks at.
        exempt: patterns of paths in scope that may do it.
    """

    check: Check
    scope: tuple[str, ...]
    exempt: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the check."""
        return self.check.__name__

    def covers(self, path: str) -> bool:
        """Whether the rule looks at a file."""
        return _matches(path, self.scope) and not _matches(path, self.exempt)

    def objections(self, module: Module) -> Iterator[Objection]:
        """What the rule has against a module."""
        if self.covers(module.path):
            for node, message in self.check(module):
                yield Objection(module.path, getattr(node, "lineno", 1), message)


RULES: list[Rule] = []


def rule(scope: tuple[str, ...], exempt: tuple[str, ...] = ()) -> Callable[[Check], Check]:
    """Make a function a rule."""

    def register(check: Check) -> Check:
        RULES.append(Rule(check, scope, exempt))
        return check

    return register


@rule(IN_CHARMS)
def no_defer(module: Module) -> Iterator[Finding]:
    """A deferred event comes back in another world; the next event computes everything anew."""
    for call in _calls(module.tree):
        if _last(call.func) == "defer":
            yield call, "an event is deferred"


@rule(IN_CHARMS)
def no_stored_state(module: Module) -> Iterator[Finding]:
    """State lives in Juju and in the workload; a copy of it goes stale."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name | ast.Attribute) and _last(node) == "StoredState":
            yield node, "StoredState is used"


@rule(IN_CHARMS)
def no_event_beside_another(module: Module) -> Iterator[Finding]:
    """A charm's `dispatch` starts nothing for it: the other one tells the same."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and (
            node.attr == "relation_joined"
            or (node.attr in {"install", "start"} and _last(node.value) == "on")
        ):
            yield node, f"{node.attr.replace('_', '-')} is observed"


@rule(IN_CHARMS)
def status_is_collected(module: Module) -> Iterator[Finding]:
    """Status has one source, or the last writer wins."""
    for node in ast.walk(module.tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Attribute) and target.attr == "status":
                yield target, "a status is assigned"
        if isinstance(node, ast.Call) and _last(node.func) in {"set_status", "status_set"}:
            yield node, "a status is set"


@rule(IN_CHARMS, exempt=("lib/mlflow_kit/problems.py",))
def status_is_added_in_its_handler(module: Module) -> Iterator[Finding]:
    """Only the handler of collect-status, or the library on its behalf, reports a status."""
    for function in _functions(module.tree):
        if "collect" in function.name and "status" in function.name:
            continue
        for call in _calls(function):
            if _last(call.func) == "add_status":
                yield call, f"{function.name} adds a status"


@rule(EVERYWHERE, exempt=("tests/lib/*",))
def narrow_except(module: Module) -> Iterator[Finding]:
    """An error that was not foreseen must be seen, not swallowed."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        names = {_last(each) if each else "" for each in caught}
        if names & {"", "Exception"}:
            yield node, "everything is caught"
        elif "BaseException" in names and not _raises_again(node):
            yield node, "BaseException is caught and not raised again"


@rule(IN_CHARMS)
def no_print(module: Module) -> Iterator[Finding]:
    """What a hook prints ends in a log that nobody chose."""
    for call in _calls(module.tree):
        if isinstance(call.func, ast.Name) and call.func.id == "print":
            yield call, "print is called"


@rule((*EVERYWHERE, "examples/*.py"))
def no_shell(module: Module) -> Iterator[Finding]:
    """Programs get argument lists: what a user typed must never be read by a shell."""
    for call in _calls(module.tree):
        if ast.unparse(call.func) in {"os.system", "os.popen"} or _last(call.func) in {
            "getoutput",
            "getstatusoutput",
            "create_subprocess_shell",
        }:
            yield call, "a shell is started"
        for keyword in call.keywords:
            if keyword.arg == "shell" and not _is_false(keyword.value):
                yield call, "a shell is asked for"


@rule(OUR_CHARMS, exempt=("*/charm.py", "*/state.py"))
def pure_modules_know_no_juju(module: Module) -> Iterator[Finding]:
    """What a workload needs is computed from the State, so it can be tested without Juju."""
    for node, imported in _imports(module.tree):
        top = imported.partition(".")[0]
        if top in {"ops", "subprocess", "socket", "time", "random"}:
            yield node, f"a pure module imports {imported}"


@rule(OUR_CHARMS, exempt=("*/state.py",))
def state_reads_the_inputs(module: Module) -> Iterator[Finding]:
    """Config, databags and secrets are read in one place, once per event."""
    saved = {
        id(argument)
        for call in _calls(module.tree)
        if _last(call.func) == "save"
        for argument in call.args
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if node.attr == "config" and owner.rpartition(".")[2] in {"self", "charm", "model"}:
                yield node, "config is read outside state.py"
            if node.attr == "load_config":
                yield node, "config is read outside state.py"
        elif isinstance(node, ast.Call) and _last(node.func) == "get_secret":
            # An application finds a secret of its own by its label: that one is an output.
            if {keyword.arg for keyword in node.keywords} != {"label"} or node.args:
                yield node, "a secret of another application is read outside state.py"
        elif (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Attribute)
            and node.value.attr == "data"
            and id(node) not in saved
        ):
            yield node, "a databag is read outside state.py"


@rule((*OUR_CHARMS, *LIBRARY), exempt=("lib/mlflow_kit/workload.py",))
def one_caller_of_pebble(module: Module) -> Iterator[Finding]:
    """mlflow_kit.workload alone compares, writes and restarts."""
    for call in _calls(module.tree):
        if isinstance(call.func, ast.Attribute) and call.func.attr in PEBBLE_CALLS:
            yield call, f"{call.func.attr} is called outside mlflow_kit.workload"


@rule((*OUR_CHARMS, *LIBRARY), exempt=("lib/mlflow_kit/interfaces/*",))
def interfaces_know_the_keys(module: Module) -> Iterator[Finding]:
    """A key of a databag is named in the module of its interface and nowhere else."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Subscript) and _is_text(node.slice) and _is_databag(node.value):
            yield node, "a databag's key is named"
        if not isinstance(node, ast.Call):
            continue
        name = _last(node.func)
        if name in {"get", "pop", "setdefault"} and isinstance(node.func, ast.Attribute):
            if node.args and _is_text(node.args[0]) and _is_databag(node.func.value):
                yield node, "a databag's key is named"
        elif name == "save":
            for argument in node.args:
                if isinstance(argument, ast.Dict) and any(map(_is_text, argument.keys)):
                    yield argument, "a databag's key is named"


@rule(IN_CHARMS)
def charms_know_no_onebox(module: Module) -> Iterator[Finding]:
    """The same charm runs on Juju; nothing in it may notice where it is."""
    for node, imported in _imports(module.tree):
        if imported.partition(".")[0] in {"onebox", "tools", "tests"}:
            yield node, f"{imported} is imported"


@rule(LIBRARY)
def library_knows_no_charm(module: Module) -> Iterator[Finding]:
    """The library is shared: a charm imports it, never the other way."""
    for node, imported in _imports(module.tree):
        if imported.partition(".")[0] in {"charm", "config", "publish", "state"}:
            yield node, f"{imported} is imported"


@rule(IN_CHARMS)
def heavy_imports_wait(module: Module) -> Iterator[Finding]:
    """Most hooks need none of these, and each import costs as much as the hook itself."""
    for node, imported in _imports(module.tree, top_level=True):
        if imported.partition(".")[0] in HEAVY:
            yield node, f"{imported} is imported at the top"


@rule((*OUR_CHARMS, *LIBRARY))
def values_are_frozen(module: Module) -> Iterator[Finding]:
    """What was loaded and computed does not change under its readers."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else None
            if _last(call.func if call else decorator) != "dataclass":
                continue
            options = {each.arg: each.value for each in call.keywords} if call else {}
            if not isinstance(frozen := options.get("frozen"), ast.Constant) or not frozen.value:
                yield node, f"{node.name} is a dataclass and not frozen"


@rule(("onebox/*.py", "onebox/commands/*.py"), exempt=("onebox/pods.py", "onebox/images.py"))
def pods_know_podman(module: Module) -> Iterator[Finding]:
    """Two modules run the engine, for pods and for images; the others say what they want."""
    for node in ast.walk(module.tree):
        arguments: list[ast.expr] = []
        if isinstance(node, ast.List | ast.Tuple):
            arguments = node.elts
        elif isinstance(node, ast.Call) and _last(node.func) != "which":
            arguments = node.args
        for argument in arguments:
            if isinstance(argument, ast.Constant) and argument.value == "podman":
                yield argument, "podman is run outside onebox/pods.py and onebox/images.py"


def _matches(path: str, patterns: Iterable[str]) -> bool:
    depth = path.count("/")
    return any(
        fnmatch.fnmatch(path, pattern) and (pattern.count("/") == depth or pattern.startswith("*"))
        for pattern in patterns
    )


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _imports(tree: ast.Module, *, top_level: bool = False) -> Iterator[tuple[ast.AST, str]]:
    """What a module imports at run time; not what only a type checker sees."""
    todo: list[ast.AST] = [*tree.body]
    while todo:
        node = todo.pop(0)
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node, node.module
        elif isinstance(node, ast.If) and _last(node.test) == "TYPE_CHECKING":
            todo.extend(node.orelse)
        elif not (top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            todo.extend(ast.iter_child_nodes(node))


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _is_text(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_databag(node: ast.expr) -> bool:
    """Whether an expression is a databag, as far as its text tells."""
    text = ast.unparse(node)
    return ".data[" in text or "databag" in text or text.rpartition("_")[2] in {"bag", "bags"}


def _last(node: ast.expr) -> str:
    """The last name of `a.b.c`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
