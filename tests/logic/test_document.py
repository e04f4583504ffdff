"""Documents: text with places, what is refused in a YAML file, and what a schema's refusal says."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, field_validator

import devices.yaml_text
from devices.diagnostic import MOST
from devices.document import DataPath, Diagnostic, Document, DocumentError, Severity, load, parse, validate
from devices.quantity import parse_as
from devices.yaml_text import MAX_BYTES, MAX_DEPTH


@pytest.fixture(params=["C", "pure"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both of PyYAML's parsers: which one is there depends on how it was built."""
    if request.param == "pure":
        monkeypatch.setattr(devices.yaml_text, "_LOADER", yaml.BaseLoader)
    return str(request.param)


def refused(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(DocumentError) as caught:
        parse(text, "f.yaml")
    return caught.value.diagnostics


def paths(data: Any, path: DataPath = ()) -> Iterator[tuple[DataPath, Any]]:
    yield path, data
    if isinstance(data, dict):
        for key, value in data.items():
            yield from paths(value, (*path, key))
    if isinstance(data, list):
        for index, value in enumerate(data):
            yield from paths(value, (*path, index))


# -- what is read ----------------------------------------------------------------------------------------------------


def test_every_scalar_is_text_whatever_yaml_would_make_of_it(parser: str) -> None:
    text = "a: 1:1\nb: no\nc: 1e6\nd: ~\ne: 2020-01-01\nf: 0x10\ng: 'q'\nh: [1, null, {i: 2 %}]\nj:\n"
    assert parse(text, "f").data == {
        "a": "1:1",
        "b": "no",
        "c": "1e6",
        "d": "~",
        "e": "2020-01-01",
        "f": "0x10",
        "g": "q",
        "h": ["1", "null", {"i": "2 %"}],
        "j": "",
    }


@pytest.mark.parametrize("text", ["", "# only a comment\n", "{}"])
def test_a_file_without_keys_is_an_empty_mapping_for_the_schema_to_judge(text: str) -> None:
    document = parse(text, "f")
    assert document.data == {}
    assert document.at(("any", 3)) == (1, 1)


def test_places_count_characters_from_one_and_fall_back_to_the_nearest_entry(parser: str) -> None:
    text = 'name: ä\nsteps:\n- transfer: {id: "a", rate: 5 L}\n- note:\n    text: |\n      two\n      lines\n'
    document = parse(text, "f")
    assert document.at(()) == (1, 1)
    assert document.at(("name",)) == (1, 1)
    assert document.at(("steps", 0)) == (3, 3)
    assert document.at(("steps", 0, "transfer", "rate")) == (3, 23)
    assert document.at(("steps", 0, "transfer", "volume")) == (3, 3)
    assert document.at(("steps", 7, "transfer")) == (2, 1)
    assert document.at(("steps", 1, "note", "text")) == (5, 5)
    assert document.value_at(("steps", 0, "transfer", "rate")) == (3, 29)
    assert document.value_at(("steps", 0, "transfer", "id")) == (3, 19)  # after the quote
    assert document.value_at(("steps", 1, "note", "text"), 4) == (5, 11)  # a block: only its beginning is known
    assert document.value_at(("steps", 0, "transfer", "volume"), 4) == (3, 3)


@pytest.mark.parametrize(
    ("text", "column"),
    [("a: x + bad", 8), ("a: 'x + bad'", 9), ('a: "x + bad"', 9), ("ä: x + bad", 8), ('a: "x \\u002b bad"', 5)],
)
def test_an_offset_in_a_text_is_a_column_where_the_text_stands_as_it_reads(text: str, column: int) -> None:
    document = parse(text, "f")
    key = next(iter(document.data))
    assert document.value_at((key,), 4) == (1, column)
    found = document.diagnostic(Severity.WARNING, "expr", (key,), "bad name", hint="look", offset=4)
    assert str(found) == f"f:1:{column}: warning[expr]: bad name (hint: look)"


KEYS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=8)
DATA = st.recursive(
    st.text(max_size=12) | st.from_regex(r"[ -~]{0,12}", fullmatch=True),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, DATA, min_size=1, max_size=4), st.booleans(), st.integers(2, 7))
