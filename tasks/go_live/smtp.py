"""The mail server: EHLO, STARTTLS with a certificate that is verified, and the login that the application has."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from tasks.environment import Environment
from tasks.go_live.line import Line
from tasks.reach import SECONDS, NotThere

_PORTS = {"implicit": 465, "starttls": 587, "none": 25}
_URL = "smtp://user:password@host:587"


@dataclass(frozen=True)
class Account:
    host: str
    port: int
    user: str
    password: str
    tls: str


def check_smtp(line: Line, settings: Mapping[str, Any]) -> None:
    environment = line.environment
    by_url = environment.text(settings["url"]) is not None or environment.text(settings["host"]) is None
    parts = ["host", "port", *(("user", "password") if settings["login"] else ())]
    line.variables([settings["url"]] if by_url else [settings[part] for part in parts])
    read = _read_url if by_url else _read_variables
    accounts: list[Account] = []
    line.step("address", lambda: accounts.append(read(environment, settings)) or "readable")
    (account,) = accounts
    line.connect(account.host, account.port)
    _talk(line, account, login=settings["login"])


def _read_url(environment: Environment, settings: Mapping[str, Any]) -> Account:
    name = settings["url"]
    try:
        parts = urlsplit(environment.required(name, _URL))
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme.lower().partition("+")[0] not in ("smtp", "smtps", "submission", "submissions") or not host:
        raise NotThere(f"{name} is no SMTP URL; it has to look like {_URL}, with special characters written as %XX")
    implicit = parts.scheme.lower() in ("smtps", "submissions", "smtp+ssl") or port == _PORTS["implicit"]
    tls = settings.get("tls") or ("implicit" if implicit else "starttls")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Account(host, port or _PORTS[tls], user, password, tls)


def _read_variables(environment: Environment, settings: Mapping[str, Any]) -> Account:
    port = environment.integer(settings["port"], least=1)
    tls = settings.get("tls") or ("implicit" if port == _PORTS["implicit"] else "starttls")
    user, password = environment.text(settings["user"]) or "", environment.text(settings["password"]) or ""
    host = environment.required(settings["host"], "smtp.example.com")
    return Account(host, port or _PORTS[tls], user, password, tls)


def _talk(line: Line, account: Account, *, login: bool) -> None:
    context = ssl.create_default_context()
    servers: list[smtplib.SMTP] = []

    def greet() -> str:
        if account.tls == "implicit":
            server: smtplib.SMTP = smtplib.SMTP_SSL(account.host, account.port, timeout=SECONDS, context=context)
        else:
            server = smtplib.SMTP(account.host, account.port, timeout=SECONDS)
        servers.append(server)
        return _ehlo(server)

    def encrypt() -> str:
        (server,) = servers
        if not server.has_extn("starttls"):
            raise NotThere("the server does not offer STARTTLS: passwords and mail would be sent in clear")
        code, text = server.starttls(context=context)
        if code != 220:
            raise NotThere(_shown(code, text))
        _ehlo(server)
        return f"{server.sock.version()}, certificate verified"  # type: ignore[union-attr]

    def log_in() -> str:
        (server,) = servers
        if not account.user:
            raise NotThere("there is no user to log in as")
        if not server.has_extn("auth"):
            raise NotThere("the server offers no AUTH")
        try:
            return _shown(*server.login(account.user, account.password))
        except smtplib.SMTPAuthenticationError as error:
            raise NotThere(f"login refused: {_shown(error.smtp_code, error.smtp_error)}") from None

    try:
        line.step("EHLO", greet)
        if account.tls == "starttls":
            line.step("STARTTLS", encrypt)
        if login:
            line.step("AUTH", log_in)
    finally:
        for server in servers:
            with suppress(OSError):
                server.quit()


def _ehlo(server: smtplib.SMTP) -> str:
    code, text = server.ehlo()
    if code != 250:
        raise NotThere(_shown(code, text))
    return _shown(code, text.splitlines()[0] if text else b"")


def _shown(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode(errors='replace') if isinstance(text, bytes) else text}".strip()
