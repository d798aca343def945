"""Any API object to an `ObjectReference` (R2). Runs in: the recording process, for every event.

How an object of a class is read is decided once per class: a model of the official client (36 and its pydantic
successor 37 keep their fields in different places), a mapping (a dict, a Kopf body), an object of kr8s, lightkube or
``kubernetes.dynamic``, or anything else that has ``metadata``. No client is imported for that.

The order of the checks is client-go's: no object, a reference, the metadata, the kind; an object that says nothing of
its kind and version is looked up in the scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from mpbroadcast.errors import NilObject, NoReference, NoSchemeError
from mpbroadcast.event.parts import ObjectReference

if TYPE_CHECKING:
    from mpbroadcast.event.scheme import Scheme

__all__ = ["get_partial_reference", "get_reference"]

_Reader = Callable[[Any, "Scheme | None"], ObjectReference]

_READERS: Final[dict[type, _Reader]] = {}
_READERS_LIMIT: Final = 1024  # classes made on the fly must not stay for ever

_new_tuple = tuple.__new__
_join = "".join
_FIELDS: Final = ("kind", "metadata.namespace", "metadata.name", "metadata.uid", "apiVersion", "resourceVersion")
_NAMELESS: Final = ("", "", "", "")
_NO_METADATA: Final[Mapping[str, Any]] = {}
_HINT: Final = "give an ObjectReference, a mapping with apiVersion, kind and metadata, or an object of a client"


def get_reference(obj: Any, scheme: Scheme | None = None) -> ObjectReference:
    """Make a reference to an API object.

    Does not block; safe in any thread. Nothing but the names is checked, and these only for being strings: what the
    API server would refuse can be referred to, as in client-go. What is missing or None is empty.

    Args:
        obj: an `ObjectReference`, which is given back as it is; a mapping with ``apiVersion``, ``kind`` and
            ``metadata``; a model of the official client; an object of kr8s, lightkube or ``kubernetes.dynamic``; or
            what has these attributes. A mapping without metadata but with a name is taken for a reference.
        scheme: where the kind and version of an object is looked up by its class, when it has neither.

    Raises:
        NilObject: the object is None.
        NoSchemeError: the object says nothing of its kind, and there is no scheme.
        NotRegistered: the object says nothing of its kind, and the scheme does not know its class.
        NoReference: something else, such as a name that is no string; with one line.
    """
    cls = type(obj)
    if cls is ObjectReference:
        return obj  # type: ignore[no-any-return]
    reader = _READERS.get(cls)
    try:
        return reader(obj, scheme) if reader is not None else _classify(cls)(obj, scheme)
    except NoReference:
        raise
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise NoReference(f"the object, a {cls.__qualname__}, cannot be read: {text:.200}") from error


def get_partial_reference(obj: Any, scheme: Scheme | None, field_path: str) -> ObjectReference:
    """Make a reference to a part of an API object, such as ``spec.containers{app}``.

    Unlike client-go's it never changes a reference that it is given (W42).

    Raises:
        NoReference: as with `get_reference`.
    """
    if not isinstance(field_path, str):
        raise NoReference(f"the field path is {type(field_path).__name__}, not a string")
    return get_reference(obj, scheme)._replace(field_path=field_path)


# --- putting a reference together ------------------------------------------------------------------------------------


def _wrong_field(values: tuple[Any, ...]) -> NoReference:
    for name, value in zip(_FIELDS, values, strict=False):
        if not isinstance(value, str):
            return NoReference(f"the object's {name} is {type(value).__name__}, not a string")
    raise AssertionError("all fields are strings")


def _group_version(api_version: str) -> str:
    """What Go makes of an ``apiVersion``: nothing of one with two slashes, no group of one that begins with it."""
    if api_version.count("/") > 1 or api_version == "/":
        return ""
    return api_version.removeprefix("/")


@lru_cache(maxsize=1024)
def _is_odd(api_version: Any) -> bool:
    """Whether an ``apiVersion`` is not to be taken as it is."""
    return not isinstance(api_version, str) or _group_version(api_version) != api_version


def _type_of(cls: type, kind: Any, api_version: Any, scheme: Scheme | None) -> tuple[str, str]:
    """The kind and version of an object: its own, else its class's (lightkube), else the scheme's."""
    if isinstance(api_version, str):
        api_version = _group_version(api_version)
    if kind or api_version:
        return kind or "", api_version or ""
    resource = getattr(getattr(cls, "_api_info", None), "resource", None)
    if resource is not None:
        return str(resource.kind), f"{resource.group}/{resource.version}" if resource.group else str(resource.version)
    if scheme is None:
        raise NoSchemeError
    api_version, kind = scheme.kinds(cls)[0]
    return kind, api_version


def _reference(kind: Any, api_version: Any, names: tuple[Any, Any, Any, Any]) -> ObjectReference:
    """Put a reference together; the names are namespace, name, uid and resource version, any of them None."""
    namespace, name, uid, version = names
    values = (kind or "", namespace or "", name or "", uid or "", api_version or "", version or "", "")
    try:
        _join(values)  # the fastest way to ask whether all are strings
    except TypeError:
        raise _wrong_field(values) from None
    return _new_tuple(ObjectReference, values)


# --- readers ---------------------------------------------------------------------------------------------------------


def _nil(obj: Any, scheme: Scheme | None) -> ObjectReference:  # noqa: ARG001 - a reader
    raise NilObject


def _as_it_is(obj: Any, scheme: Scheme | None) -> ObjectReference:  # noqa: ARG001 - a reader
    return obj  # type: ignore[no-any-return]


def _pydantic_model(obj: Any, scheme: Scheme | None) -> ObjectReference:
    """A model of the client's versions from 37 on. Its fields are what its ``__dict__`` holds."""
    fields = obj.__dict__
    kind, api_version, metadata = fields["kind"], fields["api_version"], fields["metadata"]
    if not kind and not api_version and scheme is not None:
        api_version, kind = scheme.kinds(type(obj))[0]
    elif not api_version or _is_odd(api_version):
        kind, api_version = _type_of(type(obj), kind, api_version, scheme)
    if metadata is None:
        return _reference(kind, api_version, _NAMELESS)
    try:
        meta = metadata.__dict__
        values = (
            kind or "",
            meta["namespace"] or "",
            meta["name"] or "",
            meta["uid"] or "",
            api_version or "",
            meta["resource_version"] or "",
            "",
        )
    except (AttributeError, KeyError):  # a list's metadata, or none of the client's
        return _reference(kind, api_version, _names(metadata))
    try:
        _join(values)
    except TypeError:
        raise _wrong_field(values) from None
    return _new_tuple(ObjectReference, values)


