"""What the backup tasks decide, without any server."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pyrage import x25519

from tasks.__main__ import GROUPS, main
from tasks.backup import encryption
from tasks.backup.manifest import File, Manifest, Release, Sentinel, checked_id, new_id
from tasks.backup.postgres import Database, level_from
from tasks.backup.retention import Retention, decide
from tasks.backup.sqlite import path_of
from tasks.environment import Environment
from tasks.errors import Refused, TaskError, without
from tasks.progress import size
from tasks.store.multipart import part_size

NOW = datetime(2025, 3, 31, 12, tzinfo=UTC)
MIB = 1 << 20


def manifest(at: datetime) -> Manifest:
    id_ = new_id("scheduled", at)
    return Manifest(
        id=id_,
        kind="scheduled",
        created_at=at,
        finished_at=at + timedelta(minutes=1),
        engine="postgresql",
        server_version="15.14",
        database="shop",
        format="custom",
        schema_level=3,
        release=Release(12, "12e4567", None),
        tables={"public.orders": 5},
        sentinel=Sentinel("token", at),
        files=(File(f"{id_}.dump", 10, "aa"), File("roles.sql", 2, "bb")),
        size_bytes=12,
        database_bytes=99,
        key_ids=(),
        tools={"pg_dump": "15.14"},
        previous=None,
    )


def kept(retention: Retention, *days: float, **more: list[str]) -> dict[float, tuple[str, ...]]:
    """Age in days → why it is kept, of those that are."""
    backups = {manifest(NOW - timedelta(days=age)).id: age for age in sorted(days)}
    manifests = [replace(manifest(NOW - timedelta(days=age)), id=id_) for id_, age in backups.items()]
    verdicts = decide(manifests, retention, NOW, **more)
    return {backups[verdict.manifest.id]: verdict.why for verdict in verdicts if verdict.why}


def test_days_and_least() -> None:
    assert list(kept(Retention(days=7, least=1), 0, 6.9, 7, 7.1, 30)) == [0, 6.9, 7]
    assert list(kept(Retention(days=7, least=4), 0, 8, 9, 10, 11)) == [0, 8, 9, 10]
    assert list(kept(Retention(days=1, least=1), 400)) == [400], "an old one is better than none"
    assert kept(Retention(days=1)) == {}


def test_the_newest_of_each_period() -> None:
    """2025-03-31 is a Monday. Periods without a backup do not count."""
    hourly = [day + hour / 24 for day in range(800) for hour in (0, 6)]
    found = kept(Retention(days=1, daily=3, weekly=3, monthly=3, yearly=3, least=1), *hourly)
    dates = {name: [] for name in ("daily", "weekly", "monthly", "yearly")}
    for age, why in found.items():
        for name in dates.keys() & set(why):
            dates[name].append((NOW - timedelta(days=age)).strftime("%m-%d %H"))
    assert dates == {
        "daily": ["03-31 12", "03-30 12", "03-29 12"],
        "weekly": ["03-31 12", "03-30 12", "03-23 12"],
        "monthly": ["03-31 12", "02-28 12", "01-31 12"],
        "yearly": ["03-31 12", "12-31 12", "12-31 12"],
    }
    assert list(kept(Retention(days=1, weekly=2, least=1), 0, 100, 300)) == [0, 100]
    a_year_apart = (0, 364)
    assert list(kept(Retention(days=1, weekly=2, least=1), *a_year_apart)) == [0, 364], "week 14 of two years"
    assert list(kept(Retention(days=1, monthly=2, least=1), 0, 365)) == [0, 365], "March of two years"


def test_what_a_rollback_needs_stays_however_old() -> None:
    old = [replace(manifest(NOW - timedelta(days=day)), kind="pre-release") for day in (100, 200, 300)]
    verdicts = decide([manifest(NOW), *old], Retention(days=7, least=1), NOW)
    assert [bool(verdict.why) for verdict in verdicts] == [True, True, True, False]


def test_all_reasons_are_reported() -> None:
    backups = [manifest(NOW - timedelta(days=age)) for age in (0, 50, 60)]
    verdicts = decide(
        backups,
        Retention(days=7, yearly=1, least=1),
        NOW,
        proven=[backups[1].id, backups[2].id],
        needed=[backups[0].id, "no-such-backup"],
    )
    assert [verdict.why for verdict in verdicts] == [
        ("within 7 days", "yearly", "one of the newest 1", "needed by a rollback"),
        ("newest proven",),
        (),
    ]


def test_a_manifest_survives_its_journey() -> None:
    made = manifest(NOW)
    assert Manifest.from_bytes(made.to_bytes(), made.id) == made
    assert json.loads(made.to_bytes())["release"] == {"revision": 12, "git": "12e4567", "image": None}
    assert [file.name for file in made.dump] == [f"{made.id}.dump"]
    bare = replace(made, release=None, schema_level=None)
    assert Manifest.from_bytes(bare.to_bytes(), made.id) == bare
    for data in (b"", b"[]", b"{}", made.to_bytes()[:-20], made.to_bytes().replace(b'"kind"', b'"sort"')):
        with pytest.raises(TaskError, match=made.id):
            Manifest.from_bytes(data, made.id)
    with pytest.raises(TaskError, match="another"):
        Manifest.from_bytes(made.to_bytes(), "another")


@pytest.mark.parametrize(
    "text", ["", "../../etc", "20250131T020000Z-weekly-1a2b", "20250131T020000Z-manual-1a2b/x", "x\n"]
)
def test_ids_that_are_none(text: str) -> None:
    with pytest.raises(Refused) as caught:
        checked_id(text)
    assert caught.value.exit_code == 2


def test_ids_sort_by_time() -> None:
    assert checked_id(new_id("pre-release", NOW)).startswith("20250331T120000Z-pre-release-")
    assert new_id("scheduled", NOW) < new_id("manual", NOW + timedelta(seconds=1))


def test_a_url_of_prisma() -> None:
    database = Database.at(
        "postgresql://us%40er:p%40s%2Fs@h:5433/shop?schema=public&sslmode=require&connection_limit=5"
    )
    assert (database.name, database.shown) == ("shop", "shop on h:5433")
    variables = {name: value for name, value in database.environment().items() if name.startswith("PG")}
    assert variables == {
        "PGUSER": "us@er",
        "PGPASSWORD": "p@s/s",
        "PGHOST": "h",
        "PGPORT": "5433",
        "PGDATABASE": "shop",
        "PGSSLMODE": "require",
        "PGCONNECT_TIMEOUT": "10",
    }
    assert database.without_password == "postgresql://us%40er@h:5433/shop?sslmode=require"
    assert database.named("other shop").url == "postgresql://us%40er:p%40s%2Fs@h:5433/other%20shop?sslmode=require"


def test_programs_get_no_other_databases_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "production")
    monkeypatch.setenv("PGOPTIONS", "-c x=y")
    found = Database.at("postgresql:///shop").environment()
    assert "PGHOST" not in found
    assert "PGOPTIONS" not in found


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://u:secret@h/d",
        "postgresql://u:secret@h",
        "postgresql://u:secret@h/",
        "postgresql://u:sec@ret@h/d",
        "postgresql://u:sec/ret@h/d",
        "postgresql://u:sec?ret@h/d",
    ],
)
def test_a_url_that_is_none_is_not_repeated(url: str) -> None:
    with pytest.raises(Refused, match="DATABASE_URL") as caught:
        Database.at(url)
    assert "sec" not in str(caught.value).replace("special", "")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///data/shop.db", "/data/shop.db"),
        ("sqlite:////data/shop.db", "/data/shop.db"),
        ("file:/data/a%20b.db?connection_limit=1", "/data/a b.db"),
        ("file:./dev.db", "dev.db"),
    ],
)
def test_urls_of_sqlite(url: str, path: str) -> None:
    assert str(path_of(url)) == path


def test_levels() -> None:
    assert [level_from([(value,)]) for value in (0, 7, "7", None)] == [0, 7, 7, 0]
    for rows in ([], [(1,), (2,)], [(1, 2)], [("x",)], [(-1,)]):
        with pytest.raises(Refused):
            level_from(rows)


def test_parts_are_few_enough() -> None:
    assert part_size(0) == part_size(30 << 30) == 8 * MIB
    for expected in (100 << 30, 1 << 40, 20 << 40):
        assert 2 * expected <= 10_000 * part_size(expected)
        assert part_size(expected) % MIB == 0


def test_secrets_are_struck_out() -> None:
    environment = Environment(
        {
            "DATABASE_URL": "postgresql://u:p%40ss@h/d",
            "AWS_SECRET_ACCESS_KEY": "key",
            "AWS_SESSION_TOKEN": "",
            "RESTORE_DATABASE_URL": "postgresql://u@h/d?password=as%20ked",
        }
    )
    assert environment.secrets == {"p%40ss", "p@ss", "key", "as ked"}
    assert without(environment.secrets, "p@ss p%40ss key d") == "*** *** *** d"


def test_recipients_and_identities(tmp_path_factory: pytest.TempPathFactory) -> None:
    one, two = x25519.Identity.generate(), x25519.Identity.generate()
    both = f"{one.to_public()}\n {two.to_public()}"
    assert encryption.recipients(Environment({"BACKUP_RECIPIENTS": both})) == (
        str(one.to_public()),
        str(two.to_public()),
    )
    assert encryption.recipients(Environment({})) == ()
    with pytest.raises(Refused, match="BACKUP_IDENTITIES_FILE") as caught:
        encryption.recipients(Environment({"BACKUP_RECIPIENTS": str(one)}))
    assert str(one) not in str(caught.value)

    file = tmp_path_factory.mktemp("keys") / "identities"
    file.write_text(f"# a comment\n\n{one}\nAGE-SECRET-KEY-1BROKEN\n")
    with pytest.raises(Refused, match="line 4") as caught:
        encryption.identities(Environment({"BACKUP_IDENTITIES_FILE": str(file)}))
    assert "BROKEN" not in str(caught.value)
    with pytest.raises(Refused, match="cannot be read"):
        encryption.identities(Environment({"BACKUP_IDENTITIES_FILE": str(file.with_name("none"))}))


def test_tasks_know_nothing_of_the_program() -> None:
    """Their image has neither Pulumi nor the settings."""
    names = [module for module, _ in GROUPS.values()]
    looking = f"import importlib, sys; [importlib.import_module(name) for name in {names}]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", looking], capture_output=True, text=True, check=True).stdout
    assert not {"pulumi", "settings", "ops", "components", "sandbox", "pydantic", "lightkube"} & set(loaded.split())


def test_sizes_as_people_read_them() -> None:
    assert [size(count) for count in (0, 1023, 1536, 5 * MIB, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 MiB",
        "3.0 TiB",
    ]


@pytest.mark.parametrize(
    "words",
    [["backup", "list", "--json"], ["backup", "--json", "list"], ["backup", "list"]],
    ids=["after", "before", "not"],
)
def test_the_last_line_is_json_when_asked_for(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BACKUP_STORE", raising=False)
    assert main(words) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: BACKUP_STORE is not set")
    if "--json" in words:
        assert json.loads(output.out)["error"]["code"] == "environment_invalid"
    else:
        assert output.out == ""
