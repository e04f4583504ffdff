"""Who we are at a broker, and how we know that it is the right one: files that are read again at each connect.

So a password or a certificate that was renewed counts from the next connection on, without a restart. What a file holds
is never shown: not in a log, not in an error, not on a record.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MOST_BYTES = 4096
"""Largest password file."""
PORTS = {"mqtt": 1883, "mqtts": 8883}


class LoginError(Exception):
    """A file of a login cannot be used; `key` is its entry, `what` says why, `todo` what to do."""

    def __init__(self, key: str, what: str, todo: str) -> None:
        super().__init__(f"{what} ({todo})")
        self.key, self.what, self.todo = key, what, todo


@dataclass(frozen=True, slots=True)
class Login:
    """`user` ("": none) with the password in a file, the CA of the broker (None: the system's), our certificate."""

    user: str = ""
    password_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def password(self) -> str | None:
        """Return the password; raises LoginError."""
        if self.password_file is None:
            return None
        lines = _secret("password_file", self.password_file).splitlines()
        path = self.password_file
        if len(lines) != 1 or not lines[0]:
            raise LoginError("password_file", f"{path} has {len(lines)} lines", "it must be one line: the password")
        if lines[0].startswith(f"{self.user}:$"):
            what = f"{path} holds the password as the broker keeps it, hashed"
            raise LoginError("password_file", what, "write the password itself into a file of its own")
        return lines[0]

    def context(self) -> TlsContext:
        """Return what TLS needs, with the broker's name and certificate checked; raises LoginError."""
        context = TlsContext(ssl.PROTOCOL_TLS_CLIENT)
        context.sslsocket_class = _Socket
        if self.ca is None:
            context.load_default_certs()
        else:
            _readable("ca", self.ca)
            try:
                context.load_verify_locations(self.ca)
            except (ssl.SSLError, OSError) as error:
                what = f"{self.ca} holds no certificate: {_reason(error)}"
                raise LoginError("ca", what, "give the CA's certificate, as PEM") from error
        if self.cert is not None:
            self._certify(context, self.cert, self.key or self.cert)
        return context

    def _certify(self, context: TlsContext, cert: Path, key: Path) -> None:
        _readable("cert", cert)
        _secret("key", key, most=10 * MOST_BYTES)
        try:
            context.load_cert_chain(cert, key, _no_passphrase)
        except (ssl.SSLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", "") or ""
            if "MISMATCH" in reason:
                raise LoginError("key", f"{key} is not the key of {cert}", "give the two of one pair") from error
            what = f"{cert} and {key} cannot be used: {_reason(error)}"
            raise LoginError(
                "cert", what, "give a certificate and its key, as PEM, the key without a pass phrase"
            ) from (error)

    def problems(self, url: str) -> Iterator[LoginError]:
        """Look at every file that a connection to `url` would read, and tell what is wrong."""
        if (self.cert is None) != (self.key is None):
            yield LoginError("cert" if self.key else "key", "a certificate and its key belong together", "give both")
            return
        for read in (self.password, self.context) if encrypted(url) else (self.password,):
            try:
                read()
            except LoginError as error:
                yield error


NOBODY = Login()
"""A client without a name, which most brokers let look and not speak."""


class TlsContext(ssl.SSLContext):
    """A context that remembers what went wrong in a connection: MQTT's library says no more than that it was lost."""

    trouble: ssl.SSLError | None = None


class _Socket(ssl.SSLSocket):
    """A socket that is closed when its handshake fails, which the library leaves to chance."""

    def do_handshake(self, block: bool = False) -> None:
        done = False
        try:
            super().do_handshake(block)
            done = True
        finally:
            if not done:
                self.close()

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:  # with TLS 1.3 a broker that does not want us says so after the handshake
            if isinstance(self.context, TlsContext):
                self.context.trouble = error
            raise


def address(url: str) -> tuple[str, int]:
    """Return host and port of `mqtt://host:port` or `mqtts://host:port`; raises ValueError for anything else."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"{url!r} is not a broker address: expected mqtt://host:1883, or mqtts://host:8883 with TLS")
    return parts.hostname, parts.port or PORTS[parts.scheme]


def encrypted(url: str) -> bool:
    """Tell whether the way to a broker is by TLS."""
    return urlsplit(url).scheme == "mqtts"


def refused_login(code: str, url: str, login: Login) -> str:
    """Say what a broker's refusal of a login means, and what to do."""
    who = f"user {login.user}" if login.user else "a client without a name"
    if login.password_file is not None:
        todo = f"compare `user` and {login.password_file} with the broker's own password file"
    elif login.cert is not None:
        todo = f"does the broker know the name in {login.cert}? See its log and its access list"
    else:
        todo = "it may want a password: give `user` and `password_file`"
    return f"the broker at {url} refuses {who}: {code}; {todo}"


def failed_tls(error: ssl.SSLError, url: str, login: Login) -> str:
    """Say what a failure of TLS means, and what to do."""
    host, ours = address(url)[0], login.cert or "no certificate of ours"
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message
        match error.verify_code:
            case 9 | 10:
                todo = "renew it at the broker; or is the clock of this machine wrong?"
            case 62 | 64:
                todo = f"it is not made for {host}: use the name that it has in the url, or make one with this name"
            case _:
                todo = f"it must come from the CA in {login.ca or 'the store of this machine (give `tls: {ca: FILE}`)'}"
        return f"the certificate of the broker at {url} cannot be trusted: {why}; {todo}"
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "certificate expired" in reason:
        todo = f"renew {ours}"
    elif "certificate required" in reason or ("handshake failure" in reason and login.cert is None):
        todo = "it wants a certificate of ours: give `tls: {cert: FILE, key: FILE}`"
    elif "unknown ca" in reason or "certificate" in reason:
        todo = f"{ours} must come from a CA that the broker trusts (its `cafile`)"
    elif "wrong version" in reason or "record layer" in reason or "packet length" in reason:
        return f"nobody speaks TLS at {url} ({reason}); give the broker's TLS port, or mqtt:// for one without"
    else:
        todo = "see the broker's log"
    return f"the broker at {url} refuses us by TLS: {reason}; {todo}"


def _secret(key: str, path: Path, most: int = MOST_BYTES) -> str:
    """Return a text that is nobody else's business; raises LoginError."""
    _readable(key, path)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode  # of the very file that is read
            data = file.read(most + 1)
    except OSError as error:
        raise _unreadable(key, path, error) from error
    # Invariant: a secret that everyone can read is not used, or nobody would notice.
    if stat.S_IMODE(mode) & 0o007:
        what = f"{path} is open to everyone on this machine (mode {stat.S_IMODE(mode):04o})"
        raise LoginError(key, what, f"chmod 600 {path}, or 640 with a group of its own")
    if len(data) > most:
        raise LoginError(key, f"{path} has more than {most} bytes", "another file was meant")
    try:
        return data.decode("utf-8-sig")  # an editor may have left a mark of its own
    except UnicodeDecodeError as error:
        raise LoginError(key, f"{path} is no text in UTF-8", "another file was meant") from error


def _readable(key: str, path: Path) -> None:
    try:
        if not path.is_file():
            what = f"{path} is no file" if path.exists() else f"there is no file {path}"
            raise LoginError(key, what, "a relative path is meant from the folder of the site file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise _unreadable(key, path, error) from error


def _unreadable(key: str, path: Path, error: OSError) -> LoginError:
    todo = "let the user that runs this read it, through its group"
    return LoginError(key, f"{path} cannot be read: {error.strerror}", todo)


def _no_passphrase() -> str:
    """Nobody is there to be asked."""
    raise ValueError("the key has a pass phrase")


def _reason(error: Exception) -> Any:
    return getattr(error, "reason", None) or str(error)
