"""A batch of a recipe that includes a fragment: its record says all of it, and needs no fragment afterwards."""

from __future__ import annotations

import hashlib

from story import Story

from devices.document import parse, validate
from recipes import catalog
from recipes.model import Recipe
from tilctl.journal import events as ev

FILL = """\
fragment: fill
version: "1.0.0"
title: Fill a flask, then rest
takes: {into: {kind: container}, dose: {kind: expression}}
containers:
  media: {kind: bag, limit: 2 L, holds: buffer, source: P}
procedure:
- operation: fill
  steps:
  - mount: {id: media_in, containers: media, volume: ask}
  - transfer: {id: first, from: media, to: $into, volume: 2 * $dose, rate: 150 mL/min, tolerance: 2 mL, source: P}
  - wait: {id: rest, for: 10 min}
"""
RECIPE = """\
recipe: including
version: "1.0.0"
title: One flask, filled by a fragment
status: draft
sources: {P: "test default"}
equipment:
  station: {role: bioreactor, needs: [temperature, co2], positions: 1, source: P}
containers:
  flask: {kind: vessel, class: gas-permeable-100cm2, limit: 500 mL, source: P}
procedure:
- operation: prepare
  steps:
  - set: {id: climate, station.temperature: 36 degC, station.co2: 6 %, source: P}
  - mount: {id: flask_in, containers: flask, volume: 0 mL}
- include: {fragment: fill, with: {into: flask, dose: 20 mL + 10 mL}}
"""


async def test_a_batch_lives_by_its_record_alone(suite: Story) -> None:
    """Killed in a transfer of the fragment, of which nothing is left on the disk when the controller comes back."""
    fragment, recipe = suite.folder / "fragments" / "fill.yaml", suite.folder / "including.yaml"
    fragment.parent.mkdir()
    fragment.write_text(FILL)
    recipe.write_text(RECIPE)
    await suite.start("including")
    created = suite.records()[0].event
    assert isinstance(created, ev.BatchCreated)
    assert created.recipe_sha256 == hashlib.sha256(created.recipe_text.encode()).hexdigest()
    frozen = validate(parse(created.recipe_text, "frozen"), Recipe, "schema")
    assert frozen == catalog.load(recipe)
    await suite.until_flowed("pump_media", 10.0)
    fragment.unlink()
    recipe.unlink()
    await suite.power_cut(seconds=30.0)
    await suite.until_state("held")
    await suite.do("restart")
    await suite.until_state("complete")
    assert sum(intent.delivered_ml or 0.0 for intent in suite.intents("fill/first")) > 57.0
    assert suite.node("fill/rest").status == "complete"
