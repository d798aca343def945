"""The table of kinds and the generator that writes it from a client's sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpbroadcast.event import kinds, kindsgen
from mpbroadcast.event.kinds import KINDS
from mpbroadcast.event.scheme import DEFAULT_SCHEME, TypeMeta

API = """
class FooV1Api(object):
    def read_namespaced_foo(self, name, namespace, **kwargs):
        return self.read_namespaced_foo_with_http_info(name, namespace)

    def read_namespaced_foo_with_http_info(self, name, namespace, **kwargs):
        response_types_map = {200: "V1Foo", 401: None}
        return self.call('/apis/foo.example.com/v1/namespaces/{namespace}/foos/{name}', response_types_map)

    def list_foo(self):
        _map = {"200": "V1FooList"}

    def _list_foo_serialize(self):
        return self.serialize(resource_path="/apis/foo.example.com/v1/foos")

    def read_foo_scale(self):
        return self.call("/apis/foo.example.com/v1/namespaces/{namespace}/foos/{name}/scale", {200: "V1Other"})

    def delete_foo(self):
        return self.call("/apis/foo.example.com/v1/foos/{name}", {200: "V1Status", 202: "V1Status"})

    def get_log(self):
        return self.call("/apis/foo.example.com/v1/log", {200: "str"})
"""


def client(folder, api=API):
    """A client's package with one group."""
    for name in ("api", "models"):
        (folder / "client" / name).mkdir(parents=True)
    (folder / "client" / "api" / "foo_v1_api.py").write_text(api)
    (folder / "client" / "models" / "__init__.py").write_text("from .v1_status import V1Status\n")
    return folder


@pytest.mark.slow
def test_the_table_has_every_kind_of_the_installed_client():
    """It is the union of versions, so it may have more."""
    folder = kindsgen.installed_client()
    if folder is None:
        pytest.skip("the official client is not installed")
    found = kindsgen.client_kinds(folder)
    table = {name: version for version, names in KINDS.items() for name in names.split()}
    assert len(found) > 180
    assert found == {name: table[name] for name in found}


def test_no_class_is_two_kinds():
    names = [name for names in KINDS.values() for name in names.split()]
    assert len(set(names)) == len(names)


def test_the_file_is_what_the_generator_writes():
    assert Path(kinds.__file__).read_text(encoding="utf-8") == kindsgen.table_text(kindsgen.merged(KINDS, {}))


def test_a_client_is_read_from_its_sources(tmp_path):
    expected = {"V1Foo": "foo.example.com/v1", "V1FooList": "foo.example.com/v1", "V1Status": "v1"}
    assert expected == kindsgen.client_kinds(client(tmp_path))


def test_a_class_with_two_versions_stops_the_generator(tmp_path):
    other = API + API.replace("class FooV1Api", "class BarV1Api").replace("foo.example.com/v1", "bar.example.com/v1")
    with pytest.raises(ValueError, match="V1Foo is both"):
        kindsgen.client_kinds(client(tmp_path, other.replace("_namespaced_foo", "_foo", 2)))


def test_check_names_what_is_missing_and_writes_nothing(tmp_path, capsys):
    before = Path(kinds.__file__).read_bytes()
    assert 1 == kindsgen.main(["--check", str(client(tmp_path))])
    assert "2 kinds are missing\n" == capsys.readouterr().out
    assert before == Path(kinds.__file__).read_bytes()


def test_without_a_client_one_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(kindsgen, "installed_client", lambda: None)
    assert 1 == kindsgen.main([])
    assert 1 == capsys.readouterr().err.count("\n")


@pytest.mark.parametrize("version", ["v1", "apps/v1", "batch/v1", "rbac.authorization.k8s.io/v1"])
def test_the_groups_that_everybody_uses_are_there(version):
    assert version in KINDS


def test_kinds_of_both_versions_of_the_client_are_there():
    assert TypeMeta("certificates.k8s.io/v1alpha1", "ClusterTrustBundle") in DEFAULT_SCHEME.find("ClusterTrustBundle")
    assert TypeMeta("certificates.k8s.io/v1", "ClusterTrustBundle") in DEFAULT_SCHEME.find("ClusterTrustBundle")
