"""A database's URL for the programs of this machine: libpq's keywords, and files that are here."""

from __future__ import annotations

import atexit
import os
import ssl
import tempfile
from functools import cache
from pathlib import Path

import psycopg
from psycopg import pq

from tasks.connection_url import SYSTEM_CA, PostgresUrl, Unusable, parse_postgres
from tasks.errors import Refused

CA = "DATABASE_CA"
"""Variable with the certificates (PEM) of the authority that signed the server's."""
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def for_libpq(url: str, variable: str) -> str:
    """The URL as this machine's libpq reads it; `environment_invalid` says what it asks for that is not here."""
    try:
        found = parse_postgres(url)
        cleaned = found.with_ca(_authority(found))
        # A keyword that is newer than this libpq is refused by it.
        pq.Conninfo.parse(cleaned.encode())
    except Unusable as error:
        raise Refused("environment_invalid", f"{variable}: {error}") from None
    except (ValueError, psycopg.Error):
        raise Refused("environment_invalid", f"{variable} cannot be read; check its host and port") from None
    for key, file in found.files:
        if key != "service" and not Path(file).exists():
            raise Refused(
                "environment_invalid",
                f"{variable}: {key} names the file {file}, which is not here: backups and rotations need a URL "
                "without it, such as one of a role with a password",
            )
    return cleaned


def _authority(url: PostgresUrl) -> str | None:
    """The file with the certificates that the server's is verified by; None where it is not verified."""
    given = os.environ.get(CA, "").strip()
    if url.ca is not None and url.ca != SYSTEM_CA:
        if Path(url.ca).exists():
            return url.ca
        if given:
            return _written(given)
        raise Unusable(
            f"sslrootcert names the file {url.ca}, which is not here: put the certificates themselves into {CA} "
            "(runbook:data.postgres.ca in the stack file), or write sslmode=no-verify to connect without verifying",
        )
    if not url.verifies:
        return None
    if url.ca is None and given:
        return _written(given)
    if url.ca is None and (Path.home() / ".postgresql" / "root.crt").exists():
        return None  # libpq's own default
    found = [*_BUNDLES, ssl.get_default_verify_paths().cafile]
    # libpq knows `system` from version 16 on; a file of every version.
    return next((file for file in found if file and Path(file).exists()), None)


@cache
def _written(certificates: str) -> str:
    """A file with these certificates, for as long as this process lives."""
    with tempfile.NamedTemporaryFile("w", prefix="runbook-ca-", suffix=".pem", delete=False) as file:
        file.write(certificates + "\n")
    atexit.register(Path(file.name).unlink, missing_ok=True)
    return file.name
