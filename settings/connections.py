"""The URLs of the data services: what our programs cannot do with them is refused at preview."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from settings.application import Application
from settings.backup import BACKUP_DATABASE_URL
from settings.connection_url import PAST_A_POOLER, SYSTEM_CA, PostgresUrl, Unusable, parse_postgres, parse_redis
from settings.platform import Data, ExternalPostgres
from settings.problems import Problem
from settings.rotation import DATABASE_ADMIN_URL, DATABASE_URL, REDIS_URL, slot_key
from settings.stack import StackSettings

DIRECT_URL = "DIRECT_URL"
"""The usual name of the URL past a pooler."""


def direct_url(data: Data, application: Application) -> str | None:
    """The secret with the database's URL past a pooler, if there is one."""
    if not isinstance(data.postgres, ExternalPostgres):
        return None
    return data.postgres.direct_url or (DIRECT_URL if DIRECT_URL in application.secrets else None)


def find_problems(settings: StackSettings, secrets: Mapping[str, str]) -> Iterator[Problem]:
    """What is wrong with the URLs among these values of `secrets:*`; no message contains a value."""
    for name, url in _urls(settings, secrets):
        try:
            found = parse_postgres(url)
        except Unusable as error:
            yield _problem(name, str(error))
            continue
        yield from (_problem(name, why) for why in _unreachable(settings, found))
        if found.pooled:
            yield _problem(name, _POOLED)
    for name, url in _slots(REDIS_URL, secrets):
        try:
            parse_redis(url) if "://" in url else None
        except Unusable as error:
            yield _problem(name, str(error))


def find_warnings(settings: StackSettings, secrets: Mapping[str, str]) -> Iterator[str]:
    """What may be wrong with them."""
    for name, url in _urls(settings, secrets):
        try:
            if parse_postgres(url).looks_pooled:
                yield (
                    f"secrets:{name} looks like the address of a pooler in transaction mode, through which backups and "
                    f"migrations fail. {PAST_A_POOLER}"
                )
        except Unusable:
            continue


_POOLED = (
    "pgbouncer=true: through a pooler in transaction mode, locks and settings of backups and migrations reach other "
    f"sessions. {PAST_A_POOLER}"
)


def _urls(settings: StackSettings, secrets: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The URLs that tasks connect to, by the name of their secret."""
    names = [direct_url(settings.data, settings.application) or DATABASE_URL, DATABASE_ADMIN_URL, BACKUP_DATABASE_URL]
    for name in names:
        yield from _slots(name, secrets)


def _slots(name: str, secrets: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key in (slot_key(name, 0), slot_key(name, 1)):
        if key in secrets:
            yield key, secrets[key]


def _unreachable(settings: StackSettings, url: PostgresUrl) -> Iterator[str]:
    postgres = settings.data.postgres
    given = isinstance(postgres, ExternalPostgres) and postgres.ca
    if url.ca is not None and url.ca != SYSTEM_CA and not given:
        yield (
            f"sslrootcert names the file {url.ca} of the application's image, which backups and rotations do not have: "
            "write the certificates themselves as runbook:data.postgres.ca, or sslmode=no-verify in the URL to "
            "connect without verifying the server"
        )
    for key, file in url.files:
        yield (
            f"{key} names {file}, which only the application's image has: backups and rotations need a URL without it, "
            f"such as one of a role with a password, as secrets:{DIRECT_URL}"
        )
    if url.socket is not None:
        yield f"the host {url.socket} is a Unix socket, which no other pod has: write the server's host name"


def _problem(name: str, why: str) -> Problem:
    fix = f"run `pulumi config set --secret secrets:{name}` with the corrected URL"
    return Problem((f"secrets:{name}",), f"{why}; {fix}", "a URL (not shown: it has a password)")