def test_what_a_yaml_writer_wrote_is_read_back_and_every_entry_has_its_place(
    data: dict[str, Any], flow: bool, indent: int
) -> None:
    text = yaml.safe_dump(data, default_flow_style=flow, indent=indent, allow_unicode=False, width=10_000, version=None)
    document = parse(text, "f")
    assert document.data == data
    lines = text.split("\n")
    for path, value in paths(data):
        line, column = document.at(path)
        if path and isinstance(path[-1], str) and path[-1].isascii() and path[-1].isalnum():
            assert lines[line - 1][column - 1 :].lstrip("\"'? ").startswith(path[-1])
        if isinstance(value, str) and value.isalnum() and value.isascii():
            line, column = document.value_at(path)
            assert lines[line - 1][column - 1 :].startswith(value)


@example("{0\t")
@given(st.text(max_size=60) | st.text("{}[]:,-&*!|>?'\"\\\t\n #%@`a1", max_size=40))
def test_any_text_is_a_document_or_a_document_error(text: str) -> None:
    try:
        document = parse(text, "f")
    except DocumentError as error:
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for found in error.diagnostics:
            assert 1 <= found.line <= len(lines) + 1
            assert found.column >= 1
            assert found.message
    else:
        assert all(isinstance(value, str | dict | list) for _, value in paths(document.data))
        assert {path for path, _ in paths(document.data)} >= set(document.places)


@given(st.text("{}[]:,- 'a\n", max_size=30))
def test_both_parsers_read_the_same_or_both_refuse(text: str) -> None:
    def outcome(loader: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(devices.yaml_text, "_LOADER", loader)
            try:
                return parse(text, "f").data
            except DocumentError as error:
                return {found.severity for found in error.diagnostics}

    assert outcome(yaml.BaseLoader) == outcome(devices.yaml_text._LOADER)


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "words"),
    [
        ("a: 1\nb: 2\na: 3", "yaml-duplicate-key", 3, 1, "the other is in line 1"),
        ("s: {a: 1, b: 2, a: 3}", "yaml-duplicate-key", 1, 17, "'a' is here for the second time"),
        ("a: x\n'a': y", "yaml-duplicate-key", 2, 1, "second time"),
        ("a:\n\tb: 1", "yaml-tab", 2, 1, "spaces"),
        ("a:\n  \tb: 1", "yaml-tab", 2, 3, "spaces"),
        ("a:\t1", "yaml-tab", 1, 3, "a space"),
        ("a: {b: \t1}", "yaml-tab", 1, 8, "a space"),
        ("ask: {text: Thaw, count}", "yaml-comma", 1, 19, 'text: "Thaw, count"'),
        ("ask: {text: ä, b, c d, id: x}", "yaml-comma", 1, 16, 'text: "ä, b, c d"'),
        ("ask: {'b'}", "yaml-comma", 1, 7, "give the key a value"),
        ("text: {bags.conc}", "yaml-comma", 1, 8, "braces"),
        ("a: &x 1", "yaml-syntax", 1, 4, "anchor"),
        ("a: *x", "yaml-syntax", 1, 4, "alias"),
        ("a: !!int 1", "yaml-syntax", 1, 4, "tag"),
        ("a: !!python/object:os.system {}", "yaml-syntax", 1, 4, "tag"),
        ("a: 1\n---\nb: 2", "yaml-syntax", 2, 1, "second document"),
        ("a: 1\n...\n---\nb: 2", "yaml-syntax", 3, 1, "second document"),
        ("- a\n- b", "yaml-syntax", 1, 1, "key: value"),
        ("just text", "yaml-syntax", 1, 1, "key: value"),
        ("? [a]\n: b", "yaml-syntax", 1, 3, "a key must be text"),
        ("a: {{b}: c}", "yaml-syntax", 1, 5, "a key must be text"),
        ("a: {'': c}", "yaml-syntax", 1, 5, "without its key"),
        ("a: b: c", "yaml-syntax", 1, 5, "quote a text that contains ': '"),
        ("a: 'x\nb: 2", "yaml-syntax", 1, 4, "not closed"),
        ("a: @x", "yaml-syntax", 1, 4, "quote a text that begins with"),
        ("a: [1, 2\nb: 3", "yaml-syntax", 2, 2, "opened in line 1"),
        ("a:\n  - 1\n - 2", "yaml-syntax", 3, 2, "begin in one column"),
        ("a: 1\nb\nc: 2", "yaml-syntax", 2, 1, "': ' does not follow it"),
        ("a: x\u2028b", "yaml-syntax", 1, 5, "U+2028"),
        ("a: x\u202eb", "yaml-syntax", 1, 5, "U+202E"),
        ("a: 1\nb: \x00", "yaml-syntax", 2, 4, "U+0000"),
        ("a: \ud800", "yaml-syntax", 1, 4, "U+D800"),
        ("a: " + "[" * 100_000, "yaml-syntax", 1, MAX_DEPTH + 3, "nested more than"),
    ],
)
def test_a_mistake_is_refused_at_its_place(
    parser: str, text: str, code: str, line: int, column: int, words: str
) -> None:
    found = refused(text)[0]
    assert (found.severity, found.code, found.file) == (Severity.ERROR, code, "f.yaml")
    assert (found.line, found.column) == (line, column)
    assert words in str(found)


