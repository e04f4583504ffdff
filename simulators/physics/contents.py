"""What a vessel or bag holds: volume, mass, cells and solutes as amounts, so that mixing is adding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

MEDIUM_DENSITY = 1.005  # g/mL (general knowledge, unverified)
AIR = 0.2  # mmol/L, oxygen in medium at 37 degC under air with 5 % CO2 [D]; in proportion for other shares of oxygen
ROOM = 21.0  # degC, air-conditioned clean room (engineering default)


@dataclass(slots=True)
class Contents:
    """A liquid and what is in it.

    Amounts, not concentrations: cells in cells, glucose, lactate, glutamine, ammonia, dissolved oxygen in mmol, IL-2 in
    IU, OKT3 in ng, a CD3/CD28 reagent (`activator`) and DMSO in mL.  Oxygen is followed only in vessels that can be
    short of it.  `age` is the time since the cells were stimulated, in days, None for cells that never were; `alone`
    the share of them for which that was without feeders.  `met_feeders` and `met_activator` are what is left of the
    feeders and the reagent that have stimulated already: only what is added to them does so again.
    """

    volume: float = 0.0  # mL
    mass: float = 0.0  # g
    viable: float = 0.0
    dead: float = 0.0
    feeders: float = 0.0  # live, irradiated: they only die
    lysing: float = 0.0  # feeders that have died and are not yet gone
    glucose: float = 0.0
    lactate: float = 0.0
    glutamine: float = 0.0
    ammonia: float = 0.0
    oxygen: float = 0.0
    il2: float = 0.0
    okt3: float = 0.0
    activator: float = 0.0
    dmso: float = 0.0
    met_feeders: float = 0.0
    met_activator: float = 0.0
    temperature: float = ROOM  # degC
    age: float | None = None  # d
    alone: float = 0.0  # 0..1

    def copy(self) -> Contents:
        """Return an independent copy; field by field, because a step of growth makes one and `replace` is slow."""
        return Contents(
            self.volume,
            self.mass,
            self.viable,
            self.dead,
            self.feeders,
            self.lysing,
            self.glucose,
            self.lactate,
            self.glutamine,
            self.ammonia,
            self.oxygen,
            self.il2,
            self.okt3,
            self.activator,
            self.dmso,
            self.met_feeders,
            self.met_activator,
            self.temperature,
            self.age,
            self.alone,
        )

    @property
    def alive(self) -> bool:
        """Tell whether any living cell is in it."""
        return self.viable > 0.0 or self.feeders > 0.0

    @property
    def viability(self) -> float | None:
        """Return the share of viable among the patient's own cells (feeders gated out), 0..1; None without cells."""
        total = self.viable + self.dead
        return self.viable / total if total > 0.0 else None

    @property
    def total_viability(self) -> float | None:
        """Return what a counter without gating sees: feeders, live and dying, count as not viable."""
        total = self.viable + self.dead + self.feeders + self.lysing
        return self.viable / total if total > 0.0 else None

    def concentration(self, amount: str) -> float:
        """Return an amount over the volume: mmol/L for mmol, per mL for cells, IU and ng."""
        if self.volume <= 0.0:
            return 0.0
        per_ml: float = getattr(self, amount) / self.volume
        return per_ml * 1000.0 if amount in MILLIMOLAR else per_ml


MILLIMOLAR = ("glucose", "lactate", "glutamine", "ammonia", "oxygen")
SOLUTES = ("mass", *MILLIMOLAR, "il2", "okt3", "activator", "dmso", "met_activator")
CELLS = ("viable", "dead", "feeders", "lysing", "met_feeders")
AMOUNTS = SOLUTES + CELLS


