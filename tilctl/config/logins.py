"""Who a site is at its brokers: names, and the files that prove them; nothing of what the files hold."""

from __future__ import annotations

from pathlib import Path

from devices.mqtt.login import Login, encrypted
from tilctl.config.references import Findings, Where
from tilctl.config.schema import MqttBusEntry, MqttEntry, TlsEntry

_CODE = "site-login"


class Logins:
    """Makes the logins of one site file; what is wrong with them is reported."""

    def __init__(self, folder: Path, findings: Findings, *, files: bool) -> None:
        """Take the folder from which paths are meant; `files`: look at them too."""
        self._folder = folder
        self._findings = findings
        self._files = files

    def controller(self, entry: MqttEntry) -> Login:
        """Return who the controller is at its broker."""
        return self._login(("mqtt",), entry.url, entry.user, entry.password_file, entry.tls)

    def instruments(self, where: Where, entry: MqttBusEntry) -> Login:
        """Return who the controller is at a broker of instruments."""
        if entry.password_file and not entry.user:
            self._findings.add((*where, "password_file"), _CODE, "a password without a name", "give `user` too")
        return self._login(where, entry.url, entry.user or "", entry.password_file, entry.tls)

    def stations(self, entry: MqttEntry) -> dict[str, Login]:
        """Return who stations are at the controller's broker; their files are looked at by the station itself."""
        found: dict[str, Login] = {}
        for name, station in entry.stations.items():
            tls = TlsEntry(ca=entry.tls.ca, cert=station.cert, key=station.key)
            where: Where = ("mqtt", "stations", name)
            self._agrees(where, entry.url, tls)
            found[name] = self._made(name, station.password_file, tls)
        return found

    def _login(self, where: Where, url: str, user: str, password_file: str | None, tls: TlsEntry) -> Login:
        login = self._made(user, password_file, tls)
        if self._agrees((*where, "tls"), url, tls) and self._files:
            for problem in login.problems(url):
                place = (problem.key,) if problem.key == "password_file" else ("tls", problem.key)
                self._findings.add((*where, *place), _CODE, problem.what, problem.todo)
        return login

    def _agrees(self, where: Where, url: str, tls: TlsEntry) -> bool:
        """Report what contradicts itself, whether or not its files are here."""
        known = len(self._findings.list)
        if not encrypted(url) and (tls.ca or tls.cert or tls.key):
            text = f"there are files for TLS, and {url} is without"
            self._findings.add(where, _CODE, text, "write mqtts://host:8883, or leave `tls` out")
        if (tls.cert is None) != (tls.key is None):
            self._findings.add(where, _CODE, "a certificate and its key belong together", "give `cert` and `key`")
        return len(self._findings.list) == known

    def _made(self, user: str, password_file: str | None, tls: TlsEntry) -> Login:
        files = (password_file, tls.ca, tls.cert, tls.key)
        return Login(user, *(None if name is None else self._folder / name for name in files))
