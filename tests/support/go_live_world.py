"""A small shop with what a go-live tries: its HTTP endpoints, a mail server with STARTTLS, and clamd."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandbox import packages
from tests.support import http_servers
from tests.support.servers import free_ports, running

PASSWORD = "mail/@'secret-7"


def issue_certificate(folder: Path, host: str = "127.0.0.1", ends: timedelta = timedelta(days=1)) -> Path:
    """A certificate that is its own authority, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file = folder / f"mail-{host}.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *form) + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file


@contextmanager
def mail_server(certificate: Path | None, *, implicit: bool = False) -> Iterator[int]:
    """The port of a mail server; it knows the user `shop`, and offers AUTH only after TLS. No TLS without a
    certificate."""
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
        known = isinstance(given, LoginPassword) and given.login == b"shop" and given.password == PASSWORD.encode()
        return AuthResult(success=known, handled=False)

    class Handler:
        """Mail is not sent."""

    (port,) = free_ports(1)
    more: dict[str, Any] = {"ssl_context": context} if implicit else {"tls_context": context}
    controller = Controller(
        Handler(),
        hostname="127.0.0.1",
        port=port,
        authenticator=authenticate,
        auth_require_tls=context is not None and not implicit,
        **more,
    )
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


@contextmanager
def clamd(folder: Path, *signatures: bytes) -> Iterator[int]:
    """The port of a clamd that knows the files with these contents."""
    (port,) = free_ports(1)
    database = folder / "signatures"
    database.mkdir(exist_ok=True)
    lines = [
        f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}:{len(content)}:Test-{index}\n"
        for index, content in enumerate(signatures)
    ]
    (database / "test.hdb").write_text("".join(lines))
    configuration = folder / "clamd.conf"
    configuration.write_text(
        f"Foreground yes\nTCPSocket {port}\nTCPAddr 127.0.0.1\nDatabaseDirectory {database}\n"
        f"TemporaryDirectory {folder}\n"
    )
    with running([packages.require("clamd"), "--config-file", configuration], "Self checking"):
        yield port


@dataclass
class Shop:
    """An application that verifies webhooks; what it does wrong is in its fields."""

    secrets: dict[str, str]
    """The secret of each webhook, by path."""
    broken: set[str] = field(default_factory=set)
    """Paths that are answered with 500."""
    trusting: bool = False
    """Accepts every signature."""
    hosts: list[str] = field(default_factory=list)
    port: int = 0

    @contextmanager
    def serving(self, after: float = 0) -> Iterator[str]:
        """`after`: connections are refused for so many seconds, as in a new pod."""
        shop = self

        class Handler(http_servers.Handler):
            def do_GET(self) -> None:
                shop.hosts.append(self.headers["Host"])
                known = {"/": "<html>Shop</html>", "/api/health": '{"status": "healthy", "checks": [{"name": "db"}]}'}
                self._answer(200 if self.path in known else 404, known.get(self.path, "no such page"))

            def do_POST(self) -> None:
                body = self.read_body()
                if self.path not in shop.secrets:
                    return self._answer(404, "")
                if self.headers["X-Forwarded-Proto"] != "https":
                    return self._answer(301, "")
                pairs = dict(part.split("=", 1) for part in self.headers["Stripe-Signature"].split(","))
                signed = f"{pairs['t']}.".encode() + body
                wanted = hmac.new(shop.secrets[self.path].encode(), signed, hashlib.sha256).hexdigest()
                good = shop.trusting or hmac.compare_digest(wanted, pairs["v1"])
                assert json.loads(body)["object"] == "event"
                return self._answer(200 if good else 400, "")

            def _answer(self, status: int, body: str) -> None:
                self.answer(500 if self.path in shop.broken else status, body)

        with http_servers.serve(Handler, after=after) as port:
            yield f"http://127.0.0.1:{port}"