def _property_model(obj: Any, scheme: Scheme | None) -> ObjectReference:
    """A model of the client's versions up to 36. Its properties take three times as long as what is behind them."""
    kind, api_version, metadata = obj._kind, obj._api_version, obj._metadata  # noqa: SLF001
    if not kind and not api_version and scheme is not None:
        api_version, kind = scheme.kinds(type(obj))[0]
    elif not api_version or _is_odd(api_version):
        kind, api_version = _type_of(type(obj), kind, api_version, scheme)
    if metadata is None:
        return _reference(kind, api_version, _NAMELESS)
    try:
        values = (
            kind or "",
            metadata._namespace or "",  # noqa: SLF001
            metadata._name or "",  # noqa: SLF001
            metadata._uid or "",  # noqa: SLF001
            api_version or "",
            metadata._resource_version or "",  # noqa: SLF001
            "",
        )
    except AttributeError:  # a list's metadata, or none of the client's
        return _reference(kind, api_version, _names(metadata))
    try:
        _join(values)
    except TypeError:
        raise _wrong_field(values) from None
    return _new_tuple(ObjectReference, values)


def _reference_model(obj: Any, scheme: Scheme | None) -> ObjectReference:  # noqa: ARG001 - a reader
    """The client's ``V1ObjectReference``: taken as it is, like our own."""
    reference = _reference(obj.kind, obj.api_version, (obj.namespace, obj.name, obj.uid, obj.resource_version))
    return reference._replace(field_path=obj.field_path or "")


def _names(metadata: Any) -> tuple[Any, Any, Any, Any]:
    """Namespace, name, uid and resource version in metadata of any make."""
    if isinstance(metadata, Mapping):
        version = metadata.get("resourceVersion") or metadata.get("resource_version")
        return metadata.get("namespace"), metadata.get("name"), metadata.get("uid"), version
    if isinstance(metadata, (str, bytes, int, float, list, tuple)):
        raise NoReference(f"the object's metadata is {type(metadata).__name__}, not a mapping")
    version = getattr(metadata, "resourceVersion", None) or getattr(metadata, "resource_version", None)
    name = getattr(metadata, "name", None)
    return getattr(metadata, "namespace", None), name, getattr(metadata, "uid", None), version


def _dict(obj: Any, scheme: Scheme | None) -> ObjectReference:
    """The usual dict: everything is there. Any other one is read like any mapping."""
    try:
        metadata = obj["metadata"]
        values = (
            obj["kind"],
            metadata["namespace"],
            metadata["name"],
            metadata["uid"],
            obj["apiVersion"],
            metadata["resourceVersion"],
            "",
        )
        _join(values)
    except (KeyError, TypeError):
        return _mapping(obj, scheme)
    api_version = values[4]
    return _mapping(obj, scheme) if not api_version or _is_odd(api_version) else _new_tuple(ObjectReference, values)


