"""Who is told of alarms, and how: checked, with the files that prove us; nothing of what the files hold."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from devices.mqtt.login import Login, LoginError
from tilctl.config.references import Findings, Where
from tilctl.config.schema import MailEntry, NotifyEntry, PersonEntry
from tilctl.config.site import Mail, Notify, Person
from tilctl.config.wiring import check_host

_CODE = "site-notify"
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,190}[A-Za-z0-9])?")
SHORTEST_S = 60.0
LONGEST_S = 86_400.0


def notify_of(entry: NotifyEntry, folder: Path, findings: Findings, *, files: bool) -> Notify:
    """Return who is told and how; what is wrong is reported. Paths are meant from `folder`; `files`: look at them."""
    make = _Making(entry, folder, findings, files=files)
    notify = Notify(
        make.time("repeat", entry.repeat),
        make.time("escalate", entry.escalate),
        entry.batch == "yes",
        tuple(make.person(("notify", "people", index), person) for index, person in enumerate(entry.people)),
        None if entry.email is None else make.mail(entry.email),
    )
    names = [person.name for person in notify.people]
    for index, name in enumerate(names):
        if name in names[:index]:
            findings.add(("notify", "people", index, "name"), _CODE, f"{name} is there twice", "one entry for each")
    if notify.people and all(person.escalation for person in notify.people):
        findings.add(("notify", "people"), _CODE, "nobody is told at once", "give one person no `escalation`")
    return notify


class _Making:
    """Makes the parts of one section."""

    def __init__(self, entry: NotifyEntry, folder: Path, findings: Findings, *, files: bool) -> None:
        self._entry = entry
        self._folder = folder
        self._findings = findings
        self._files = files

    def time(self, key: str, text: str) -> float:
        """Return a time in s."""
        known = len(self._findings.list)
        seconds = self._findings.number(("notify", key), text, "s")
        if len(self._findings.list) == known and not SHORTEST_S <= seconds <= LONGEST_S:
            self._wrong(("notify", key), f"{text} is not between 1 min and 24 h", "such as 15 min")
        return seconds

    def person(self, where: Where, entry: PersonEntry) -> Person:
        """Return one person."""
        if not entry.webhook and not entry.email:
            self._wrong(where, f"there is no way to tell {entry.name}", "give `webhook` or `email`")
        if entry.escalation and not {"critical", "high"} & {*entry.levels}:
            text = f"{entry.name} would never be told: only critical and high alarms go to the next person"
            self._wrong((*where, "escalation"), text, "add high to its `levels`")
        if entry.email and not _ADDRESS.fullmatch(entry.email):
            self._wrong((*where, "email"), f"{entry.email!r} is no address", "such as ops@lab.example")
        if entry.email and self._entry.email is None:
            self._wrong(
                (*where, "email"), "there is no server for e-mail", "give `notify: {email: {host: ..., from: ...}}`"
            )
        secure = self._webhook(where, entry.webhook) if entry.webhook else False
        if entry.token_file and not entry.webhook:
            self._wrong((*where, "token_file"), "a token without a webhook", "give `webhook` too")
        token = Login("", self._path(entry.token_file), self._path(self._entry.ca))
        self._look(where, token, {"password_file": (*where, "token_file")}, tls=secure)
        return Person(entry.name, tuple(entry.levels), entry.escalation, entry.webhook or "", token, entry.email or "")

    def mail(self, entry: MailEntry) -> Mail:
        """Return the server for e-mail."""
        where: Where = ("notify", "email")
        check_host(entry.host, (*where, "host"), self._findings)
        if not _ADDRESS.fullmatch(entry.sender):
            self._wrong((*where, "from"), f"{entry.sender!r} is no address", "such as tilctl@lab.example")
        if (entry.user is None) is not (entry.password_file is None):
            self._wrong(where, "a name and its password belong together", "give `user` and `password_file`")
        if entry.password_file and entry.tls == "none" and not _loopback(entry.host):
            self._wrong((*where, "tls"), "the password would go over the network as it is", "tls: starttls, or tls")
        login = Login(entry.user or "", self._path(entry.password_file), self._path(self._entry.ca))
        self._look(where, login, {"password_file": (*where, "password_file")}, tls=entry.tls != "none")
        return Mail(entry.host, entry.port or _PORTS[entry.tls], entry.tls, entry.sender, login)

    def _webhook(self, where: Where, url: str) -> bool:
        """Report an address that cannot be used, without what may be secret in it; return whether it is by TLS."""
        here = (*where, "webhook")
        hint = "https://host/path; who we are stands in `token_file`"
        try:
            parts = urlsplit(url)
            usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            parts, usable = urlsplit(""), False
        plain = not url.isascii() or any(c.isspace() or not c.isprintable() for c in url)
        if not usable or plain or parts.scheme not in ("https", "http") or parts.fragment:
            self._wrong(here, "this is no address of a webhook", hint)
        elif parts.username or parts.password:
            self._wrong(here, "a name or password does not belong into the address", hint)
        elif parts.scheme == "http" and not _loopback(parts.hostname or ""):
            self._wrong(here, "alarms would leave this machine for everybody to read", "https://")
        return parts.scheme == "https"

    def _look(self, where: Where, login: Login, places: dict[str, Where], *, tls: bool) -> None:
        """Look at the files that it takes to be believed, and to know whom we tell."""
        if not self._files:
            return
        reads: list[Callable[[], object]] = [login.password, *([login.context] if tls else [])]
        for read in reads:
            try:
                read()
            except LoginError as error:
                self._findings.add(places.get(error.key, where), _CODE, error.what, error.todo)

    def _path(self, name: str | None) -> Path | None:
        return None if name is None else self._folder / name

    def _wrong(self, where: Where, what: str, hint: str) -> None:
        self._findings.add(where, _CODE, what, hint)


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
