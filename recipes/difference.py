"""What differs between two recipes, as the process would notice it: not lines of text, but steps, fields and limits.

Steps are matched by their path of ids, then by their id alone where only one of each recipe is left.  Texts that mean
the same quantity, range or expression are equal, however they are written.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import islice
from typing import Literal

from pydantic import BaseModel

from devices.quantity import QuantityError, parse
from recipes import syntax, units
from recipes.expr import compile
from recipes.flat import PROSE, Key, flat, label
from recipes.model import Operation, Recipe
from recipes.ranges import parse_range
from recipes.steps import AnyVerb, Choose, ForEach, Parallel, Perfuse, children
from recipes.syntax import ExprError, Node
from recipes.words import Loops, branch, sentence
from recipes.words_expr import in_words

Change = Literal["added", "removed", "moved", "changed", "written"]
_SECTIONS = ("equipment", "containers", "parameters", "results", "clocks", "estimates")
_HEADER = ("recipe", "version", "title", "status", "description")


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.  `part`: header, source, parameter, ..., operation, step; `path`: a name, or the path of ids.

    `written`: the same thing in other words.  `old` and `new` are empty where there is nothing; of what was added or
    removed they say what it is, of what was moved where it stood and stands.
    """

    part: str
    path: str
    change: Change
    field: str = ""
    old: str = ""
    new: str = ""

    @property
    def words(self) -> str:
        """Return the difference as a phrase that begins with its path."""
        match self.change:
            case "added" | "removed":
                what = f"{self.field} {self.change}".lstrip()
                return f"{self.path}: {what}: {self.new or self.old}".removesuffix(": ")
            case "moved":
                return f"{self.path}: moved: {self.old} -> {self.new}"
            case "changed" | "written":
                how = "" if self.change == "changed" else " written differently:"
                name = f"{self.path}:" if self.path else ""
                return f"{name} {self.field}{how} {self.old or 'none'} -> {self.new or 'none'}".strip()


def differences(old: Recipe, new: Recipe) -> list[Difference]:
    """Return every difference, in the order of the parts of a recipe; those only in writing are `written`."""
    found: list[Difference] = []
    for name in _HEADER:
        found += _texts("header", "", (name,), getattr(old, name) or "", getattr(new, name) or "")
    found += _named("source", old.sources, new.sources)
    for section in _SECTIONS:
        found += _named(section.removesuffix("s"), getattr(old, section), getattr(new, section))
    guards = [{guard.id: guard for guard in recipe.guards} for recipe in (old, new)]
    found += _named("guard", guards[0], guards[1])
    return [*found, *_procedure(old, new)]


def _named(part: str, old: Mapping[str, BaseModel | str], new: Mapping[str, BaseModel | str]) -> Iterator[Difference]:
    for name, entry in old.items():
        other = new.get(name)
        if other is None:
            yield Difference(part, name, "removed", old=_entry(entry))
        elif isinstance(entry, BaseModel) and isinstance(other, BaseModel):
            yield from _fields(part, name, entry, other)
        else:
            yield from _texts(part, name, ("description",), str(entry), str(other))
    for name, entry in new.items():
        if name not in old:
            yield Difference(part, name, "added", new=_entry(entry))


def _entry(entry: BaseModel | str) -> str:
    if isinstance(entry, str):
        return entry
    return ", ".join(f"{label(key)} {_shown(key, text)}" for key, text in flat(entry, defaults=False).items())


def _fields(part: str, path: str, old: BaseModel, new: BaseModel) -> Iterator[Difference]:
    before, after = flat(old), flat(new)
    for key in dict.fromkeys((*before, *after)):
        units_of = (_unit(key, before), _unit(key, after))
        yield from _texts(part, path, key, before.get(key, ""), after.get(key, ""), units_of)


def _texts(
    part: str, path: str, key: Key, old: str, new: str, units_of: tuple[str, str] = ("", "")
) -> Iterator[Difference]:
    if old != new:
        same = bool(old and new) and meaning(key, old, units_of[0]) == meaning(key, new, units_of[1])
        shown = (old, new) if same else (_shown(key, old), _shown(key, new))
        yield Difference(part, path, "written" if same else "changed", label(key), *shown)


def _unit(key: Key, fields: Mapping[Key, str]) -> str:
    """Return the unit that bare bounds of a range have: that beside it, or that of the default."""
    if key[-1] != "range":
        return ""
    beside = fields.get((*key[:-1], "unit"))
    try:
        return beside or parse(fields.get((*key[:-1], "default"), "")).unit
    except QuantityError:
        return ""


def _shown(key: Key, text: str) -> str:
    return text if key[-1] in PROSE else in_words(text)


def meaning(key: Key, text: str, unit: str = "") -> object:
    """Return what a field's text stands for: equal meanings are the same to the process."""
    if key[-1] in PROSE:
        return " ".join(text.split())
    if key[-1] == "source":
        return frozenset(tag.strip() for tag in text.split(","))
    try:
        return parse(text)
    except QuantityError:
        pass
    try:
        return parse_range(text, unit or None)
    except QuantityError:
        pass
    try:
        return _tree(compile(text).node)
    except ExprError:
        return text


