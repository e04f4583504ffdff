"""What steps, recipes and freezing profiles are made of: kinds of texts, lists and flags, the frozen model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints

ID_PATTERN = "^[a-z][a-z0-9_]*$"
MAX_TEXT = 2000


def _flag(raw: Any) -> Any:
    """Accept the two words of YAML 1.2 and nothing else."""
    if raw in ("true", True):
        return True
    if raw in ("false", False):
        return False
    raise ValueError(f"'{raw}' is neither true nor false")


def _listed(raw: Any) -> Any:
    """Let one name stand for a list of one."""
    return (raw,) if isinstance(raw, str) else raw


def _some(items: Any) -> Any:
    """Refuse an empty list, once its items are known to be good: what failed must not count as missing."""
    if not items:
        raise ValueError("at least one is needed here")
    return items


Id = Annotated[str, StringConstraints(pattern=ID_PATTERN, max_length=40)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
Expr = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
"""An expression: `5 L - seed.volume`; see `recipes.expr`."""
Amount = Annotated[str, StringConstraints(min_length=1, max_length=80)]
"""A number with its unit: `30 min`, `2 %`."""
Span = Annotated[str, StringConstraints(min_length=3, max_length=80)]
"""Two bounds: `10 d..12 d`; see `recipes.ranges.parse_range`."""
Flag = Annotated[bool, BeforeValidator(_flag, json_schema_input_type=Literal["true", "false"])]
SOME = AfterValidator(_some)
"""For a list that may not be empty."""
_Listed = Annotated[tuple[Text, ...], SOME]
Names = Annotated[_Listed, BeforeValidator(_listed, json_schema_input_type=Text | _Listed)]
NamesIfAny = Annotated[tuple[Text, ...], BeforeValidator(_listed, json_schema_input_type=Text | tuple[Text, ...])]
OnMissed = Literal["run_late", "skip", "hold", "abort"]
OnRestart = Literal["resume", "redo", "reattach", "hold", "ask"]


class Frozen(BaseModel):
    """A part of a recipe: unknown keys are refused, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
