"""Numbers of a recipe that nobody has read in a source: unverified, engineering defaults, or without any source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from recipes.check_sources import NO_NUMBERS, has_number
from recipes.flat import PROSE, Key, flat, label
from recipes.freezing_model import FreezeProfile
from recipes.model import FULL_SHARE, Container, Recipe
from recipes.steps import AnyVerb, Choose, Transfer
from recipes.words import listed
from recipes.words_expr import in_words

UNVERIFIED, DEFAULT, NONE = "unverified", "engineering default", "no source is given"
_TAGS = {"GKU": UNVERIFIED, "P": DEFAULT}
_SIGNS = {
    "unverified": UNVERIFIED, "general knowledge": UNVERIFIED, "not read in": UNVERIFIED,
    "engineering default": DEFAULT,
}  # fmt: skip
"""What tells it in the explanation of a source; a tag that is used by habit tells it by its name."""

_WORDS = NO_NUMBERS - {"count", "density"} | PROSE | {"needs"}
"""Fields without a number of the process; a count and a density need no source, and are told of all the same."""


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Numbers of one block under one source: where they stand, what they are, their tags, and what those say."""

    where: str
    numbers: str
    source: str
    standing: str


def doubtful(recipe: Recipe, steps: Iterable[tuple[str, AnyVerb]]) -> list[Doubtful]:
    """Return the doubtful numbers of a recipe, in the order of its text; `steps`: each with what it is called."""
    blocks: list[tuple[str, BaseModel]] = []
    for section in ("equipment", "containers", "parameters", "results", "clocks", "estimates"):
        entries: Mapping[str, BaseModel] = getattr(recipe, section)
        blocks += [(f"{section.removesuffix('s')} {name}", entry) for name, entry in entries.items()]
    blocks += [(f"guard {guard.id}", guard) for guard in recipe.guards]
    called = list(steps)
    found = [each for where, block in (*blocks, *called) for each in _of_block(where, block, recipe.sources)]
    return [*found, *_of_the_language(recipe, called)]


def doubtful_freezing(profile: FreezeProfile) -> list[Doubtful]:
    """Return the doubtful numbers of a freezing profile."""
    blocks: list[tuple[str, BaseModel]] = [(f"{profile.id} row {row.id}", row) for row in profile.rows]
    blocks += [(f"{profile.id} {name.replace('_', ' ')}", rule) for name, rule in criteria(profile)]
    return [each for where, block in blocks for each in _of_block(where, block, profile.sources)]


def criteria(profile: FreezeProfile) -> list[tuple[str, BaseModel]]:
    """Return the acceptance criteria that a freezing profile declares."""
    names = type(profile.acceptance).model_fields
    return [(name, rule) for name in names if (rule := getattr(profile.acceptance, name)) is not None]


def standing(source: str | None, sources: Mapping[str, str]) -> str:
    """Return what the tags of a source say against its numbers, "" where they are taken from what was read."""
    tags = [tag.strip() for tag in (source or "").split(",") if tag.strip()]
    if not tags:
        return NONE
    found = (_of_tag(tag, sources.get(tag)) for tag in tags)
    return ", ".join(dict.fromkeys(filter(None, found)))


def _of_tag(tag: str, explained: str | None) -> str:
    if tag in _TAGS:
        return _TAGS[tag]
    if explained is None:
        return "its source is not declared"
    lower = explained.lower()
    return next((says for sign, says in _SIGNS.items() if sign in lower), "")


def _of_block(where: str, block: BaseModel, sources: Mapping[str, str]) -> Iterator[Doubtful]:
    numbers: dict[str | None, list[str]] = {}
    for source, text in _numbers(block):
        numbers.setdefault(source, []).append(text)
    for source, texts in numbers.items():
        says = standing(source, sources)
        if says:
            yield Doubtful(where, ", ".join(texts), source or "", says)


def _numbers(block: BaseModel) -> Iterator[tuple[str | None, str]]:
    """Yield each number that the block writes, with its source: that of an input, or that of the whole block."""
    fields = flat(block, defaults=False)
    own = fields.get(("source",))
    for key, text in fields.items():
        if not _no_number(key) and has_number(text):
            yield fields.get((*key[:-1], "source"), own), f"{label(key)} {in_words(text)}"
    if isinstance(block, Choose):
        for case in block.cases:
            if case.when is not None and has_number(case.when):
                yield own, f"when {in_words(case.when)}"


def _no_number(key: Key) -> bool:
    names = (key[0], key[-1]) if key[0] == "inputs" else (key[0],)
    return any(name in _WORDS or f"{name}_" in _WORDS for name in names)


def _of_the_language(recipe: Recipe, steps: Iterable[tuple[str, AnyVerb]]) -> Iterator[Doubtful]:
    """Yield what counts because the recipe does not say otherwise."""
    of_medium = [name for name, each in recipe.containers.items() if "density" not in each.model_fields_set]
    loose = [where for where, step in steps if isinstance(step, Transfer) and "tolerance" not in step.model_fields_set]
    by_default = "default of the recipe language"
    if of_medium:
        text = f"density {Container.model_fields['density'].default}"
        yield Doubtful(f"containers {listed(of_medium)}", text, by_default, UNVERIFIED)
    if loose:
        text = f"tolerance {Transfer.model_fields['tolerance'].default}"
        yield Doubtful(f"steps {listed(loose)}", text, by_default, DEFAULT)
    if recipe.containers:
        text = f"pumps stop at {100 * FULL_SHARE:g} % of the limit"
        yield Doubtful("every container", text, by_default, DEFAULT)
