"""The climate of an incubator of parts: its temperature controller, its probes, its gas mixer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from devices.equipment.base import Source
from devices.equipment.spec import ClimateSpec
from simulators.fittings.loop import Loop
from simulators.fittings.workshop import Args, Workshop
from simulators.instruments import GAS_NOISE, HUMIDITY_NOISE, TEMPERATURE_NOISE

FLOW_NOISE = 0.5  # mL/min (engineering default)


def climate(shop: Workshop, spec: ClimateSpec) -> None:
    """Put the chamber behind the parts of an incubator."""
    place, chamber = shop.place, shop.place.climate
    temperature = Source(spec.programmer, "temperature")
    for source in (temperature, None if spec.second is None else spec.second[0]):
        shop.reads(source, lambda: chamber.temperature.at(place.time()), TEMPERATURE_NOISE)
    shop.reads(spec.co2, lambda: chamber.co2.at(place.time()), GAS_NOISE)
    shop.reads(spec.humidity, lambda: chamber.humidity.at(place.time()), HUMIDITY_NOISE)
    draft = shop.drafts[spec.programmer]
    Loop(place, draft)
    draft.values["standby"] = lambda: chamber.heater_cut

    def cut(_args: Args) -> None:
        with place.change() as t:
            chamber.cut_heater(t)

    def power(*, on: bool) -> None:
        with place.change() as t:
            chamber.powered = on
            chamber.heater_cut = False
            chamber.steer(t)

    if draft.profile.safe_command is not None:
        draft.handlers[draft.profile.safe_command] = cut
    draft.off.append(partial(power, on=False))
    draft.on.append(partial(power, on=True))
    _mixer(shop, spec)


def _mixer(shop: Workshop, spec: ClimateSpec) -> None:
    place, chamber = shop.place, shop.place.climate
    flows = {spec.mixer.co2: 0.0, spec.mixer.carrier: 0.0}

    def flow(part: str, value: float) -> None:
        flows[part] = value
        total = sum(flows.values())
        with place.change() as t:
            chamber.set_co2(t, 100.0 * flows[spec.mixer.co2] / total if total > 0.0 else 0.0)

    def set_flow(part: str, args: Args) -> None:
        flow(part, float(args["value"]))

    for part in flows:
        draft, noise = shop.drafts[part], shop.noise(f"{part}.flow", FLOW_NOISE)
        draft.values["setpoint"] = partial(flows.__getitem__, part)
        draft.values["flow"] = partial(_shaky, partial(flows.__getitem__, part), noise)
        draft.handlers["set_flow"] = partial(set_flow, part)
        draft.off.append(partial(flow, part, 0.0))


def _shaky(get: Callable[[], float], noise: Callable[[], float]) -> float:
    value = get()
    return max(0.0, value + noise()) if value > 0.0 else 0.0
