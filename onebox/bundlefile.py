"""Read a bundle and its overlays, and merge them by Juju's rules; every value keeps its line.

What the merged bundle means is for `bundles` to say.
"""

from __future__ import annotations

import base64
import dataclasses
import pathlib
import re
import typing
from collections.abc import Iterator, Sequence

import msgspec
import yaml

FIELDS: dict[str, typing.Any] = {
    "charm": str,
    "channel": str,
    "revision": int,
    "base": str,
    "resources": dict[str, str],
    "num_units": int,
    "scale": int,
    "expose": bool,
    "options": dict[str, typing.Any],
    "annotations": dict[str, str],
    "storage": dict[str, str],
    "trust": bool,
}
"""Fields of an application that onebox acts on (juju/charm v12 ``ApplicationSpec``)."""

IGNORED = {"description", "tags", "default-base"}
"""Fields of a bundle that tell people something, and the base, which is the images' here."""

SECTIONS = {"applications": "mapping", "relations": "list"}


class BundleError(ValueError):
    """A bundle that cannot be deployed; ``problems`` has one line per fault."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("the bundle cannot be deployed:\n  " + "\n  ".join(self.problems))


class Located(dict[str, typing.Any]):
    """A mapping from a file; ``places`` says where each key was written."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, str] = {}

    def put(self, key: str, value: typing.Any, place: str) -> None:
        """Set a key and remember where its value comes from."""
        self[key] = value
        self.places[key] = place

    def drop(self, key: str) -> None:
        """Forget a key, if it is there."""
        self.pop(key, None)
        self.places.pop(key, None)


class _Rows(list[typing.Any]):
    """A list from a file, with the place of each item."""

    def __init__(self, items: Sequence[typing.Any], places: Sequence[str]) -> None:
        super().__init__(items)
        self.places = list(places)


class _Loader(yaml.SafeLoader):
    file = ""

    def place(self, node: yaml.Node) -> str:
        return f"{self.file}:{node.start_mark.line + 1}"


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Located:
    loader.flatten_mapping(node)
    found = Located()
    for key_node, value_node in node.value:
        key = str(loader.construct_object(key_node, deep=True))
        if key in found:
            raise yaml.MarkedYAMLError(
                f'key "{key}" is set twice', problem_mark=key_node.start_mark
            )
        found.put(key, loader.construct_object(value_node, deep=True), loader.place(key_node))
    return found


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> _Rows:
    items = [loader.construct_object(item, deep=True) for item in node.value]
    return _Rows(items, [loader.place(item) for item in node.value])


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:seq", _sequence)


@dataclasses.dataclass
class Bundle:
    """A bundle with its overlays merged in.

    Attributes:
        applications: by name, the fields of `FIELDS` that were given; paths of charms absolute.
        places: where each application was first named.
        relations: pairs of ``application`` or ``application:endpoint``, and their places.
        problems: what was wrong already while reading.
    """

    applications: dict[str, Located] = dataclasses.field(default_factory=dict)
    places: dict[str, str] = dataclasses.field(default_factory=dict)
    relations: list[tuple[list[str], str]] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    def problem(self, place: str, text: str) -> None:
        """Note a fault."""
        self.problems.append(f"{place}: {text}")


def load(path: pathlib.Path, overlays: Sequence[pathlib.Path] = ()) -> Bundle:
    """Read a bundle and lay its overlays over it, by the rules of juju/charm v12 ``overlay.go``.

    A file may hold several documents; all but the bundle's first are overlays. A path of a charm
    is relative to the file that names it.

    Raises:
        BundleError: a file cannot be read or is not YAML.
    """
    bundle = Bundle()
    first = True
    for file in (path, *overlays):
        for document in _documents(file):
            _merge(bundle, document, file, first=first)
            first = False
    if not bundle.applications:
        bundle.problem(str(path), "at least one application must be specified")
    return bundle


def _documents(path: pathlib.Path) -> Iterator[Located]:
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError([f"{path}: cannot be read: {error}"]) from None
    except yaml.YAMLError as error:
        raise BundleError([f"{path}: {error}"]) from None
    loader.file = str(path)
    try:
        while loader.check_data():
            document = loader.get_data()
            if document is not None and not isinstance(document, Located):
                raise BundleError([f"{path}: expected a mapping with applications and relations"])
            yield document or Located()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        text = error.problem or error.context
        raise BundleError([f"{path}:{line}: malformed YAML: {text}"]) from None
    finally:
        loader.dispose()


