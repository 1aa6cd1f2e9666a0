"""Connection URLs as applications write them, read for libpq and for Redis' client.

Standard library only, and no other module of `tasks`: settings/connection_url.py is a link to this file, so that
preview refuses what tasks would refuse later, and the program loads no task.
No message contains a URL or a part of one that may be secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

SYSTEM_CA = "system"
"""`sslrootcert`: the certificate authorities that this machine trusts."""
MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""libpq's values of `sslmode`."""

_EXAMPLE = "postgresql://user:password@host:5432/database"
_SCHEME = re.compile(r"(?:jdbc:)?(?:postgres(?:ql)?|postgis|pg?sql)(?:\+[a-z0-9_]+)?://", re.IGNORECASE)
_PROXY = re.compile(r"prisma(\+postgres(ql)?)?://", re.IGNORECASE)
# One @ at most and none after the host: an unescaped one in a password would be taken for the host's, and shown.
_FORM = re.compile(r"([^@/?#\s]*@)?[^@/?#\s]*/[^@/?#\s]+(\?[^#\s]*)?")
_REDIS_FORM = re.compile(r"([^@/?#\s]*@)?[^@/?#\s]*(/\d*)?(\?[^#\s]*)?")
_ADDRESS = re.compile(r"(?:\[[^\[\]]+\]|[^\[\]:]*)(?::(\d*))?")
_MOST_PORT = 65_535
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_IN_LOGIN = "%:!$&'()*+,;=~"
"""What a login may contain as it is: urlsplit refuses some of the rest, and its error repeats the password."""
_KEYWORDS = frozenset(
    {"host", "hostaddr", "port", "dbname", "user", "password", "passfile", "require_auth", "channel_binding"}
    | {"connect_timeout", "client_encoding", "options", "application_name", "fallback_application_name", "gssencmode"}
    | {"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "requirepeer"}
    | {"sslmode", "sslnegotiation", "sslcompression", "sslcert", "sslkey", "sslpassword", "sslcertmode", "sslcrl"}
    | {"sslcrldir", "sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gsslib"}
    | {"gssdelegation", "service", "target_session_attrs", "load_balance_hosts"}
)
"""Keywords of libpq that say how to connect; the others that a URL has are its client's own."""
_SPELLINGS = {
    "applicationname": "application_name",
    "connecttimeout": "connect_timeout",
    "currentschema": "schema",
    "search_path": "schema",
}
"""A parameter in lower case, as JDBC or pgx have it → as it is called here."""
_FILES = ("sslcert", "sslkey", "sslcrl", "sslcrldir", "passfile", "service")
_SEARCH_PATH = re.compile(r"(?:-c\s*|--)search_path=((?:\\.|\S)+)")
_YES, _NO = ("true", "1", "on", "yes"), ("false", "0", "off", "no")
_SECURITY = re.compile(r"ssl|tls|gss|krb", re.IGNORECASE)
_POOLER_PORTS = (":6432", ":6543")
"""Of PgBouncer, and of Supabase's pooler."""
PAST_A_POOLER = (
    "Set the URL past the pooler (`pulumi config set --secret secrets:DIRECT_URL`) and add DIRECT_URL to "
    "runbook:application.secrets (or another name, in runbook:data.postgres.directUrl)"
)
"""What to write where the application's URL leads to a pooler."""


class Unusable(ValueError):
    """The URL cannot be used; the message names the parameter and the remedy, and nothing of the URL."""


@dataclass(frozen=True)
class PostgresUrl:
    """A database's URL as libpq reads it, and what it says besides."""

    url: str
    """Only with keywords of libpq; without `sslrootcert`, which depends on where it is read."""
    schema: str | None
    """The schema of the application's tables, if it is named (Prisma's `schema`); it is also in the URL's `options`."""
    ca: str | None
    """`sslrootcert`: a file, or `system`."""
    verifies: bool
    """Whether the server's certificate is verified."""
    files: tuple[tuple[str, str], ...]
    """Other parameters that name a file, and the file."""
    socket: str | None
    """The folder of a Unix socket."""
    pooled: bool
    """`pgbouncer=true`: a pooler in transaction mode, where no session lasts."""

    @property
    def looks_pooled(self) -> bool:
        """Whether it has the usual address of a pooler in transaction mode (PgBouncer, Supabase, Neon)."""
        hosts = urlsplit(self.url).netloc.rpartition("@")[2].split(",")
        return any(host.endswith(_POOLER_PORTS) or "-pooler." in host for host in hosts)

    def with_ca(self, file: str | None) -> str:
        """The URL that verifies the server by the certificates in a file."""
        if file is None:
            return self.url
        parts = urlsplit(self.url)
        added = f"sslrootcert={quote(file, safe='')}"
        return joined(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))