def _mapping(obj: Any, scheme: Scheme | None) -> ObjectReference:
    get = obj.get
    kind, api_version, metadata = get("kind"), get("apiVersion"), get("metadata")
    if not kind or not api_version or _is_odd(api_version):
        kind, api_version = _mapping_type(obj, kind, api_version, scheme)
    if type(metadata) is not dict:
        if metadata is None:
            return _bare_mapping(obj, kind, api_version)
        return _reference(kind, api_version, _names(metadata))
    get = metadata.get
    values = (
        kind,
        get("namespace") or "",
        get("name") or "",
        get("uid") or "",
        api_version,
        get("resourceVersion") or get("resource_version") or "",
        "",
    )
    try:
        _join(values)
    except TypeError:
        raise _wrong_field(values) from None
    return _new_tuple(ObjectReference, values)


def _mapping_type(obj: Any, kind: Any, api_version: Any, scheme: Scheme | None) -> tuple[str, str]:
    api_version = api_version or obj.get("api_version")  # the client's to_dict() spells it like that
    if isinstance(api_version, str):
        api_version = _group_version(api_version)
    if kind or api_version:
        return kind or "", api_version or ""
    cls = type(obj)
    if hasattr(cls, "_api_info") or (scheme is not None and cls in scheme):
        return _type_of(cls, None, None, scheme)
    if scheme is None:
        raise NoSchemeError
    raise NoReference(f"the object, a {cls.__qualname__}, has neither kind nor apiVersion: {_HINT}")


def _bare_mapping(obj: Any, kind: str, api_version: str) -> ObjectReference:
    """A mapping without metadata: one like ``involvedObject`` or an owner reference where it has a name."""
    if not obj.get("name"):
        return _reference(kind, api_version, _NAMELESS)
    reference = _reference(kind, api_version, _names(obj))
    field_path = obj.get("fieldPath") or ""
    if not isinstance(field_path, str):
        raise NoReference(f"the object's fieldPath is {type(field_path).__name__}, not a string")
    return reference._replace(field_path=field_path)


def _raw(obj: Any, scheme: Scheme | None) -> ObjectReference:
    """An object of kr8s: its ``raw`` mapping says it all, with the kind of its class put in."""
    return _mapping(obj.raw, scheme)


def _resource_field(obj: Any, scheme: Scheme | None) -> ObjectReference:
    """An object of ``kubernetes.dynamic``: fields in a ``__dict__``, as JSON names them."""
    fields = getattr(obj, "attributes", None) if "attributes" in obj.__dict__ else obj
    body = dict(fields.__dict__)
    metadata = body.get("metadata")
    if hasattr(metadata, "__dict__"):
        body["metadata"] = dict(metadata.__dict__)
    return _mapping(body, scheme)


def _attributes(obj: Any, scheme: Scheme | None) -> ObjectReference:
    """Anything else with ``metadata``: lightkube's resources, a program's own classes."""
    metadata = getattr(obj, "metadata", None)
    cls = obj.__class__
    if metadata is None:
        # A class that has metadata is an object's, also where this one has none yet.
        known = hasattr(obj, "metadata") or hasattr(cls, "_api_info") or (scheme is not None and cls in scheme)
        if not known:
            raise NoReference(f"the object, a {type(obj).__qualname__}, has no metadata: {_HINT}")
        metadata = _NO_METADATA
    api_version = getattr(obj, "apiVersion", None) or getattr(obj, "api_version", None)
    kind, api_version = _type_of(cls, getattr(obj, "kind", None), api_version, scheme)
    return _reference(kind, api_version, _names(metadata))


def _class_itself(obj: Any, scheme: Scheme | None) -> ObjectReference:  # noqa: ARG001 - a reader
    raise NoReference(f"the class {obj.__qualname__} itself, not an object of it: {_HINT}")


# --- which reader ----------------------------------------------------------------------------------------------------


def _classify(cls: type) -> _Reader:
    reader = _reader_for(cls)
    if len(_READERS) >= _READERS_LIMIT:
        _READERS.clear()
    _READERS[cls] = reader
    return reader


def _reader_for(cls: type) -> _Reader:
    if cls is type(None):
        return _nil
    if issubclass(cls, ObjectReference):
        return _as_it_is
    if issubclass(cls, type):
        return _class_itself
    if issubclass(cls, Mapping):
        return _dict if cls is dict else _mapping
    if cls.__name__ in {"ResourceInstance", "ResourceField"} and ".dynamic" in str(cls.__module__):
        return _resource_field
    if isinstance(getattr(cls, "raw", None), property) and hasattr(cls, "kind") and hasattr(cls, "version"):
        return _raw
    return _model_reader(cls) or _attributes


def _model_reader(cls: type) -> _Reader | None:
    """How a class that the client's generator wrote is read; None for any other."""
    fields = getattr(cls, "openapi_types", None)
    if not isinstance(fields, dict) or not {"kind", "api_version"} <= fields.keys():
        return None
    if "metadata" not in fields:
        return _reference_model if {"field_path", "resource_version", "uid"} <= fields.keys() else None
    if isinstance(getattr(cls, "metadata", None), property):
        return _property_model
    return _pydantic_model if hasattr(cls, "model_fields") else None
