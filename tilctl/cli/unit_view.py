"""What a unit does, why it waits and what it asks, as text for a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from devices.quantity import show
from tilctl.cli.plain import one_line

Fields = Mapping[str, Any]


def status(unit: str, data: Fields) -> str:
    """Return the status of a unit (`ControllerPort.status`, with `prompts`) as lines."""
    return "\n".join(_status(unit, data))


def prompts(unit: str, opened: Iterable[Fields]) -> str:
    """Return the open prompts of a unit as lines, each with its inputs and how to answer it."""
    found = [line for prompt in opened for line in _prompt(prompt)]
    return "\n".join(found) or f"{one_line(unit)} asks nothing"


def _status(unit: str, data: Fields) -> Iterator[str]:
    batch, day = data.get("batch"), data.get("day")
    head = f"{one_line(unit)} is {one_line(data.get('state'))}"
    if batch:
        head += f": batch {one_line(batch)}, recipe {one_line(data.get('recipe'))}"
    if isinstance(day, int | float):
        head += f", day {day:.2f}"
    yield head
    if data.get("mode") not in (None, "normal"):
        why = f": {one_line(data['mode_reason'])}" if data.get("mode_reason") else ""
        yield f"  mode     {one_line(data['mode'])}{why}"
    if data.get("procedure_mode") not in (None, "automatic"):
        yield f"  steps    {one_line(data['procedure_mode']).replace('_', '-')}: they wait for a person"
    if data.get("reason"):
        yield f"  reason   {one_line(data['reason'])}"
    if data.get("record") not in (None, "ok"):
        yield "  record   FAILED: nothing is recorded any more, look at the disk"
    if data.get("path"):
        yield f"  step     {one_line(data['path'])}"
    for title, entries in (("waits", _each(data, "waits")), ("alarms", _shown(data))):
        write = _wait if title == "waits" else _alarm
        for index, line in enumerate(line for entry in entries for line in write(entry)):
            yield f"  {title if index == 0 else '':8} {line}"
    for index, each in enumerate(_each(data, "adjustable")):
        value, about = f"{each.get('name')} = {each.get('value')}", f"{each.get('label')}; {each.get('limits')}"
        yield f"  {'adjust' if index == 0 else '':8} {one_line(value)} ({one_line(about.removeprefix('; '))})"
    for index, device in enumerate(_each(data, "devices")):
        yield f"  {'devices' if index == 0 else '':8} {_device(device)}"
    for each in _each(data, "estimates"):
        yield f"  estimate {_estimate(each)}"
    for index, prompt in enumerate(_each(data, "prompts")):
        yield f"  {'prompts' if index == 0 else '':8} {_headline(prompt)}: {one_line(prompt.get('text'))}"
    for index, line in enumerate(_lots(data)):
        yield f"  {'releases' if index == 0 else '':8} {line}"
    legal = ", ".join(one_line(command) for command in cast("list[object]", data.get("legal") or []))
    if legal:
        yield f"  next     {legal}"


def _wait(wait: Fields) -> Iterator[str]:
    path = f"{one_line(wait['path'])}: " if wait.get("path") else ""
    yield f"{path}{one_line(wait.get('text'))}" + _due(wait)
    for operand in _each(wait, "operands"):
        age = operand.get("age_s")
        seen = f", {show(float(age), 's')} old" if isinstance(age, int | float) and age >= 1 else ""
        value = _amount(operand.get("value"), str(operand.get("unit") or ""))
        wanted = f", wanted {one_line(operand['limit'])}" if operand.get("limit") else ""
        yield f"  {one_line(operand.get('name'))} = {value}{wanted} ({one_line(operand.get('quality'))}{seen})"


def _shown(data: Fields) -> list[Fields]:
    """Return the alarms that are announced: what is shelved, suppressed or out of service is in `tilctl alarm list`."""
    return [alarm for alarm in _each(data, "alarms") if not alarm.get("aside")]


def _alarm(alarm: Fields) -> Iterator[str]:
    words = [alarm.get("priority"), alarm.get("alarm"), alarm.get("text")]
    since = f" (since {one_line(alarm['since'])})" if alarm.get("since") else ""
    yield f"{one_line(words[0])} {one_line(words[1])}: {one_line(words[2])}{since}"


def _lots(data: Fields) -> Iterator[str]:
    releases = cast("Mapping[str, Fields]", data.get("releases") or {})
    for path, lot in releases.items():
        yield f"{one_line(path)} {_lot(lot)}"
    for lot in _each(data, "lots"):
        yield f"{one_line(lot.get('path'))} of {one_line(lot.get('batch'))} {_lot(lot)}"


def _lot(lot: Fields) -> str:
    awaited = ", ".join(one_line(name) for name in cast("list[object]", lot.get("pending") or []))
    return f"{one_line(lot.get('outcome'))}" + (f"; awaited: {awaited}" if awaited else "")


def _device(device: Fields) -> str:
    status = one_line(device.get("status")).replace("_", " ")
    reasons = "; ".join(one_line(reason) for reason in cast("list[object]", device.get("reasons") or []))
    since = f" (since {one_line(device['since'])})" if device.get("since") else ""
    return f"{one_line(device.get('device'))} {status}: {reasons}{since}"


def _estimate(each: Fields) -> str:
    """Return what is estimated, and what it is forecast to come to."""
    text = f"{one_line(each.get('name'))}: {_cells(each) or one_line(each.get('why') or 'unknown')}"
    end = cast("Fields", each.get("forecast") or {})
    if each.get("now") is not None and end:
        found = _cells(end) or one_line(end.get("why") or "unknown")
        text += f"; when {one_line(end.get('at'))}: {found}"
        if end.get("floor") is not None:
            text += f", {_amount(end['floor'], 'cells')} are wanted"
    refused = cast("list[object]", each.get("not_used") or [])
    return text + "".join(f"; not used: {one_line(item)}" for item in refused[-1:])


def _cells(values: Fields) -> str:
    if values.get("now") is None:
        return ""
    low, high = (_amount(values[key], "") for key in ("low", "high"))
    return f"{_amount(values['now'], 'cells')} ({low} to {high}, 95 %)"


def _prompt(prompt: Fields) -> Iterator[str]:
    yield f"{_headline(prompt)}{_due(prompt)}"
    yield f"    {one_line(prompt.get('text'))}"
    for container in _each(prompt, "containers"):
        yield f"    {_container(container)}"
    for source in _each(prompt, "from"):
        volume = _amount(source.get("volume_ml"), "mL")
        yield f"    from {one_line(source.get('container'))} at {one_line(source.get('place'))}, {volume}"
    inputs = cast("Mapping[str, Fields]", prompt.get("inputs") or {})
    width = max((len(name) for name in inputs), default=0)
    for name, spec in inputs.items():
        label = one_line(spec.get("label") or "")
        yield f"      {one_line(name):{width}}  {_wanted(spec)}" + (f"  ({label})" if label and label != name else "")
    example = " ".join(f"'{one_line(name)}=...'" for name, spec in inputs.items() if not spec.get("optional"))
    yield f"    answer: tilctl batch answer {one_line(prompt.get('id'))} {example}".rstrip()


def _headline(prompt: Fields) -> str:
    return f"{one_line(prompt.get('id'))} {one_line(prompt.get('kind'))} {one_line(prompt.get('path'))}"


def _container(container: Fields) -> str:
    name, kind, place = (one_line(container.get(key)) for key in ("name", "class", "place"))
    text = f"{name} ({kind}) at {place}"
    if container.get("holds"):
        text += f", holds {one_line(container['holds'])}"
    if container.get("volume_ml") is not None:
        text += f", {_amount(container['volume_ml'], 'mL')}"
    return f"{text}, at most {_amount(container.get('limit_ml'), 'mL')}"


def _wanted(spec: Fields) -> str:
    """Return what an input takes, in words."""
    kind, low, high = spec.get("type"), spec.get("min"), spec.get("max")
    unit = str(spec.get("canonical", spec.get("unit")) or "")
    if kind == "choice":
        choices = cast("list[object]", spec.get("choices") or [])
        text = f"one of {', '.join(one_line(choice) for choice in choices)}"
    elif kind != "number":
        text = "a scanned label" if kind == "scan" else "a text"
    elif low is not None and high is not None:
        text = f"{_amount(low, unit)} to {_amount(high, unit)}"
    elif low is not None or high is not None:
        text = f"at least {_amount(low, unit)}" if high is None else f"at most {_amount(high, unit)}"
    else:
        text = f"a number in {one_line(spec.get('unit') or '')}" if spec.get("unit") else "a number"
    return text + (", may be left out" if spec.get("optional") else "")


def _due(entry: Fields) -> str:
    return f" (due {one_line(entry['due'])})" if entry.get("due") else ""


def _amount(value: object, unit: str) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return one_line(show(float(value), unit) if isinstance(value, int | float) else f"{value} {unit}".rstrip())


def _each(data: Fields, key: str) -> list[Fields]:
    """Return a list of objects, empty when there is none; a single object counts as a list of one."""
    found: Any = data.get(key) or []
    return [cast("Fields", found)] if isinstance(found, Mapping) else list(cast("Iterable[Fields]", found))