def test_all_mistakes_that_can_be_told_apart_are_reported_at_once() -> None:
    found = refused("a: {text: x, y}\nb: 1\nb: 2\nc: [1\n")
    assert [item.code for item in found] == ["yaml-comma", "yaml-duplicate-key", "yaml-syntax"]
    with pytest.raises(DocumentError) as caught:
        parse("b: 1\nb: 2\nb: 3", "f.yaml")
    assert str(caught.value) == "\n".join(str(item) for item in caught.value.diagnostics)
    assert len(str(caught.value).splitlines()) == 2


def test_an_empty_value_is_a_comma_mistake_only_without_its_colon() -> None:
    assert parse("a: {b: , c: 1}\nd:", "f").data == {"a": {"b": "", "c": "1"}, "d": ""}
    assert parse("a: {b: '', c: \"\"}", "f").data == {"a": {"b": "", "c": ""}}


@pytest.mark.parametrize("line", ["a: 1\n", "\ta: 1\n", "a: {b, c}\n", "\x01\n"])
def test_a_file_full_of_mistakes_reports_the_first_and_says_that_there_are_more(line: str) -> None:
    found = refused(line * 50_000)
    assert len(found) == MOST + 1
    assert found[-1].severity is Severity.NOTE
    assert "only the first" in found[-1].message