def _tree(node: Node) -> object:
    """Return an expression without its columns, and with its numbers in canonical units."""
    if isinstance(node, syntax.Literal):
        return units.named(units.literal(node))
    own: tuple[object, ...] = ()
    match node:
        case syntax.Name():
            own = (node.pattern,)
        case syntax.Symbol():
            own = (node.text,)
        case syntax.Truth():
            own = (node.value,)
        case syntax.Binary() | syntax.Unary():
            own = (node.operator,)
        case syntax.Call():
            own = (node.function,)
        case syntax.Within():
            pass
    return (type(node).__name__, *own, *(_tree(inner) for inner in syntax.subtrees(node)))


@dataclass(eq=False, slots=True)
class _Node:
    """A step or operation in its tree: in which of its parent's lists it stands, and its twin in the other recipe."""

    item: Operation | AnyVerb | None
    path: str
    parent: _Node | None = None
    place: int = 0
    loops: Loops = field(default_factory=dict[str, str])
    lists: list[list[_Node]] = field(default_factory=list["list[_Node]"])
    twin: _Node | None = None
    pairs: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def key(self) -> tuple[str, str]:
        """Return what a twin has to have as well: the verb and the id."""
        if self.item is None:
            return "", ""
        return ("operation" if isinstance(self.item, Operation) else self.item.verb), self.item.id

    def below(self) -> Iterator[_Node]:
        """Yield everything inside, in the order of the text."""
        for steps in self.lists:
            for node in steps:
                yield node
                yield from node.below()


def _grown(recipe: Recipe) -> _Node:
    root = _Node(None, "")
    exceptions = [
        Operation(operation=name, title=each.title, steps=each.steps) for name, each in recipe.exceptions.items()
    ]
    root.lists = [
        [_node(operation, root, 0, operation.id) for operation in recipe.procedure],
        [_node(each, root, 1, f"except/{each.id}") for each in exceptions],
    ]
    return root


def _node(item: Operation | AnyVerb, parent: _Node, place: int, path: str) -> _Node:
    node = _Node(item, path, parent, place, parent.loops)
    if isinstance(item, ForEach):
        node.loops = {**parent.loops, item.as_: item.in_}
    for index, steps in enumerate(_below(item)):
        here = f"{path}/{[*item.branches][index]}" if isinstance(item, Parallel) else path
        node.lists.append([_node(step, node, index, f"{here}/{step.id}") for step in steps])
    return node


def _below(item: Operation | AnyVerb) -> tuple[tuple[AnyVerb, ...], ...]:
    if isinstance(item, Operation):
        return (item.steps,)
    return () if isinstance(item, Perfuse) else children(item)  # its transfers follow from its fields


def _procedure(old: Recipe, new: Recipe) -> Iterator[Difference]:
    before, after = _grown(old), _grown(new)
    _pair(before, after)
    _pair_left_over(before, after)
    in_place = _in_place(before)
    for node in before.below():
        if node.twin is None:
            yield Difference(_part(node), node.path, "removed", old=_said(node, old))
    for node in after.below():
        if node.twin is None:
            yield Difference(_part(node), node.path, "added", new=_said(node, new))
            continue
        if node.twin not in in_place:
            yield _moved(node.twin, node)
        if node.item is not None and node.twin.item is not None:
            yield from _fields(_part(node), node.path, node.twin.item, node.item)
            yield from _branches(node.twin, node)


def _part(node: _Node) -> str:
    return "operation" if isinstance(node.item, Operation) else "step"


def _said(node: _Node, recipe: Recipe) -> str:
    """Return what a step does; its loop's name is that of the loop around it."""
    if node.item is None or node.parent is None:
        return ""
    if isinstance(node.item, Operation):
        return node.item.title or ""
    return sentence(node.item, recipe, node.parent.loops)


def _pair(old: _Node, new: _Node) -> None:
    """Make twins of two nodes and of what is inside them: list by list, then between the lists of the two."""
    old.twin, new.twin = new, old
    old.pairs = _paired_lists(old.item, new.item)
    chances = [(old.lists[i], new.lists[j]) for i, j in old.pairs.items()]
    chances.append(([node for steps in old.lists for node in steps], [node for steps in new.lists for node in steps]))
    for ours, theirs in chances:
        free = _by_key(theirs)
        for node in ours:
            if node.twin is None and free[node.key]:
                _pair(node, free[node.key].popleft())


