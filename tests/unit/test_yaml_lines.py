"""Documents are read with their lines, and what could hurt is refused before it is built."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service_model.spec import SPEC
from service_model.yaml_faults import document_errors
from service_model.yaml_lines import (
    MAX_ALIASES,
    MAX_BYTES,
    MAX_DEPTH,
    DocumentError,
    DocumentRefused,
    field_text,
    load_document,
    load_documents,
)


def refused(text: str | bytes) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        load_documents(text, "order.yml")
    return caught.value


def test_everything_has_the_line_and_column_of_its_key_or_item() -> None:
    document = load_document("# a comment\nname: x\nends:\n  - id: a\n    sap: s\n  - {id: b}\n", "f")
    assert document.data == {"name": "x", "ends": [{"id": "a", "sap": "s"}, {"id": "b"}]}
    assert document.positions[("ends",)] == (3, 1)
    assert document.positions[("ends", 0)] == (4, 5)
    assert document.positions[("ends", 0, "sap")] == (5, 5)
    assert document.positions[("ends", 1, "id")] == (6, 6)
    assert document.line(("ends", 1, "sap", "deeper")) == 6


def test_an_error_reads_as_file_line_field_and_reason() -> None:
    error = load_document("a:\n  - b: 1\n", "f.yml").error(("a", 0, "b"), "wrong")
    assert str(error) == "f.yml:2: a[0].b: wrong"
    assert str(DocumentError("f.yml", 3, "", "wrong")) == "f.yml:3: wrong"


def test_errors_are_told_once_each_in_the_order_of_their_lines() -> None:
    late, early = DocumentError("f", 9, "z", "r"), DocumentError("f", 2, "a", "r")
    assert DocumentRefused((late, early, late)).errors == (early, late)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("1.5", 1.5),
        ("true", True),
        ("~", None),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("0x10", "0x10"),
        ("007", "007"),
        ("2026-01-31", "2026-01-31"),
        ("'1'", "1"),
        ("1e5", "1e5"),
    ],
)
def test_a_plain_scalar_is_what_json_would_have_and_text_otherwise(text: str, value: object) -> None:
    read = load_document(f"a: {text}", "f").data["a"]
    assert read == value
    assert type(read) is type(value)


def test_the_text_of_a_number_is_kept_as_it_was_written() -> None:
    assert load_document("version: 1.10", "f").written[("version",)] == "1.10"


def test_keys_are_text_whatever_they_look_like() -> None:
    assert load_document("{80: a, true: b}", "f").data == {"80": "a", "true": "b"}


def test_several_documents_are_read_and_empty_ones_left_out() -> None:
    documents = load_documents("a: 1\n---\n---\nb: 2\n", "f")
    assert [d.data for d in documents] == [{"a": 1}, {"b": 2}]
    assert documents[1].line(("b",)) == 4


def test_one_document_is_asked_for_and_none_or_two_are_refused() -> None:
    with pytest.raises(DocumentError, match="f:1: the file is empty"):
        load_document("# nothing\n", "f")
    with pytest.raises(DocumentError, match="f:3: a second document"):
        load_document("a: 1\n---\nb: 2\n", "f")


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "duplicate key 'a', first in line 1"),
        ("a: 1\nx:\n  y: {k: 1, k: 2}", 3, "duplicate key 'k', first in line 3"),
        ("a: 'x\n", 2, "quoted scalar"),
        ("a: [1\nb: 2", 2, "not YAML"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]", 2, "tag"),
        ("a: !!binary aGk=", 1, "tag"),
        ("a: &x {b: 1}\nc:\n  <<: *x", 3, "merge keys"),
        ("a: *nobody", 1, "no anchor before it"),
        ("a: 1\nb: &x [*x]", 2, "no anchor before it"),
        ("? [a]\n: 1", 1, "a key that is not plain text"),
        ("a: 1\nb: .inf", 2, "not a finite number"),
        ("a: 1\nb: " + "9" * 41, 2, "more than 40 digits"),
        ("a: " + "9" * 400 + ".0", 1, "too large a number"),
        ("a: 1\nb: \x07", 2, "U+0007"),
        (b"a: 1\nb: \xff\xfe", 2, "not UTF-8"),
        ("a: 1\nb: \ud800", 2, "not UTF-8"),
    ],
)
def test_what_is_not_plain_data_is_refused_with_its_line(text: str | bytes, line: int, reason: str) -> None:
    error = refused(text)
    assert (error.file, error.line) == ("order.yml", line)
    assert reason in error.reason


def test_ten_megabytes_are_refused_unread() -> None:
    assert refused(b"a: " + b"x" * 10_000_000).reason == f"larger than {MAX_BYTES} bytes"
    assert refused("a: " + "x" * 10_000_000).reason == f"larger than {MAX_BYTES} bytes"


def test_the_size_limit_counts_bytes_not_characters() -> None:
    assert "larger than" in refused("a: " + "é" * (MAX_BYTES // 2 + 1)).reason
    assert load_document("a: " + "x" * (MAX_BYTES - 3), "f").data["a"][0] == "x"


def test_an_alias_bomb_is_refused_before_it_is_expanded() -> None:
    lines = ["a0: &a0 [" + ", ".join(["x"] * 9) + "]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    error = refused("\n".join(lines))
    assert error.line == 5
    assert error.reason == f"more than {MAX_ALIASES} aliases"


def test_few_aliases_of_much_are_refused_by_what_they_expand_to() -> None:
    lines = ["a0: &a0 [" + ", ".join(["x"] * 20_000) + "]", "b: [*a0, *a0]"]
    assert refused("\n".join(lines)).reason.startswith("more than 50000 values")


def test_a_few_aliases_are_read() -> None:
    document = load_document("a: &x {b: [1]}\nc: *x\n", "f")
    assert document.data["c"] == {"b": [1]}
    assert document.line(("c",)) == 2
    assert document.line(("c", "b")) == 1


def test_nesting_is_refused_beyond_the_limit_and_not_at_it() -> None:
    assert load_document("[" * MAX_DEPTH + "]" * MAX_DEPTH, "f").data
    for depth in (MAX_DEPTH + 1, 100_000):
        assert refused("[" * depth).reason == f"nested deeper than {MAX_DEPTH}"
    assert refused("a: &x " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*x" + "]" * 30).line == 2


def refusals(text: str | bytes) -> list[DocumentError]:
    """What `text` is refused for; anything else that is raised fails the test."""
    try:
        load_documents(text, "f")
    except DocumentError as error:
        return [error]
    return []


@given(st.text() | st.binary())
def test_any_input_is_read_or_refused_with_a_line_that_it_has(text: str | bytes) -> None:
    lines = [int(str(error).split(":")[1]) for error in refusals(text)]
    assert all(line >= 1 for line in lines)


@given(st.text(alphabet="ab:- \n[]{}&*!|>'\"#?,%~0.<\t\r", max_size=60))
def test_yaml_punctuation_in_any_order_is_read_or_refused(text: str) -> None:
    assert all(1 <= error.line <= text.count("\n") + text.count("\r") + 2 for error in refusals(text))


def spec_errors(text: str) -> list[str]:
    document = load_document(text, "f")
    with pytest.raises(ValidationError) as caught:
        SPEC.validate_python(document.data)
    return [str(error) for error in document_errors(caught.value, document)]


def test_what_pydantic_refuses_has_a_line_and_plain_words() -> None:
    errors = spec_errors(
        "name: x\nends:\n  - id: a\n    sap: s\n    networks: [10.0.0.1/24]\n    colour: red\n  - {id: 'b c'}\n"
        "links:\n  - id: l\n    kind: ring\n    points: [a, b]\n    addressing:\n"
        "      hosts: [1.2.3.4/33]\nmin_mtu: 5\n"
    )
    assert errors == [
        "f:5: ends[0].networks[0]: not an IP prefix such as 192.0.2.0/24, without host bits",
        "f:6: ends[0].colour: unknown field",
        "f:7: ends[1].id: 'b c' is not a name: letters, digits, dot, underscore and hyphen",
        "f:7: ends[1].sap: a required field is missing",
        "f:10: links[0].kind: not one of LINE, LAN",
        "f:13: links[0].addressing.hosts[0]: not an IP prefix such as 192.0.2.0/24, without host bits",
        "f:14: min_mtu: it should be greater than or equal to 576",
    ]


def test_an_empty_list_is_told_apart_from_one_with_bad_items() -> None:
    assert spec_errors("name: x\nends: []\nlinks: [{id: l, points: [a, b]}]\n") == ["f:2: ends: needs at least 1"]
    assert spec_errors("name: x\nends: [{id: a}]\nlinks: [{id: l, points: [a, b]}]\n") == [
        "f:2: ends[0].sap: a required field is missing"
    ]


def test_a_path_reads_as_one_would_write_it() -> None:
    assert field_text(("links", 2, "points", 0)) == "links[2].points[0]"
