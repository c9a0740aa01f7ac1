"""A folder of documents: read with lines, anchors from files, faults located, written so that it reads again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker.settings.administered import DOCUMENTS, plain
from broker.settings.folder import read_folder, write_folder
from service_model.yaml_lines import DocumentRefused
from tests.support import administered as docs

SUPPLIER = """\
kind: supplier
name: lower
sp_id: lower
endpoint: lower.example:7444
anchor: {file: keys/lower.json}
account: transit
"""


def put(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def refused(folder: Path) -> list[str]:
    with pytest.raises(DocumentRefused) as caught:
        read_folder(folder)
    return [str(error).replace(f"{folder}/", "") for error in caught.value.errors]


def test_every_document_below_the_folder_is_read_in_the_order_of_paths(tmp_path: Path) -> None:
    put(tmp_path, "b.yaml", "kind: place\nname: p3\ncountry: CH\n")
    put(tmp_path, "a/two.yml", "kind: place\nname: p1\ncountry: CH\n---\nkind: place\nname: p2\ncountry: CH\n---\n")
    put(tmp_path, "readme.txt", "not a document")
    folder = read_folder(tmp_path)
    assert [d["name"] for d in folder.documents] == ["p1", "p2", "p3"]
    assert folder.where("place", "p2") == (str(tmp_path / "a/two.yml"), 5)
    assert folder.where("place", "p9") is None


def test_one_file_may_be_given_instead_of_a_folder(tmp_path: Path) -> None:
    put(tmp_path, "a.yml", "kind: place\nname: p1\ncountry: CH\n")
    assert [d["name"] for d in read_folder(tmp_path / "a.yml").documents] == ["p1"]


def test_an_anchor_is_read_from_its_file_beside_the_document(tmp_path: Path) -> None:
    put(tmp_path, "partners/lower.yml", SUPPLIER)
    put(tmp_path, "partners/keys/lower.json", json.dumps(docs.anchor("lower")))
    [document] = read_folder(tmp_path).documents
    assert document["anchor"] == docs.anchor("lower")
    DOCUMENTS.validate_python([document])


def test_an_anchor_that_cannot_be_read_is_told_with_its_line(tmp_path: Path) -> None:
    put(tmp_path, "lower.yml", SUPPLIER)
    missing = "lower.yml:5: anchor.file: cannot read keys/lower.json: No such file or directory"
    assert refused(tmp_path) == [missing]
    put(tmp_path, "keys/lower.json", "{")
    assert refused(tmp_path) == ["lower.yml:5: anchor.file: keys/lower.json is not JSON"]
    put(tmp_path, "keys/lower.json", json.dumps({**docs.anchor("lower"), "ca": "x"}))
    assert refused(tmp_path) == ["lower.yml:5: anchor: not the certificate (PEM) of an authority"]
    put(tmp_path, "lower.yml", SUPPLIER.replace("{file: keys/lower.json}", "{file: a.json, sp_id: x}"))
    assert refused(tmp_path) == ["lower.yml:5: anchor: either the anchor's own fields or {file: anchor.json}"]


MANAGER = """\
kind: manager
name: acme
endpoint: manager.example:7443
decides: [PLACE]
ca: {file: keys/acme.pem}
"""


def test_the_authority_of_a_manager_is_read_from_its_file_beside_the_document(tmp_path: Path) -> None:
    put(tmp_path, "managers/acme.yml", MANAGER)
    put(tmp_path, "managers/keys/acme.pem", docs.anchor("acme")["ca"])
    [document] = read_folder(tmp_path).documents
    assert document["ca"] == docs.anchor("acme")["ca"]
    DOCUMENTS.validate_python([document])


def test_an_authority_that_cannot_be_read_is_told_with_its_line(tmp_path: Path) -> None:
    put(tmp_path, "acme.yml", MANAGER)
    assert refused(tmp_path) == ["acme.yml:5: ca.file: cannot read keys/acme.pem: No such file or directory"]
    put(tmp_path, "keys/acme.pem", "Grüße")
    assert refused(tmp_path) == ["acme.yml:5: ca.file: keys/acme.pem is not PEM"]
    put(tmp_path, "keys/acme.pem", "x")
    assert refused(tmp_path) == ["acme.yml:5: ca: not the certificate (PEM) of an authority"]
    put(tmp_path, "acme.yml", MANAGER.replace("{file: keys/acme.pem}", "{file: a.pem, name: x}"))
    assert refused(tmp_path) == ["acme.yml:5: ca: either the PEM itself or {file: ca.pem}"]


def test_everything_wrong_in_all_files_is_told_with_file_line_and_field(tmp_path: Path) -> None:
    put(tmp_path, "a.yml", "kind: place\nname: p1\ncountry: CH\ncolour: red\n---\nkind: place\nname: p2\n")
    put(tmp_path, "b.yml", "kind: pool\nname: v4\nprefix: 10.0.0.1/16\nblock: 24\n---\nkind: routers\nname: r\n")
    put(tmp_path, "c.yml", "kind: place\nname: [\n")
    put(tmp_path, "d.yml", "- a list\n---\nkind: place\nname: p1\ncountry: CH\n")
    found = refused(tmp_path)
    assert found[:2] == ["a.yml:4: colour: unknown field", "a.yml:6: country: a required field is missing"]
    assert found[2] == "b.yml:3: prefix: not an IP prefix such as 192.0.2.0/24, without host bits"
    assert found[3].startswith("b.yml:6: kind: not one of place, interconnect,")
    assert found[4].startswith("c.yml:3: not YAML")
    assert found[5] == "d.yml:1: a document is a mapping of fields, first `kind` and `name`"
    assert found[6] == "d.yml:4: name: a second place 'p1', the first is in a.yml:1"
    assert len(found) == 7


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path) == [f"{tmp_path}:1: no documents: files end in .yaml or .yml"]
    assert refused(tmp_path / "none") == [f"{tmp_path}/none:1: there is no such file or folder"]


def test_what_only_the_node_finds_is_shown_at_its_line(tmp_path: Path) -> None:
    put(tmp_path, "a.yml", "# a comment\nkind: place\nname: p1\ncountry: CH\ntags:\n  - a\n  - b\n")
    folder = read_folder(tmp_path)
    file = tmp_path / "a.yml"
    assert folder.located("place", "p1", "tags[1]: not known") == f"{file}:7: tags[1]: not known"
    assert folder.located("place", "p1", "tags[9].x: not known") == f"{file}:5: tags[9].x: not known"
    assert folder.located("place", "p1", "used: by somebody") == f"{file}:2: used: by somebody"
    assert folder.located("place", "p2", "name: missing") == "place p2: name: missing"


def test_what_is_written_reads_back_as_the_same_documents(tmp_path: Path) -> None:
    documents = DOCUMENTS.validate_python(docs.everything())
    files = write_folder(tmp_path / "out", [plain(d) for d in documents])
    assert [f.name for f in files] == [
        "places.yml",
        "interconnects.yml",
        "pools.yml",
        "agreements.yml",
        "accounts.yml",
        "suppliers.yml",
        "domains.yml",
        "functions.yml",
    ]
    again = DOCUMENTS.validate_python(read_folder(tmp_path / "out").documents)
    assert sorted(again, key=lambda d: (d.kind, d.name)) == sorted(documents, key=lambda d: (d.kind, d.name))