def draw(source: Contents, volume: float, carry: float) -> Contents:
    """Take `volume` mL out of `source` and return it; solutes go by volume.

    `carry` is the concentration of cells in what is drawn over the mean one: 1 when mixed, 0.01 over a settled layer.
    Taking all takes all the cells.
    """
    if volume >= source.volume:
        parcel = source.copy()
        for name in AMOUNTS:
            setattr(source, name, 0.0)
        source.volume, source.age, source.alone = 0.0, None, 0.0
        return parcel
    share = volume / source.volume
    parcel = Contents(volume=volume, temperature=source.temperature, age=source.age, alone=source.alone)
    for names, part in ((SOLUTES, share), (CELLS, min(1.0, share * carry))):
        for name in names:
            amount: float = getattr(source, name)
            taken = amount * part
            setattr(parcel, name, taken)
            setattr(source, name, amount - taken)
    source.volume -= volume
    return parcel


def pour(parcel: Contents, into: Contents) -> None:
    """Add `parcel` to `into`: amounts add, temperature and age mix by volume and by cells."""
    volume = parcel.volume + into.volume
    if volume > 0.0:
        into.temperature = (into.temperature * into.volume + parcel.temperature * parcel.volume) / volume
    cells = parcel.viable + into.viable
    if parcel.age is not None and into.age is not None and cells > 0.0:
        into.age = (into.age * into.viable + parcel.age * parcel.viable) / cells
        into.alone = (into.alone * into.viable + parcel.alone * parcel.viable) / cells
    elif parcel.age is not None and parcel.viable > 0.0:
        into.age, into.alone = parcel.age, parcel.alone
    for name in AMOUNTS:
        setattr(into, name, getattr(into, name) + getattr(parcel, name))
    into.volume = volume


# mM glucose and glutamine, IU/mL IL-2, ng/mL OKT3, mL/mL CD3/CD28 reagent and DMSO, g/mL, degC.  Media: general
# knowledge; CS10 holds 10 % DMSO, a thawed
# product half of that; washed cells are in a balanced salt solution with 1 % albumin.
LIQUIDS: dict[str, dict[str, float]] = {
    "empty": {},
    "cm1": {"glucose": 11.0, "glutamine": 2.0, "il2": 6000.0},
    "cm2": {"glucose": 14.0, "glutamine": 2.0, "il2": 3000.0, "okt3": 30.0},
    "cm4": {"glucose": 17.0, "glutamine": 2.0, "il2": 3000.0},
    "medium": {"glucose": 14.0, "glutamine": 2.0, "il2": 3000.0},
    "feeders": {"glucose": 14.0, "glutamine": 2.0},
    "activator": {"activator": 1.0},
    "cs10": {"dmso": 0.10, "density": 1.06, "temperature": 4.0},
    "frozen": {"dmso": 0.05, "density": 1.04, "temperature": 2.0},
    "buffer": {},
    "washed": {"density": 1.02},
}


def mixed(volume: float, liquid: str, extra: Mapping[str, float]) -> Contents:
    """Return `volume` mL of a known liquid, with single properties replaced or added by `extra`.

    It has the oxygen of air.  `extra` may give concentrations in the units of `LIQUIDS`, `density`, `temperature`, and
    cells as amounts: `cells` (viable), `dead`, `feeders`, `lysing`, and `age` in days.  Raises ValueError for an
    unknown liquid or property.
    """
    if liquid not in LIQUIDS:
        raise ValueError(f"liquid {liquid!r} is not one of {', '.join(sorted(LIQUIDS))}")
    given = {"oxygen": AIR, **LIQUIDS[liquid], **extra}
    contents = Contents(volume=volume, mass=volume * given.pop("density", MEDIUM_DENSITY))
    contents.temperature = given.pop("temperature", ROOM)
    contents.age = given.pop("age", None)
    contents.viable = given.pop("cells", 0.0)
    names = {f.name for f in fields(Contents)}
    for name, value in given.items():
        if name not in names:
            raise ValueError(f"{name!r} is not a property of a liquid")
        amount = value if name in CELLS else value * volume * (1e-3 if name in MILLIMOLAR else 1.0)
        setattr(contents, name, amount)
    return contents