def parse_postgres(url: str) -> PostgresUrl:
    """Read a URL of node-postgres, Prisma, SQLAlchemy, JDBC, pgx or libpq; `Unusable` says what cannot be honoured."""
    if _PROXY.match(url):
        raise Unusable("a URL of Prisma's proxy: give the database's own URL, such as DIRECT_URL has")
    scheme = _SCHEME.match(url)
    if scheme is None or not _FORM.fullmatch(rest := url[scheme.end() :]):
        # The URL is not shown: an unescaped @ or / in the password is the usual reason that it is invalid.
        raise Unusable(
            f"no PostgreSQL URL with a database name; write it like {_EXAMPLE}, "
            "with every special character of the password written as %XX"
        )
    if _NO_ESCAPE.search(rest.partition("?")[0]):
        raise Unusable("a % that begins no escape: write %25 for a % of the password")
    parts = _split("postgresql", rest)
    given = dict(_parameters(parts.query))
    pooled = given.pop("pgbouncer", "false").lower() in _YES
    schema = given.pop("schema", None) or None
    mode, ca = _verification(given)
    parts = _with_login(parts, given)
    _complete(given, parts, schema, mode)
    files = tuple((key, given[key]) for key in _FILES if given.get(key))
    kept = {key: value for key, value in given.items() if key in _KEYWORDS}
    return PostgresUrl(
        url=joined(parts._replace(query=urlencode(kept, quote_via=quote))),
        schema=schema,
        ca=ca,
        verifies=mode is not None and mode.startswith("verify"),
        files=files,
        socket=_socket(parts, given),
        pooled=pooled,
    )


