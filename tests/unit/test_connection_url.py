"""Connection URLs as applications write them, as our programs read them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from redis import Redis

from tasks.backup.postgres import Database
from tasks.connection_url import (
    Unusable,
    application_parameters,
    parse_postgres,
    parse_redis,
    passwords,
    with_login,
)
from tasks.credentials.redis import account
from tasks.environment import Environment
from tasks.errors import Refused, without


def variables(url: str) -> dict[str, str]:
    found = Database.at(url).environment().items()
    return {name: value for name, value in found if name.startswith("PG") and name != "PGCONNECT_TIMEOUT"}


@pytest.mark.parametrize(
    ("query", "mode"),
    [
        ("sslmode=no-verify", "require"),
        ("sslmode=no-verify&sslrootcert=/app/ca.pem", "require"),
        ("ssl=true", "require"),
        ("ssl=1", "require"),
        ("ssl=no-verify", "require"),
        ("ssl=verify-full&sslrootcert=system", "verify-full"),
        ("ssl=false", "disable"),
        ("sslmode=prefer&ssl=true", "prefer"),
        ("sslmode=require&sslaccept=accept_invalid_certs", "require"),
        ("sslmode=require&sslaccept=strict", "verify-full"),
        ("ssl=true&sslfactory=org.postgresql.ssl.NonValidatingFactory", "require"),
        ("sslmode=disable&sslrootcert=/app/ca.pem", "disable"),
    ],
)
def test_how_the_server_is_verified(query: str, mode: str) -> None:
    found = variables(f"postgresql://u:p@h/shop?{query}")
    assert found["PGSSLMODE"] == mode
    assert ("PGSSLROOTCERT" in found) == (mode == "verify-full")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://u:p@h/shop", {"PGHOST": "h"}),
        ("postgresql+psycopg://u:p@h/shop", {"PGHOST": "h"}),
        ("postgresql+asyncpg://u:p@h/shop?ssl=require&prepared_statement_cache_size=0", {"PGSSLMODE": "require"}),
        ("postgis://u:p@h/shop", {"PGHOST": "h"}),
        ("jdbc:postgresql://h:5433/shop?user=u%40x&password=a%2Bb", {"PGUSER": "u@x", "PGPASSWORD": "a+b"}),
        ("postgresql://u@h/shop?password=a+b", {"PGPASSWORD": "a+b"}),
        ("postgresql://u:%40%2F%3Fp@h/shop", {"PGPASSWORD": "@/?p"}),
        ("postgresql://u:p@h/shop?pgbouncer=true&connection_limit=1&pool_timeout=0", {"PGDATABASE": "shop"}),
        ("postgresql://u:p@h/shop?schema=app", {"PGOPTIONS": '-c search_path="app"'}),
        ("postgresql://u:p@h/shop?schema=My%20App", {"PGOPTIONS": '-c search_path="My\\ App"'}),
        ("jdbc:postgresql://h/shop?user=u&currentSchema=app,public", {"PGOPTIONS": "-c search_path=app,public"}),
        ("postgresql://u:p@h/shop?options=-c+search_path%3Dapp", {"PGOPTIONS": "-c search_path=app"}),
        ("postgresql://u:p@h1:5432,h2:5433/shop", {"PGHOST": "h1,h2", "PGTARGETSESSIONATTRS": "read-write"}),
        ("postgresql://u:p@%2Fvar%2Frun/shop", {"PGHOST": "/var/run"}),
        ("postgresql:///shop?host=/var/run", {"PGHOST": "/var/run"}),
        ("postgresql://u:p@[::1]:5433/shop", {"PGHOST": "::1", "PGPORT": "5433"}),
        ("postgresql://u:p@[fe80::1%25eth0],[::2]:5433/shop", {"PGHOST": "fe80::1%eth0,::2", "PGPORT": ",5433"}),
        ("pgsql://u:p@h/shop", {"PGHOST": "h"}),
        ("psql://u:p@h/shop", {"PGHOST": "h"}),
        ("postgresql://u:p[x@h/shop", {"PGPASSWORD": "p[x"}),
        ("postgresql://u:p[x]\u2100ä@h/shop", {"PGPASSWORD": "p[x]\u2100ä"}),
    ],
)
def test_spellings(url: str, expected: dict[str, str]) -> None:
    assert expected.items() <= variables(url).items()


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql://u:secret@h/shop?sslmode=verify-full&sslrootcert=/app/ca.pem", "sslrootcert.*/app/ca.pem.*data"),
        ("postgresql://u:secret@h/shop?sslrootcert=/app/ca.pem", "sslrootcert"),
        ("postgresql://u:secret@h/shop?sslmode=require&sslcert=/app/ca.pem", "sslrootcert"),
        ("postgresql://u:secret@h/shop?sslcert=/app/a.pem&sslkey=/app/b.pem", "sslcert.*a role with a password"),
        ("postgresql://u:secret@h/shop?sslidentity=/app/id.p12&sslpassword=secret", "sslidentity"),
        ("postgresql://u:secret@h/shop?sslmode=encrypted", "sslmode.*no-verify"),
        ("postgresql://u:secret@h/shop?sslaccept=sometimes", "sslaccept"),
        ("postgresql://u:secret@h/shop?connect_timeout=10s", "connect_timeout"),
        ("prisma://accelerate.prisma-data.net/?api_key=secret", "DIRECT_URL"),
        ("cockroachdb://u:secret@h/shop", "no PostgreSQL URL"),
        ("postgresql://u:sec@ret@h/shop", "no PostgreSQL URL"),
        ("postgresql://u:secret%zz@h/shop", "write %25"),
        ("postgresql://u:secret%00@h/shop", "write %25"),
        ("postgresql://u:secret@h:port/shop", "a port is a number"),
        ("postgresql://u:secret@h1:5432,h2:70000/shop", "a port is a number"),
        ("postgresql://u:secret@::1/shop", "an IPv6 address"),
        ("postgresql://u:secret@h\u2100/shop", "host"),
    ],
)
def test_what_cannot_be_honoured_names_the_parameter(url: str, named: str) -> None:
    with pytest.raises(Refused, match=f"DATABASE_URL.*{named}") as caught:
        Database.at(url)
    assert not {"secret", "sec@ret"} & set(re.split(r"[^\w@]+", str(caught.value)))


def test_certificates_from_the_environment_take_the_place_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_CA", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----")
    found = variables("postgresql://u:p@h/shop?sslmode=verify-full&sslrootcert=/app/ca.pem")
    assert Path(found["PGSSLROOTCERT"]).read_text().startswith("-----BEGIN CERTIFICATE-----\nx\n")
    assert found["PGSSLMODE"] == "verify-full"


def test_preview_refuses_what_tasks_would_refuse() -> None:
    for url in ("postgresql://u:p%zz@h/shop", "postgresql://u:p@h:port/shop", "postgresql://u:p@h\u2100/shop"):
        with pytest.raises(Unusable):
            parse_postgres(url)
    for url in ("redis://u:p/q@h/0", "redis://a:1,b:2/0", "redis://h:port/0", "redis://h/sessions"):
        with pytest.raises(Unusable):
            parse_redis(url)


def test_poolers() -> None:
    assert parse_postgres("postgresql://u:p@h/shop?pgbouncer=true").pooled
    assert not parse_postgres("postgresql://u:p@h/shop?pgbouncer=false").pooled
    for address in ("aws-0-eu-west-3.pooler.supabase.com:6543", "ep-cool-1234-pooler.eu-west-3.aws.neon.tech"):
        assert parse_postgres(f"postgresql://u:p@{address}/shop").looks_pooled
    assert not parse_postgres("postgresql://u:p@db.example.com:5432/shop").looks_pooled


def test_passwords_are_masked_in_any_spelling() -> None:
    for url in (
        "postgresql://u:s3cr%40t@h/shop",
        "jdbc:postgresql://h/shop?user=u&password=s3cr%40t",
        "postgresql+asyncpg://u:s3cr%40t@h/shop?x=a@b",
        "postgresql://u:s3cr@t@h/shop",
    ):
        for text in ("s3cr@t", "s3cr%40t") if "%40" in url else ("s3cr@t",):
            assert "s3cr" not in without(Environment({"DATABASE_URL": url}).secrets, f"failed: {text}"), url
    assert "" not in Environment({"DATABASE_URL": "postgresql://h/shop"}).secrets
    assert set(passwords("")) <= {""}


def test_another_login_of_the_same_url() -> None:
    url = "postgresql+asyncpg://u:p@h:6543/shop?ssl=require"
    assert with_login(url, "u_b", "q/r") == "postgresql+asyncpg://u_b:q%2Fr@h:6543/shop?ssl=require"
    given = "jdbc:postgresql://h/shop?user=u&password=p&ssl=true"
    assert with_login(given, "u_b", "q") == "jdbc:postgresql://u_b:q@h/shop?ssl=true"


def test_where_the_tables_are_is_kept_for_a_restored_copy() -> None:
    assert application_parameters("postgresql://u:p@h/shop?schema=app&sslmode=require&pgbouncer=true") == "schema=app"
    assert application_parameters("jdbc:postgresql://h/shop?currentSchema=app&password=x") == "schema=app"
    asked = "postgresql://u:p@h/shop?options=endpoint%3Dep-1%20-c%20search_path%3Dapp,public"
    assert application_parameters(asked) == "options=-c%20search_path%3Dapp%2Cpublic"
    assert application_parameters("postgresql://u:p@h/shop") == ""


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://u:p@h:6379/2?family=6&allowUsernameInURI=true", {"db": 2}),
        ("rediss://u:p@h:6380/0", {"ssl_cert_reqs": "required"}),
        ("rediss://u:p@h:6380/0?ssl_cert_reqs=CERT_NONE", {"ssl_cert_reqs": "none"}),
        ("rediss://h:6380?rejectUnauthorized=false", {"ssl_cert_reqs": "none"}),
        ("redis://h:6380/0?tls=true", {"ssl_cert_reqs": "required"}),
        ("valkeys://u:p@h:6380/0", {"ssl_cert_reqs": "required"}),
        ("redis://u:p[x\u2100@[::1]:6379/1", {"host": "::1", "db": 1, "password": "p[x\u2100"}),
    ],
)
def test_urls_of_redis(url: str, options: dict[str, object]) -> None:
    made = Redis.from_url(account(url, "REDIS_URL").url)
    assert options.items() <= made.connection_pool.connection_kwargs.items()
    made.connection_pool.make_connection()  # refuses a parameter that it does not know


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("rediss://u:secret@h/0?ssl_ca_certs=/app/ca.pem", "ssl_ca_certs"),
        ("rediss://u:secret@h/0?ssl_cert_reqs=perhaps", "ssl_cert_reqs"),
        ("redis+sentinel://u:secret@h/0", "Sentinel"),
        ("unix:///run/redis.sock", "sockets"),
        ("redis://u:sec/ret@h:6379/0", "%XX"),
        ("redis://u:secret@a:6379,b:6379/0", "one Redis server"),
        ("redis://u:secret@h:6379/sessions", "redis://user:password@host:6379/0"),
        ("redis://u:secret@h:port/0", "a port is a number"),
    ],
)
def test_what_redis_cannot_honour(url: str, named: str) -> None:
    with pytest.raises(Refused, match=named) as caught:
        account(url, "REDIS_URL")
    assert "secret" not in str(caught.value)


def test_redis_verifies_by_default() -> None:
    assert "ssl" not in parse_redis("redis://h/0")
