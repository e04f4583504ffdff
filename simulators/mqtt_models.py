"""The simulated instruments behind an MQTT broker: Shelly, Tasmota, Pioreactor, and the gateway of a closed device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from devices.clock import Clock
from devices.mqtt.connection import Connection
from devices.mqtt.login import NOBODY, Login
from devices.mqtt.payload import number_text
from devices.mqtt.types import MqttProfile
from devices.mqtt.wire import Connect
from simulators.mqtt import MqttSimulator

DEGREES = "temperature_automation"
_INVALID = -103  # Shelly: invalid argument
_NO_HANDLER = 404  # Shelly: no such method


class SimulatedShelly(MqttSimulator):
    """One switch of a Gen2+ device: JSON-RPC at `<prefix>/rpc`, answered at `<src>/rpc`."""

    on = False
    duration: float | None = None
    """What its timer was started with, s; None while none runs."""
    mac = "A8032AB12345"

    @property
    def listens(self) -> tuple[str, ...]:
        """Return RPC and control topics."""
        return tuple(f"{self.prefix}/{name}" for name in ("rpc", "command", "command/switch:0"))

    async def hello(self) -> None:
        """Say `true` at its online topic, and its state."""
        await self.online()
        await self._status()

    def status(self) -> dict[str, Any]:
        """Return the status of the switch."""
        told: dict[str, Any] = {"id": 0, "source": "MQTT", "output": self.on}
        if self.duration is not None:
            told |= {"timer_started_at": round(self._clock.now().timestamp(), 2), "timer_duration": self.duration}
        power = self.value("power", 0.0) if self.on else 0.0
        warm = self.value("temperature", 30.0)
        return told | {"apower": power, "voltage": 230.1, "temperature": {"tC": warm, "tF": round(warm * 1.8 + 32, 1)}}

    async def _status(self) -> None:
        await self.say(self.topic("status"), json.dumps(self.status()))

    async def obey(self, topic: str, payload: str) -> None:
        """Carry out an RPC or a word of the control interface."""
        if topic.endswith("/command/switch:0"):
            if payload == "status_update":
                await self._status()
        elif topic.endswith("/command"):
            if payload == "announce":
                told = {"id": self.prefix, "mac": self.mac, "gen": 2, "ver": self._values.get("firmware", "")}
                await self.say(self.topic("device"), json.dumps(told))
        else:
            await self._rpc(payload)

    async def _rpc(self, payload: str) -> None:
        try:
            frame: Any = json.loads(payload)
        except (ValueError, RecursionError):
            return
        request: dict[str, Any] = cast("dict[str, Any]", frame) if isinstance(frame, dict) else {}
        source, number = request.get("src"), request.get("id")
        if not isinstance(source, str) or number is None or self.faults.deaf:
            return
        reply: dict[str, Any] = {"id": number, "src": self.prefix, "dst": source}
        if self.faults.wrong_id:
            reply["id"] = f"{number}0"
        done = await self._call(request.get("method"), request.get("params"))
        await self.answer(f"{source}/rpc", json.dumps(reply | done))

    async def _call(self, method: Any, given: Any) -> dict[str, Any]:
        params: dict[str, Any] = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
        if method == "Switch.GetStatus":
            return {"result": self.status()}
        if method != "Switch.Set":
            return {"error": {"code": _NO_HANDLER, "message": f"No handler for {method}"}}
        after = params.get("toggle_after")
        wrong = isinstance(after, bool) or not isinstance(after, int | float | None)
        if params.get("id") != 0 or not isinstance(params.get("on"), bool) or wrong:
            return {"error": {"code": _INVALID, "message": "Invalid argument"}}
        was, self.on, self.duration = self.on, bool(params["on"]), after
        self.commands += 1
        self.run_timer(after)
        await self._status()
        return {"result": {"was_on": was}}

    async def expired(self) -> None:
        """Toggle, as toggle_after says."""
        self.on, self.duration = not self.on, None
        await self._status()


class SimulatedTasmota(MqttSimulator):
    """One relay: commands at `cmnd/<topic>/<command>`, answers at `stat/<topic>/RESULT`."""

    on = False
    pulse = 0
    """PulseTime as it is set: 0 none, 1 to 111 tenths of a second, from 112 on 100 + seconds."""
    mac = "DC:4F:22:BC:C5:67"

    @property
    def listens(self) -> tuple[str, ...]:
        """Return the topic of all commands."""
        return (f"cmnd/{self.prefix}/#",)

    async def hello(self) -> None:
        """Say `Online`, and the state of the relay."""
        await self.online()
        await self.say(self.topic("power"), "ON" if self.on else "OFF")

    async def obey(self, topic: str, payload: str) -> None:
        """Carry out one command, or those of a Backlog one after the other."""
        name = topic.rsplit("/", 1)[1].lower()
        if name in ("backlog", "backlog0"):
            for part in payload.split(";")[:30]:
                words = part.split(maxsplit=1)
                if words:
                    await self._one(words[0].lower(), words[1].strip() if len(words) > 1 else "")
        else:
            await self._one(name, payload.strip())

    async def _one(self, name: str, payload: str) -> None:
        if payload and self.faults.deaf and name != "status":
            return
        result = f"stat/{self.prefix}/RESULT"
        if name in ("power", "power1"):
            if (word := payload.upper()) in ("ON", "OFF", "1", "0"):
                self._switch(on=word in ("ON", "1"))
            shown = "ON" if self.on else "OFF"
            await self.answer(result, json.dumps({"POWER": shown}))
            await self.say(self.topic("power"), shown)
        elif name in ("pulsetime", "pulsetime1"):
            if payload.isascii() and payload.isdecimal() and int(payload) <= 64900:
                self.pulse = int(payload)
                self.commands += 1
            left = self.pulse if self._timer is not None else 0
            await self.say(result, json.dumps({"PulseTime1": {"Set": self.pulse, "Remaining": left}}))
        elif name == "status" and payload == "5":
            told = {"StatusNET": {"Hostname": self.prefix, "IPAddress": "192.0.2.7", "Mac": self.mac}}
            await self.say(f"stat/{self.prefix}/STATUS5", json.dumps(told))
        elif name == "status" and payload == "8":
            power = self.value("power", 0.0) if self.on else 0.0
            told = {"StatusSNS": {"Time": self._clock.now().isoformat()[:19], "ENERGY": {"Power": power}}}
            await self.say(f"stat/{self.prefix}/STATUS8", json.dumps(told))
        else:
            await self.say(result, json.dumps({"Command": "Unknown"}))

    def _switch(self, *, on: bool) -> None:
        self.on = on
        self.commands += 1
        seconds = self.pulse / 10 if self.pulse <= 111 else float(self.pulse - 100)
        self.run_timer(seconds if on and self.pulse else None)

    async def expired(self) -> None:
        """Switch off, as PulseTime says."""
        self.on = False
        await self.say(f"stat/{self.prefix}/RESULT", json.dumps({"POWER": "OFF"}))
        await self.say(self.topic("power"), "OFF")


class SimulatedPioreactor(MqttSimulator):
    """A unit with thermostat and stirring; settings are retained, `<setting>/set` changes them."""

    state = "ready"
    target = 30.0
    stirring = 500.0

    @property
    def listens(self) -> tuple[str, ...]:
        """Return the topics of all settings."""
        return (f"{self.prefix}/+/+/set",)

    async def hello(self) -> None:
        """Publish every setting, retained, and what it measures."""
        self.target = self.value("temperature_target", self.target)
        self.stirring = self.value("stirring_target", self.stirring)
        await self._setting("state", self.state)
        await self._setting("target", number_text(self.target))
        await self._setting("heater", "12.5")
        await self._setting("stirring_target", number_text(self.stirring))
        await self.measure()

    async def _setting(self, block: str, text: str) -> None:
        await self.say(self.topic(block), text, retain=True)

    async def measure(self) -> None:
        """Publish what it measures now, as its jobs do each 23 s and each 200 s."""
        stamp = self._clock.now().isoformat()
        warm = {"temperature": self.value("temperature", 30.0), "timestamp": stamp}
        await self._setting("temperature", json.dumps(warm))
        turning = self.stirring if self.state != "disconnected" else 0.0
        await self._setting("stirring", json.dumps({"measured_rpm": turning, "timestamp": stamp}))

    async def obey(self, topic: str, payload: str) -> None:
        """Take a setting that can be set and is of its type; ignore any other."""
        if self.faults.deaf:
            return
        job, setting = topic.removeprefix(f"{self.prefix}/").split("/")[:2]
        if setting == "$state" and job == DEGREES and payload in ("ready", "sleeping", "disconnected"):
            self.state = payload
            self.commands += 1
            await self._setting("state", payload)
            if payload == "sleeping":
                await self._setting("heater", "0.0")
            return
        try:
            value = float(payload)
        except ValueError:
            return
        if (job, setting) == (DEGREES, "target_temperature"):
            self.commands += 1
            self.target = min(max(value, 0.0), 50.0)
            await self._setting("target", number_text(self.target))
        elif (job, setting) == ("stirring", "target_rpm"):
            self.commands += 1
            self.stirring = max(value, 0.0)
            await self._setting("stirring_target", number_text(self.stirring))


class SimulatedAutomaton(MqttSimulator):
    """The gateway of a closed device: it tells what the device does, and takes no command of anybody."""

    EVERY_S = 120.0
    state = "running"
    temperature = 37.0
    alarm = False
    began: float | None = None
    """When its program began, s of the clock's monotonic time."""

    @property
    def listens(self) -> tuple[str, ...]:
        """Return no topic: there is nothing that it could be told."""
        return ()

    async def hello(self) -> None:
        """Say that it is there, and what the device does."""
        await self.online()
        await self.tell()

    async def tell(self) -> None:
        """Publish the state of the device now; again every `EVERY_S`."""
        now = self._clock.monotonic()
        self.began = now if self.began is None else self.began
        elapsed = now - self.began
        told = {
            "program_state": self.state, "step": 1 + int(elapsed // 86_400), "elapsed_s": round(elapsed, 1),
            "temperature_c": self.temperature, "alarm": self.alarm, "co2_percent": self.value("co2", 5.0),
        }  # fmt: skip
        await self.say(self.topic("status"), json.dumps(told), retain=True)
        self.run_timer(self.EVERY_S)

    async def expired(self) -> None:
        """Tell again."""
        await self.tell()

    async def obey(self, topic: str, payload: str) -> None:
        """Do nothing."""


MODELS: Mapping[str, type[MqttSimulator]] = {
    "shelly_switch": SimulatedShelly,
    "tasmota_relay": SimulatedTasmota,
    "pioreactor": SimulatedPioreactor,
    "automaton": SimulatedAutomaton,
}


def simulated(
    profile: MqttProfile,
    url: str,
    clock: Clock,
    prefix: str = "",
    *,
    login: Login = NOBODY,
    connect: Connect = Connection,
) -> MqttSimulator:
    """Return the simulated instrument of a profile; raises ValueError where its `sim` names none that there is."""
    sim = profile.sim
    if sim is None or sim.model not in MODELS:
        known = ", ".join(MODELS)
        raise ValueError(f"{profile.id}: sim.model is {sim.model if sim else 'missing'}; expected one of {known}")
    return MODELS[sim.model](profile, url, clock, prefix, login=login, connect=connect)