def test_a_text_that_is_too_large_is_refused_before_it_is_read() -> None:
    assert refused("a: " + "x" * MAX_BYTES)[0].code == "yaml-too-large"
    assert refused("a: " + "ä" * (MAX_BYTES // 2))[0].code == "yaml-too-large"  # bytes are counted, not characters


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    for start in (b"", b"\xef\xbb\xbf"):
        path = tmp_path / "site.yaml"
        path.write_bytes(start + "site: Zürich\r\nb: 2\r\n".encode())
        document = load(path)
        assert document.name == str(path)
        assert document.data == {"site": "Zürich", "b": "2"}
        assert document.at(("b",)) == (2, 1)


def test_a_file_that_cannot_be_read_is_a_diagnostic(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_bytes(b"a: " + b"x" * MAX_BYTES)
    (tmp_path / "latin.yaml").write_bytes("a: 1\nname: Zürich".encode("latin-1"))
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    expected = {
        "none.yaml": ("file-missing", 1, 1, "no such file"),
        "": ("file-unreadable", 1, 1, "not a file"),
        "large.yaml": ("yaml-too-large", 1, 1, "1024 KiB"),
        "latin.yaml": ("yaml-syntax", 2, 8, "0xfc is not UTF-8"),
        "loop.yaml": ("file-unreadable", 1, 1, "cannot be read"),
        "nul\0.yaml": ("file-unreadable", 1, 1, "cannot be read"),
        "latin.yaml/x": ("file-unreadable", 1, 1, "cannot be read"),
    }
    for name, (code, line, column, words) in expected.items():
        with pytest.raises(DocumentError) as caught:
            load(tmp_path / name)
        found = caught.value.diagnostics[0]
        assert (found.code, found.line, found.column) == (code, line, column), name
        assert words in found.message
        assert found.file == str(tmp_path / name)


# -- schemas ---------------------------------------------------------------------------------------------------------


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mode(StrEnum):
    FAST = "fast"
    SLOW = "slow"


Millilitres = Annotated[float, BeforeValidator(lambda text: parse_as(text, "mL"))]


class Transfer(Model):
    verb: Literal["transfer"]
    id: str = Field(pattern="^[a-z][a-z0-9_]*$")
    volume: Millilitres
    rate: float = Field(default=1, gt=0, le=10, allow_inf_nan=False)
    count: int = 1
    sure: bool = True
    mode: Mode = Mode.FAST
    text: str | list[str] = ""


class Note(Model):
    verb: Literal["note"]
    text: str
    tags: tuple[str, ...] = Field(default=(), min_length=1, max_length=2)
    steps: list[Step] = []


def unwrap(value: Any) -> Any:
    """Make `{verb: ..., ...}` of `{verb: {...}}`, as the recipe language does."""
    if isinstance(value, dict) and len(value) == 1:
        ((verb, inner),) = value.items()
        if isinstance(inner, dict):
            return {"verb": verb, **inner}
    return value


Step = Annotated[Annotated[Transfer | Note, Field(discriminator="verb")], BeforeValidator(unwrap)]


class Limits(RootModel[dict[str, Millilitres]]):
    pass


class Job(Model):
    job: str
    steps: list[Step] = []
    limits: Limits = Limits({})
    bus: Annotated[Transfer | Note, Field(discriminator="verb")] | None = None
    short: str = Field(default="", alias="kurz", max_length=3)

    @field_validator("job")
    @classmethod
    def _known(cls, value: str) -> str:
        if value == "odd":
            raise ValueError("an odd job")
        return value


Note.model_rebuild()
Job.model_rebuild()


def complaints(text: str) -> list[tuple[int, int, str, str]]:
    with pytest.raises(DocumentError) as caught:
        validate(parse(text, "job.yaml"), Job, "schema-job")
    assert {item.code for item in caught.value.diagnostics} == {"schema-job"}
    return [(item.line, item.column, item.message, item.hint) for item in caught.value.diagnostics]


def test_a_valid_document_becomes_its_model() -> None:
    text = "job: a\nsteps:\n- transfer: {id: x, volume: 5 L, sure: no, count: 3, mode: slow}\nlimits: {a: 1 L}"
    job = validate(parse(text, "f"), Job, "schema-job")
    step = job.steps[0]
    assert isinstance(step, Transfer)
    assert (step.volume, step.sure, step.count, step.mode) == (5000, False, 3, Mode.SLOW)
    assert job.limits.root == {"a": 1000}


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("id: Bad", 1, "id: 'Bad' does not have the form ^[a-z][a-z0-9_]*$"),
        ("rate: 20", 1, "rate: expected a number less than or equal to 10, got '20'"),
        ("rate: nan", 1, "rate: expected a finite number, got 'nan'"),
        ("rate: [1]", 1, "rate: expected a number, got a list"),
        ("rate:", 1, "rate: expected a number, got nothing"),
        ("count: x", 1, "count: expected a whole number, got 'x'"),
        ("count: 1.5", 1, "count: expected a whole number, got '1.5'"),
        ("sure: perhaps", 1, "sure: expected yes or no, got 'perhaps'"),
        ("mode: medium", 1, "mode: expected one of fast, slow, got 'medium'"),
        ("text: {a: b}", 1, "text: expected text or a list, got a mapping of keys"),
        ("text: [a, {b: c}]", 11, "text[1]: expected text, got a mapping of keys"),
        ("mode: " + "x" * 100, 1, "mode: expected one of fast, slow, got '" + "x" * 45 + "...'"),
    ],
)
def test_a_refused_value_is_told_in_plain_words_at_its_place(line: str, column: int, message: str) -> None:
    rest = [] if line.startswith("id") else ["id: a"]
    text = "job: a\nsteps:\n- transfer:\n    volume: 5 L\n" + "".join(f"    {part}\n" for part in [*rest, line])
    where = text.count("\n"), 4 + column
    assert (*where, message, "") in complaints(text)


def test_union_tags_in_a_location_do_not_mislead_it() -> None:
    assert complaints("job: a\nsteps:\n- note: {text: x}\n- transfer: {id: a, volume: 5 l}\nbus: {verb: note}") == [
        (4, 21, "volume: '5 l' has an unknown unit 'l'; expected volume in mL", "write '5 L'"),
        (5, 1, "'text' is missing", ""),
    ]


def test_an_unknown_key_names_the_keys_of_its_own_place() -> None:
    found = complaints(
        "jab: a\nsteps:\n- transfer: {id: a, volume: 1 mL, rat: 1}\n"
        "- note: {text: a, steps: [{note: {text: b, x: 1}}]}\nbus: {verb: note, text: a, id: b}\nshort: x"
    )
    assert found == [
        (1, 1, "unknown key 'jab'", "did you mean 'job'? known here: job, steps, limits, bus, kurz"),
        (1, 1, "'job' is missing", ""),
        (
            3,
            35,
            "unknown key 'rat'",
            "did you mean 'rate'? known here: id, volume, rate, count, sure, mode, text",
        ),
        (4, 44, "unknown key 'x'", "known here: text, tags, steps"),
        (5, 28, "unknown key 'id'", "known here: verb, text, tags, steps"),
        (6, 1, "unknown key 'short'", "known here: job, steps, limits, bus, kurz"),
    ]


def test_other_refusals_are_told_in_plain_words_too() -> None:
    assert complaints("job: odd\nsteps:\n- jump: {a: 1}\n- note: hello\n- x\nlimits: {b: 37 C}\nkurz: long") == [
        (1, 1, "job: an odd job", ""),
        (3, 3, "unknown verb 'jump'", "expected one of transfer, note"),
        (4, 3, "'verb' is missing", ""),
        (5, 3, "steps[2]: expected a mapping of keys, got 'x'", ""),
        (6, 10, "b: '37 C' has an unknown unit 'C'; expected volume in mL", "write '37 degC'"),
        (7, 1, "kurz: String should have at most 3 characters, got 'long'", ""),
    ]
    assert complaints("job: a\nsteps:\n- note: {text: a, tags: []}\n- note: {text: a, tags: [a, b, c]}") == [
        (3, 19, "tags: expected at least 1 entries, got 0", ""),
        (4, 19, "tags: expected at most 2 entries, got 3", ""),
    ]


def test_a_location_is_followed_as_far_as_the_data_goes() -> None:
    document = Document("f", "", {"circle": {"circle": {"r": "1"}}, "list": [{"a": "1"}, {"r": "2"}]})
    assert document.locate(("circle", "circle", "r")) == ("circle", "circle", "r")
    assert document.locate(("Tag", "circle", "function-before[x()]", "circle", "r", "[key]")) == (
        "circle",
        "circle",
        "r",
    )
    assert document.locate(("list", 1, "circle", "r")) == ("list", 1, "r")
    assert document.locate(("list", 5, "r")) == ("list",)
    assert document.locate(("none",)) == ()


@given(st.lists(st.text(max_size=3) | st.integers(0, 3), max_size=6).map(tuple))
def test_any_location_leads_to_a_place_in_the_data(loc: DataPath) -> None:
    document = parse("a: {b: [1, {c: 2}]}\nc: 3", "f")
    assert document.locate(loc) in dict(paths(document.data))