def _merge(bundle: Bundle, document: Located, file: pathlib.Path, *, first: bool) -> None:
    for key, value in document.items():
        place = document.places[key]
        if key == "applications" and isinstance(value, Located):
            _merge_applications(bundle, value, file, first=first)
        elif key == "relations" and isinstance(value, _Rows):
            _append_relations(bundle, value)
        elif key in {"applications", "relations"}:
            if value is not None:
                bundle.problem(place, f"{key} is not a {SECTIONS[key]}")
        elif key == "bundle":
            if value != "kubernetes":
                bundle.problem(place, f'bundle has an invalid type "{value}", not "kubernetes"')
        elif key not in IGNORED:
            bundle.problem(place, f'unknown field "{key}", or one that onebox does not have')


def _append_relations(bundle: Bundle, rows: _Rows) -> None:
    for pair, place in zip(rows, rows.places, strict=True):
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(s, str) for s in pair):
            bundle.relations.append((list(pair), place))
        else:
            bundle.problem(place, f"relation {pair} is not a list of two endpoints")


def _merge_applications(
    bundle: Bundle, section: Located, file: pathlib.Path, *, first: bool
) -> None:
    for name, fields in section.items():
        if fields is None and not first:
            _remove(bundle, name)
        elif isinstance(fields, Located):
            bundle.places.setdefault(name, section.places[name])
            known = bundle.applications.setdefault(name, Located())
            _merge_application(known, _checked(bundle, name, fields, file))
        else:
            bundle.problem(section.places[name], f'application "{name}" has no body')


def _remove(bundle: Bundle, name: str) -> None:
    """Take out an application, with its relations: an overlay names it with an empty value."""
    bundle.applications.pop(name, None)
    bundle.places.pop(name, None)
    bundle.relations = [
        (pair, place)
        for pair, place in bundle.relations
        if name not in {side.partition(":")[0] for side in pair}
    ]


def _merge_application(known: Located, fields: Located) -> None:
    """Merge as Juju does: mappings by key (empty clears, null deletes), all else replaces."""
    for field, value in fields.items():
        place = fields.places[field]
        if value is None:
            known.drop(field)
        elif isinstance(value, Located) and value and isinstance(known.get(field), Located):
            for key, item in value.items():
                if item is None:
                    known[field].drop(key)
                else:
                    known[field].put(key, item, value.places[key])
        else:
            known.put(field, value, place)


def _checked(bundle: Bundle, name: str, fields: Located, file: pathlib.Path) -> Located:
    """Return the fields that have the right type, ``scale`` as ``num_units``, paths absolute."""
    found = Located()
    for field, value in fields.items():
        place = fields.places[field]
        fault = _fault(field, value)
        if fault:
            bundle.problem(place, f'application "{name}": {fault}')
        else:
            found.put(field, value, place)
    if found.get("scale") and found.get("num_units"):
        text = f'cannot specify both scale and num_units for application "{name}"'
        bundle.problem(found.places["scale"], text)
    if "scale" in found:
        found.put("num_units", found["scale"], found.places["scale"])
        found.drop("scale")
    if str(found.get("charm", "")).startswith("."):
        found["charm"] = str((file.parent / found["charm"]).resolve())
    for key, value in (found.get("options") or {}).items():
        found["options"][key] = _included(bundle, found["options"].places[key], value, file)
    return found


def _fault(field: str, value: typing.Any) -> str:
    if field not in FIELDS:
        return f'unknown field "{field}", or one that onebox does not have'
    present = value
    if isinstance(value, Located):
        present = {key: item for key, item in value.items() if item is not None}
    try:
        msgspec.convert(present, FIELDS[field] | None)
    except msgspec.ValidationError as error:
        return f'"{field}": {error}'
    return ""


def _included(bundle: Bundle, place: str, value: typing.Any, file: pathlib.Path) -> typing.Any:
    """Follow ``include-file://`` and ``include-base64://``, relative to the file that has it."""
    match = (
        re.fullmatch(r"include-(file|base64)://(.+)", value) if isinstance(value, str) else None
    )
    if match is None:
        return value
    try:
        data = (file.parent / match[2]).read_bytes()
        return base64.b64encode(data).decode() if match[1] == "base64" else data.decode()
    except (OSError, UnicodeDecodeError) as error:
        bundle.problem(place, f'cannot include "{match[2]}": {error}')
        return ""