def _paired_lists(old: Operation | AnyVerb | None, new: Operation | AnyVerb | None) -> dict[int, int]:
    """Return which branch is which: by name, those of a choice by their conditions, then in their order."""
    if isinstance(old, Parallel) and isinstance(new, Parallel):
        names = {name: j for j, name in enumerate(new.branches)}
        return {i: names[name] for i, name in enumerate(old.branches) if name in names}
    if not (isinstance(old, Choose) and isinstance(new, Choose)):
        return {0: 0, 1: 1} if old is None else {0: 0} if _below(old) else {}  # procedure, exceptions
    pairs: dict[int, int] = {}
    left = dict(enumerate(_conditions(new)))
    for i, condition in enumerate(_conditions(old)):
        j = next((j for j, other in left.items() if other == condition), None)
        if j is not None:
            pairs[i] = j
            del left[j]
    rest = [i for i in range(len(old.cases)) if i not in pairs]
    return dict(sorted({**pairs, **dict(zip(rest, left, strict=False))}.items()))


def _conditions(step: Choose) -> list[object]:
    return [None if case.when is None else meaning(("when",), case.when) for case in step.cases]


def _pair_left_over(old: _Node, new: _Node) -> None:
    """Find what went elsewhere: the only one of its verb and id that is left in each of the two recipes."""
    ours, theirs = _by_key(old.below()), _by_key(new.below())
    for node in old.below():
        twin = _only(theirs[node.key]) if node.twin is None and _only(ours[node.key]) else None
        if twin is not None and _alike(node, twin):
            _pair(node, twin)


def _by_key(nodes: Iterable[_Node]) -> defaultdict[tuple[str, str], deque[_Node]]:
    """Return those that have no twin yet, by verb and id, in their order."""
    found: defaultdict[tuple[str, str], deque[_Node]] = defaultdict(deque)
    for node in nodes:
        if node.twin is None:
            found[node.key].append(node)
    return found


def _only(nodes: Iterable[_Node]) -> _Node | None:
    """Return the only one that has no twin, None where there are several or none."""
    left = list(islice((node for node in nodes if node.twin is None), 2))
    return left[0] if len(left) == 1 else None


def _alike(old: _Node, new: _Node) -> bool:
    """Return whether two steps may be one: an id that is only the verb's name says nothing, so all has to be equal."""
    verb, name = old.key
    if verb != name:
        return True
    return old.item is not None and new.item is not None and flat(old.item) == flat(new.item)


def _moved(old: _Node, new: _Node) -> Difference:
    elsewhere = old.parent is not None and (
        old.parent.twin is not new.parent or old.parent.pairs.get(old.place) != new.place
    )
    where = (_where(node, full=elsewhere) for node in (old, new))
    return Difference(_part(new), new.path, "moved", "", *where)


def _in_place(root: _Node) -> set[_Node]:
    """Return the nodes that stand in the same list as their twins, in the same order; the others were moved."""
    found: set[_Node] = set()
    for parent in (root, *root.below()):
        if parent.twin is None:
            continue
        for i, j in parent.pairs.items():
            here, there = set(parent.lists[i]), set(parent.twin.lists[j])
            ours = [node for node in parent.lists[i] if node.twin in there]
            theirs = [node.twin for node in parent.twin.lists[j] if node.twin in here]
            blocks = SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
            found |= {node for block in blocks for node in ours[block.a : block.a + block.size]}
    return found


def _where(node: _Node, *, full: bool = False) -> str:
    """Return where a node stands: after which other, and with `full` also in what."""
    if node.parent is None:
        return ""
    steps = node.parent.lists[node.place]
    index = steps.index(node)
    place = f"after {steps[index - 1].key[1]}" if index else "first"
    if not full:
        return place
    item = node.parent.item
    inside = ""
    if isinstance(item, Choose):
        inside = f", {branch(item.cases[node.place]).partition(':')[0].lower()}"
    elif isinstance(item, Parallel):
        inside = f", branch {[*item.branches][node.place]}"
    return f"{node.parent.path}{inside}, {place}"


def _branches(old: _Node, new: _Node) -> Iterator[Difference]:
    if isinstance(old.item, Parallel) and isinstance(new.item, Parallel):
        before, after = old.item.branches, new.item.branches
        yield from (Difference("step", new.path, "removed", f"branch {n}") for n in before if n not in after)
        yield from (Difference("step", new.path, "added", f"branch {n}") for n in after if n not in before)
        return
    if not (isinstance(old.item, Choose) and isinstance(new.item, Choose)):
        return
    before = ["in every other case" if case.when is None else case.when for case in old.item.cases]
    after = ["in every other case" if case.when is None else case.when for case in new.item.cases]
    for i, j in old.pairs.items():
        yield from _texts("step", new.path, (f"branch {j + 1}",), before[i], after[j])
    for i, text in enumerate(before):
        if i not in old.pairs:
            yield Difference("step", new.path, "removed", f"branch {i + 1}", old=in_words(text))
    for j, text in enumerate(after):
        if j not in old.pairs.values():
            yield Difference("step", new.path, "added", f"branch {j + 1}", new=in_words(text))
    order = list(old.pairs.values())
    if order != sorted(order):
        numbers = ", ".join(str(j + 1) for j in order)
        yield Difference("step", new.path, "changed", "order of branches", _counted(len(order)), numbers)


def _counted(count: int) -> str:
    return ", ".join(str(number) for number in range(1, count + 1))
