"""`python3 -m guestbook COMMAND`: what a release runs besides its pages."""

import json
import os
import signal
import sys
import time
import urllib.request
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guestbook.settings")
HEARTBEAT = Path("/tmp/heartbeat")  # noqa: S108 (the pod's own)
_OLD_SECONDS = 30


def make_schema() -> None:
    """The schema of its tables, which no migration of Django makes."""
    from django.conf import settings
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {settings.SCHEMA}")


def migrate() -> None:
    """All migrations of this release."""
    from django.core.management import call_command

    call_command("migrate", interactive=False)


def level() -> None:
    """The schema level: how many of its migrations the database has."""
    from django.db import connection
    from django.db.migrations.recorder import MigrationRecorder

    print(sum(1 for app, _ in MigrationRecorder(connection).applied_migrations() if app == "guestbook"))


def smoke() -> None:
    """A guest reads the book at TARGET_URL. Raises if the answer is not good."""
    asked = urllib.request.Request(os.environ["TARGET_URL"] + "/", headers={"Host": os.environ["GUESTBOOK_HOST"]})  # noqa: S310
    with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310 (TARGET_URL is the stack's own)
        found = json.load(answer)
    print(f"{len(found['entries'])} entries by release {found['version']}")


def work() -> None:
    """Greet new guests until SIGTERM."""
    from guestbook.models import Entry

    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    while not ended:
        if new := Entry.objects.filter(greeted=False).update(greeted=True):
            print(f"greeted {new} guests", flush=True)
        HEARTBEAT.touch()
        time.sleep(0.5)


def main() -> int:
    command = sys.argv[1]
    if command == "working":
        return 0 if time.time() - HEARTBEAT.stat().st_mtime < _OLD_SECONDS else 1
    django.setup()
    {"schema": make_schema, "migrate": migrate, "level": level, "smoke": smoke, "work": work}[command]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
