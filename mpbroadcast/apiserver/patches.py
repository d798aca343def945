"""JSON patch (RFC 6902) and Kubernetes' strategic merge patch, on JSON values. Pure.

An event holds no list, so of the strategic directives only those for maps have work to do: ``$patch`` and
``$retainKeys``. The ones for lists are read and have no effect. Plain merge patches are the store's (`store.merge`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mpbroadcast.apiserver.status import ApiError, bad_request, not_supported

__all__ = ["json_patch", "strategic_merge_patch"]

_DEPTH_LIMIT: Final = 64  # levels; an event has four. Deeper patches would only use up the stack
_OPERATIONS_LIMIT: Final = 10_000  # as in the real server
_COPIED_LIMIT: Final = 3 * 1024 * 1024  # bytes that all copies of one patch may make; each can double what is there
_MAP_DIRECTIVES: Final = {"$patch", "$retainKeys"}
_LIST_DIRECTIVES: Final = ("$setElementOrder/", "$deleteFromPrimitiveList/")
_OPERATION_KEYS: Final = {
    "add": ("value",),
    "remove": (),
    "replace": ("value",),
    "move": ("from",),
    "copy": ("from",),
    "test": ("value",),
}


def strategic_merge_patch(target: object, patch: object, *, depth: int = 0) -> Any:
    """Return the target with a strategic merge patch applied; neither argument is changed.

    Args:
        target: a JSON value.
        patch: a JSON value.
        depth: of this call, for its own use.

    Raises:
        ApiError: 400, a directive that does not exist, or the patch is nested too deeply.
    """
    if not isinstance(patch, Mapping):
        return patch
    if depth > _DEPTH_LIMIT:
        raise bad_request("the patch is nested too deeply")
    directive = patch.get("$patch", "merge")
    if directive == "delete":
        return {}
    if not isinstance(directive, str) or directive not in {"merge", "replace"}:  # a list cannot be looked for in a set
        raise bad_request(f"Unknown patch type found: {str(directive)[:64]}")
    merged = _kept(target if directive == "merge" and isinstance(target, Mapping) else {}, patch)
    for key, value in patch.items():
        if key in _MAP_DIRECTIVES or key.startswith(_LIST_DIRECTIVES):
            continue
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = strategic_merge_patch(merged.get(key), value, depth=depth + 1)
    return merged


def _kept(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of the target is there to be merged into."""
    retained = patch.get("$retainKeys")
    if retained is None:
        return dict(target)
    if not isinstance(retained, list):
        raise bad_request("$retainKeys is no list")
    return {key: value for key, value in target.items() if key in retained}


def json_patch(target: Any, operations: object) -> Any:
    """Return the target with a JSON patch applied; the target is not changed.

    Raises:
        ApiError: 400 for what is no JSON patch, 413 for one that is too large, 422 for one that cannot be carried out
            (a missing path, a test that fails).
    """
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    if len(operations) > _OPERATIONS_LIMIT:
        message = f"The allowed maximum operations in a JSON patch is {_OPERATIONS_LIMIT}, got {len(operations)}"
        raise ApiError(413, "RequestEntityTooLarge", message)
    document = [orjson.loads(orjson.dumps(target))]  # a copy, in a box, so that the whole can be replaced too
    copied = 0
    for operation in operations:
        copied += _apply(document, operation)
        if copied > _COPIED_LIMIT:
            raise ApiError(413, "RequestEntityTooLarge", "the copies in the JSON patch are too large")
    return document[0]


def _apply(document: list[Any], operation: object) -> int:
    """Carry out one operation; return how many bytes it copied."""
    name, pointers, value = _read_operation(operation)
    path = pointers[0]
    match name:
        case "add":
            _add(document, path, value)
        case "remove":
            _remove(document, path)
        case "replace":
            _remove(document, path)
            _add(document, path, value)
        case "test":
            if not _same(_get(document, path), value):
                raise not_supported(f"testing value /{'/'.join(path)[:256]} failed")
        case "move":
            _add(document, path, _remove(document, pointers[1]))
        case _:
            encoded = orjson.dumps(_get(document, pointers[1]))
            _add(document, path, orjson.loads(encoded))
            return len(encoded)
    return 0


def _read_operation(operation: object) -> tuple[str, list[list[str]], Any]:
    """Return an operation's name, the places it speaks of (``path``, then ``from``), and its value."""
    if not isinstance(operation, Mapping):
        raise bad_request("an operation of the JSON patch is no object")
    name = operation.get("op")
    if not isinstance(name, str) or name not in _OPERATION_KEYS:
        raise bad_request(f"the JSON patch has an unknown operation: {str(name)[:64]}")
    keys = ("path", *_OPERATION_KEYS[name])
    for key in keys:
        if key not in operation or (key != "value" and not isinstance(operation[key], str)):
            raise bad_request(f"the operation {name!r} of the JSON patch has no {key!r}")
    return name, [_pointer(operation[key]) for key in keys if key != "value"], operation.get("value")


def _same(one: Any, other: Any) -> bool:
    """Compare as JSON does: to Python, true is 1."""
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)


def _pointer(text: str) -> list[str]:
    """Read a JSON pointer (RFC 6901)."""
    if text and not text.startswith("/"):
        raise bad_request(f"no JSON pointer: {text[:256]!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _missing(part: str) -> ApiError:
    return not_supported(f"the path of the JSON patch does not exist at {part[:256]!r}")


def _index(items: list[Any], part: str, *, adding: bool = False) -> int:
    if adding and part == "-":
        return len(items)
    if not part.isascii() or not part.isdigit() or len(part) > 9 or int(part) >= len(items) + adding:
        raise _missing(part)
    return int(part)


def _child(parent: Any, part: str) -> Any:
    if isinstance(parent, dict) and part in parent:
        return parent[part]
    if isinstance(parent, list):
        return parent[_index(parent, part)]
    raise _missing(part)


def _get(document: list[Any], path: list[str]) -> Any:
    value = document[0]
    for part in path:
        value = _child(value, part)
    return value


def _add(document: list[Any], path: list[str], value: Any) -> None:
    if not path:
        document[0] = value
        return
    parent = _get(document, path[:-1])
    if isinstance(parent, dict):
        parent[path[-1]] = value
    elif isinstance(parent, list):
        parent.insert(_index(parent, path[-1], adding=True), value)
    else:
        raise _missing(path[-1])


def _remove(document: list[Any], path: list[str]) -> Any:
    if not path:
        removed, document[0] = document[0], None
        return removed
    parent = _get(document, path[:-1])
    removed = _child(parent, path[-1])
    if isinstance(parent, dict):
        del parent[path[-1]]
    else:
        del parent[_index(parent, path[-1])]
    return removed
