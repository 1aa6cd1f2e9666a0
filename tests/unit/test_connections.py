"""URLs of an external database: refused at preview, past a pooler, with the backup's own login."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from components.logins import as_role, owner
from components.monitoring.monitoring import for_lib_pq
from settings.connections import find_problems, find_warnings
from settings.consistency import StackFile
from settings.problems import SettingsError
from settings.stack import StackSettings, parse
from tests.support.program import RELEASE, Program, run_program, secrets_for, stack_config

URL = "postgresql://shop:s3cret@db.example.com:5432/shop"
ADMIN = "postgresql://dba:s3cret@db.example.com:5432/shop"
POOLED = "postgresql://shop:s3cret@pool.example.com:6432/shop?pgbouncer=true&connection_limit=1"
PEM = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"


def external(secrets: tuple[str, ...] = (), backup: dict[str, Any] | None = None, **postgres: Any) -> dict[str, Any]:
    config = stack_config("Pulumi.prod.yaml", release=RELEASE)
    config["runbook:data"]["postgres"] |= {"admin": False, **postgres}
    config["runbook:application"]["secrets"] = [*config["runbook:application"].get("secrets", []), *secrets]
    config["runbook:backup"] |= backup or {}
    return config


def settings(config: dict[str, Any]) -> StackSettings:
    sealed = frozenset(f"secrets:{name}" for name in secrets_for(config))
    return parse(StackFile("Pulumi.prod.yaml", config, sealed))


def problems(url: str, config: dict[str, Any] | None = None, **more: str) -> str:
    found = list(find_problems(settings(config or external()), {"DATABASE_URL": url, **more}))
    return "\n".join(each.render() for each in found)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        (
            f"{URL}?sslmode=verify-full&sslrootcert=/app/ca.pem",
            ("sslrootcert", "/app/ca.pem", "runbook:data.postgres.ca"),
        ),
        (f"{URL}?sslcert=/app/a.pem&sslkey=/app/b.pem", ("sslcert", "/app/a.pem", "DIRECT_URL")),
        (f"{URL}?sslidentity=/app/id.p12", ("sslidentity", "sslmode=verify-full")),
        (POOLED, ("pgbouncer=true", "secrets:DIRECT_URL", "runbook:application.secrets")),
        (
            "postgresql:///shop?host=/cloudsql/project:region:shop&user=shop&password=s3cret",
            ("/cloudsql/", "host name"),
        ),
        ("prisma://accelerate.prisma-data.net/?api_key=s3cret", ("Prisma's proxy", "DIRECT_URL")),
        ("mysql://shop:s3cret@db/shop", ("postgresql://user:password@host",)),
    ],
)
def test_what_cannot_be_honoured_is_refused_before_anything_is_changed(url: str, named: tuple[str, ...]) -> None:
    found = problems(url)
    assert "secrets:DATABASE_URL" in found
    assert all(word in found for word in named), found
    assert "s3cret" not in found


@pytest.mark.parametrize(
    "query", ["", "sslmode=no-verify", "schema=app", "ssl=true&connection_limit=3", "ssl=no-verify"]
)
def test_what_can_be_honoured_passes(query: str) -> None:
    assert not problems(f"{URL}?{query}")


def test_the_other_value_and_other_urls_are_checked_too() -> None:
    bad = f"{URL}?sslmode=what"
    assert "secrets:DATABASE_URL_B" in problems(URL, DATABASE_URL_B=bad)
    assert "secrets:BACKUP_DATABASE_URL" in problems(URL, BACKUP_DATABASE_URL=bad)
    assert "secrets:REDIS_URL" in problems(URL, REDIS_URL="rediss://u:s3cret@h/0?ssl_ca_certs=/app/ca.pem")
    assert "s3cret" not in problems(URL, REDIS_URL="rediss://u:s3cret@h/0?ssl_ca_certs=/app/ca.pem")


def test_certificates_in_the_stack_file_take_the_place_of_the_file() -> None:
    assert not problems(f"{URL}?sslmode=verify-full&sslrootcert=/app/ca.pem", external(ca=PEM))


def test_past_a_pooler_the_pooled_url_is_the_applications_own_affair() -> None:
    with_direct = external(("DIRECT_URL",))
    assert not problems(POOLED, with_direct, DIRECT_URL=URL)
    assert "secrets:DIRECT_URL" in problems(POOLED, with_direct, DIRECT_URL=POOLED)


def test_an_address_that_looks_pooled_is_reported() -> None:
    url = URL.replace("db.example.com:5432", "aws-0.pooler.supabase.com:6543")
    (warning,) = find_warnings(settings(external()), {"DATABASE_URL": url})
    assert "DIRECT_URL" in warning
    assert "s3cret" not in warning
    assert not list(find_warnings(settings(external()), {"DATABASE_URL": URL}))


def test_a_direct_url_has_to_be_among_the_secrets() -> None:
    with pytest.raises(SettingsError, match=r"add DATABASE_DIRECT to runbook:application\.secrets"):
        settings(external(directUrl="DATABASE_DIRECT"))


def test_the_program_refuses_before_any_resource(capsys: pytest.CaptureFixture[str]) -> None:
    config = external()
    with pytest.raises(pulumi.RunError, match="pgbouncer=true") as caught:
        run_program(config, secrets_for(config) | {"DATABASE_URL": POOLED})
    assert "s3cret" not in str(caught.value) + capsys.readouterr().err


@pytest.fixture(scope="module")
def past_the_pooler() -> Program:
    backup = {"ownLogin": True, "restoreTest": {"postgresImage": RELEASE["image"], "redisImage": RELEASE["image"]}}
    config = external(("DATABASE_DIRECT",), backup, directUrl="DATABASE_DIRECT", ca=PEM)
    given = {"DATABASE_URL": POOLED, "DATABASE_DIRECT": f"{URL}?schema=app", "BACKUP_DATABASE_URL": URL}
    return run_program(config, secrets_for(config) | given)


def test_tasks_and_migrations_go_past_the_pooler(past_the_pooler: Program) -> None:
    direct = f"{URL}?schema=app"
    secret = past_the_pooler.one("Secret", "database").inputs["stringData"]
    assert secret == {"DATABASE_URL": direct, "DATABASE_DIRECT": direct, "DATABASE_CA": PEM}
    (migrate,) = (job for job in past_the_pooler.all("Job") if job.object_name.startswith("migrate-"))
    assert {"secretRef": {"name": "database"}} in migrate.containers[0]["envFrom"]
    services = next(s for s in past_the_pooler.all("Secret") if s.object_name.startswith("app-secrets-"))
    assert services.inputs["stringData"]["DATABASE_URL"] == POOLED
    assert services.inputs["stringData"]["DATABASE_DIRECT"] == direct


def test_only_backups_get_the_backups_own_login(past_the_pooler: Program) -> None:
    assert past_the_pooler.one("Secret", "backup-login").inputs["stringData"] == {"BACKUP_DATABASE_URL": URL}
    assert holders_of(past_the_pooler, "backup-login") == {"backup", "restore", "pre-release"}
    assert not holders_of(past_the_pooler, "restore-administrator")


def holders_of(program: Program, secret: str) -> set[str]:
    """The objects whose pods get all of a Secret as their environment."""
    return {
        resource.object_name.rsplit("-", 1)[0] if resource.kind == "Job" else resource.object_name
        for resource in program.objects
        for item in (resource.containers if resource.pod else [])
        if {"secretRef": {"name": secret}} in item.get("envFrom", [])
    }


def test_a_restored_copy_is_served_in_the_schema_of_the_live_one(past_the_pooler: Program) -> None:
    url = past_the_pooler.one("Secret", "restore-test").inputs["stringData"]["DATABASE_URL"]
    assert "@127.0.0.1:5432/" in url
    assert url.endswith("?schema=app")


def test_roles_that_take_turns_log_in_past_the_pooler_too() -> None:
    config = external(("DIRECT_URL",), admin=True)
    at = "2026-11-22T10:00:00Z"
    state = {"period": 1, "previous": 0, "phase": "rolled-out", "startedAt": at, "phaseAt": at}
    config["runbook:rotated"] = {"DATABASE_URL": state}
    given = {"DATABASE_URL": POOLED, "DIRECT_URL": URL, "DATABASE_ADMIN_URL": ADMIN}
    program = run_program(config, secrets_for(config) | given)
    # It ends their sessions in a restore in place.
    assert program.one("Secret", "restore-administrator").inputs["stringData"] == {"DATABASE_ADMIN_URL": ADMIN}
    assert holders_of(program, "restore-administrator") == {"restore"}
    direct = program.one("Secret", "database").inputs["stringData"]["DIRECT_URL"]
    assert direct.startswith("postgresql://shop_b:")
    assert direct.endswith("@db.example.com:5432/shop")
    tasks = program.one("Secret", "rotation").inputs["stringData"]
    assert tasks["ROTATE_DATABASE_NEW_URL"] == direct
    assert tasks["ROTATE_DATABASE_OLD_URL"] == URL
    services = next(s for s in program.all("Secret") if s.object_name.startswith("app-secrets-"))
    assert services.inputs["stringData"]["DIRECT_URL"] == direct
    assert "@pool.example.com:6432/" in services.inputs["stringData"]["DATABASE_URL"]


def test_logins_of_other_spellings() -> None:
    jdbc = "jdbc:postgresql://h/shop?user=shop&password=x"
    assert owner(jdbc) == "shop"
    assert as_role(jdbc, "b", "new") == "jdbc:postgresql://shop_b:new@h/shop"
    with pytest.raises(ValueError, match="names no role") as caught:
        owner("mysql://u:s3cret@h")
    assert "s3cret" not in str(caught.value)


def test_the_exporters_client_gets_only_what_it_knows() -> None:
    assert for_lib_pq(f"{URL}?sslmode=no-verify", tls=True) == f"{URL}?sslmode=require&connect_timeout=3"
    verified = for_lib_pq(f"{URL}?sslmode=verify-full&sslrootcert=/app/ca.pem", tls=True, ca=PEM)
    assert "sslinline=true&sslrootcert=-----BEGIN+CERTIFICATE-----" in verified
