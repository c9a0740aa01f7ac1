"""The pages say what the code says: tables drawn from it, documents that apply, links that lead somewhere."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from broker.cli.loader import offered
from broker.northbound import status
from broker.settings.administered import DOCUMENTS, TYPES
from broker.settings.consistency import problems
from broker.settings.folder import read_folder
from broker.settings.present import Administered
from tests.support import administered
from tests.support.generated_docs import ERRORS, PARTS
from tests.support.markdown import ROOT, Block, anchors, blocks, generated, links, pages

ADMINISTRATION = ROOT / "docs" / "administration.md"
EXAMPLES = blocks(ADMINISTRATION, "document")
SCHEMA: dict[str, Any] = json.loads((ROOT / "config" / "schema" / "administered.schema.json").read_text())
GENERATED = [(page, name) for page in pages() for name in generated(page)]
TOGETHER = [block for block in EXAMPLES if block.name != "window"]
"""`window` is the supplier again, as it is during its maintenance."""


def page_name(value: object) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


@pytest.mark.parametrize(("page", "name"), GENERATED, ids=page_name)
def test_what_is_generated_equals_the_code(page: Path, name: str) -> None:
    assert generated(page)[name] == PARTS[name](), "write it anew: python -m tests.support.generated_docs"


def test_every_part_that_can_be_generated_is_on_a_page() -> None:
    assert {name for _, name in GENERATED} == set(PARTS)


def test_every_error_of_the_status_table_is_on_the_page() -> None:
    tree = ast.parse(Path(status.__file__).read_text())
    cases = {
        node.cls.id for node in ast.walk(tree) if isinstance(node, ast.MatchClass) and isinstance(node.cls, ast.Name)
    }
    assert cases
    assert cases <= {type(error).__name__ for error in ERRORS}


def test_every_command_has_a_section() -> None:
    assert {f"spbroker-{name}" for name in offered()} <= anchors(ROOT / "docs" / "cli.md")


@pytest.mark.parametrize("page", pages(), ids=page_name)
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if fragment:
            assert fragment in anchors(target), link


@pytest.mark.parametrize("page", pages(), ids=page_name)
def test_fences_are_closed_and_headings_begin_at_the_first_level(page: Path) -> None:
    text = page.read_text()
    assert text.startswith("# ")
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0
    assert len(re.findall(r"^<!-- (?:run|shown|document): ", text, re.MULTILINE)) == len(
        [block for what in ("run", "shown", "document") for block in blocks(page, what)]
    ), "a marker without its block"


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: str(block.name))
def test_each_example_document_keeps_the_schema(block: Block) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for document in yaml.safe_load_all(block.text):
        validator.validate(document)


def test_every_kind_has_an_example() -> None:
    assert {block.name for block in TOGETHER} == set(TYPES)


@pytest.mark.parametrize("supplier", ["supplier", "window"])
def test_the_example_documents_apply_together(supplier: str, tmp_path: Path) -> None:
    for name in ("upper", "lower"):
        anchor = tmp_path / "anchors" / f"{name}.json"
        anchor.parent.mkdir(exist_ok=True)
        anchor.write_text(json.dumps(administered.anchor(name)))
    authority = tmp_path / "managers" / "alice-ca.pem"
    authority.parent.mkdir()
    authority.write_text(administered.anchor("alice")["ca"])
    for block in EXAMPLES:
        if block.name == supplier or block.name not in ("supplier", "window"):
            (tmp_path / f"{block.name}.yml").write_text(block.text)
    whole = Administered.of(DOCUMENTS.validate_python(list(read_folder(tmp_path).documents)))
    assert problems(whole, "transit") == ()


def test_every_decision_is_in_the_list() -> None:
    folder = ROOT / "docs" / "adr"
    assert set(links(folder / "README.md")) == {f.name for f in folder.glob("0*.md")}


def test_the_licence_is_that_of_the_package() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()