def parse_redis(url: str) -> str:
    """A URL of ioredis, node-redis, Celery or redis-py, as redis-py reads it."""
    scheme, separator, rest = url.partition("://")
    # Valkey's clients know both names.
    scheme = scheme.lower().replace("valkey", "redis")
    if not separator or scheme not in ("redis", "rediss"):
        raise Unusable(
            "no Redis URL; it has to look like redis://user:password@host:6379/0, or rediss://… with TLS: sockets "
            "and Sentinel are not supported"
        )
    rest = rest.strip()
    if not _REDIS_FORM.fullmatch(rest) or "," in rest.partition("?")[0].rpartition("@")[2]:
        raise Unusable(
            "no URL of one Redis server; write it like redis://user:password@host:6379/0, with every special character "
            "of the password written as %XX"
        )
    parts = _split(scheme, rest)
    given = dict(_pairs(parts.query))
    lower = {key.lower(): value for key, value in given.items()}
    kept = {key: given[key] for key in ("db", "username", "password") if key in given}
    secure = scheme == "rediss" or any(lower.get(key, "").lower() in _YES for key in ("ssl", "tls"))
    reqs = lower.pop("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if reqs not in ("none", "optional", "required"):
        raise Unusable("ssl_cert_reqs is unknown: write none, optional or required")
    if lower.pop("rejectunauthorized", "true").lower() in _NO:
        reqs = "none"
    hostname = lower.pop("ssl_check_hostname", "true").lower() not in _NO
    for key in set(lower) - {"ssl", "tls"}:
        if _SECURITY.match(key):
            raise Unusable(
                f"{key} cannot be honoured: its file or meaning is the application's. Remove it, or write "
                "ssl_cert_reqs=none if the server's certificate cannot be verified by the system's authorities"
            )
    if secure:
        kept["ssl_cert_reqs"] = reqs
        if reqs == "none" or not hostname:
            kept["ssl_check_hostname"] = "False"
    plain = f"redis{'s' if secure else ''}"
    return joined(parts._replace(scheme=plain, query=urlencode(kept, quote_via=quote)))


def passwords(url: str) -> Iterator[str]:
    """What in a URL must not be shown, escaped and unescaped; also of a URL that is not well-formed."""
    rest = url.partition("://")[2]
    for text in (rest, rest.partition("?")[0], re.split(r"[/?#]", rest, maxsplit=1)[0]):
        password = text.rpartition("@")[0].partition(":")[2]
        yield from (password, unquote(password))
    for key, value in _pairs(rest.partition("?")[2].partition("#")[0]):
        if key.lower() in ("password", "sslpassword"):
            yield from (value, value.replace("+", " "))
            if url.startswith("jdbc:"):  # where that is its only place
                yield quote(value, safe="")


def joined(parts: SplitResult) -> str:
    """The URL of its parts. Not urlunsplit: it leaves out the // that libpq wants also where there is no host."""
    return f"{parts.scheme}://{parts.netloc}{parts.path}" + (f"?{parts.query}" if parts.query else "")


def _split(scheme: str, rest: str) -> SplitResult:
    login, _, address = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")
    for host in address.split(","):
        found = _ADDRESS.fullmatch(host)
        if found is None or not (found[1] or "1").strip("0") or int(found[1] or 1) > _MOST_PORT:
            raise Unusable(
                f"its host or port cannot be read; a port is a number up to {_MOST_PORT}, an IPv6 address stands in []"
            )
    try:
        return urlsplit(f"{scheme}://{quote(login, safe=_IN_LOGIN)}{rest[len(login) :]}")
    except ValueError:
        raise Unusable("its host cannot be read") from None


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    # Not parse_qsl: a + is a + to libpq, also in a password.
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        yield unquote(key), unquote(value)


def _parameters(query: str) -> Iterator[tuple[str, str]]:
    for key, value in _pairs(query):
        name = _SPELLINGS.get(key.lower(), key)
        # URLSearchParams and others write blanks as +; of options, no other + has a meaning.
        yield name, value.replace("+", " ") if name == "options" else value


def _verification(given: dict[str, str]) -> tuple[str | None, str | None]:
    """`sslmode` and `sslrootcert` as libpq has them; the parameters that say the same are taken out."""
    mode: str | None = given.pop("sslmode", "").lower() or None
    ssl = given.pop("ssl", "").lower()
    if ssl and mode is None:
        mode = "require" if ssl in _YES else "disable" if ssl in _NO else ssl
    unverified = mode == "no-verify"
    mode = "require" if unverified else mode
    ca = given.pop("sslrootcert", None) or None
    # Prisma's sslcert is the server's authority; libpq's is a client's certificate, which has a key.
    if ca is None and given.get("sslcert") and not given.get("sslkey"):
        ca = given.pop("sslcert")
    accept = given.pop("sslaccept", "").lower()
    if accept == "strict":
        mode = mode if mode and mode.startswith("verify") else "verify-full"
    elif accept not in ("", "accept_invalid_certs"):
        raise Unusable("sslaccept is unknown: write strict or accept_invalid_certs")
    factory = given.pop("sslfactory", "")
    if factory.endswith("NonValidatingFactory"):
        mode, unverified = "require", True
    elif factory:
        raise Unusable("sslfactory is a class of Java: write sslmode=require or sslmode=verify-full instead")
    if ca == SYSTEM_CA:
        mode = "verify-full"
    if ca is not None and mode is None:
        mode = "verify-ca"  # an authority is given in order to be asked
    if mode not in ("require", "verify-ca", "verify-full") or unverified:
        ca = None
    if mode is not None and mode not in MODES:
        raise Unusable(f"sslmode is unknown: write one of {', '.join(MODES)}, no-verify")
    if mode is not None:
        given["sslmode"] = mode
    for key in sorted(given.keys() - _KEYWORDS):
        if _SECURITY.match(key):
            raise Unusable(f"{key} cannot be honoured: remove it, and write sslmode=require or sslmode=verify-full")
    return mode, ca


def _with_login(parts: SplitResult, given: dict[str, str]) -> SplitResult:
    """User and password before the host, where JDBC has them among the parameters."""
    if "@" in parts.netloc or not given.get("user"):
        return parts
    login = quote(given.pop("user"), safe="")
    if "password" in given:
        login += f":{quote(given.pop('password'), safe='')}"
    return parts._replace(netloc=f"{login}@{parts.netloc}")


def _complete(given: dict[str, str], parts: SplitResult, schema: str | None, mode: str | None) -> None:
    if schema is not None and schema != "public":
        # The server reads options word by word; a backslash keeps a blank within one.
        names = schema if '"' in schema or "," in schema else f'"{schema}"'
        path = re.sub(r"([\\ ])", r"\\\1", names)
        given["options"] = f"{given.get('options', '')} -c search_path={path}".strip()
    kind = given.pop("targetServerType", "").lower()
    hosts = parts.netloc.rpartition("@")[2].split(",") + given.get("host", "").split(",")[1:]
    # Of several, a standby would take no sentinel and no migration.
    if len(hosts) > 1 or kind in ("primary", "master"):
        given.setdefault("target_session_attrs", "read-write")
    timeout = given.get("connect_timeout", "0")
    if not re.fullmatch(r"-?\d+", timeout):
        raise Unusable("connect_timeout is no number: write whole seconds, such as connect_timeout=10")
    if mode == "disable":
        given.pop("sslnegotiation", None)


def _socket(parts: SplitResult, given: dict[str, str]) -> str | None:
    hosts = [unquote(host) for host in parts.netloc.rpartition("@")[2].split(",")]
    hosts += given.get("host", "").split(",")
    return next((host for host in hosts if host.startswith(("/", "@"))), None)


def with_login(url: str, user: str, password: str) -> str:
    """The URL for another role of the same server; both as they are, without escapes."""
    head, separator, rest = url.partition("://")
    address, mark, query = rest.partition("?")
    kept = "&".join(part for part in query.split("&") if part.partition("=")[0] not in ("user", "password"))
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"{head}{separator}{login}@{address.rpartition('@')[2]}{mark if kept else ''}{kept}"


def application_parameters(url: str) -> str:
    """What of a URL's query says where the application's tables are: for the same tables on another server."""
    kept: list[tuple[str, str]] = []
    for key, value in _parameters(urlsplit(url).query):
        path = _SEARCH_PATH.search(value) if key == "options" else None
        if path:
            kept.append((key, f"-c search_path={path[1]}"))
        elif key == "schema" and value:
            kept.append((key, value))
    return urlencode(kept, quote_via=quote)
