"""Django's settings, from the environment."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from guestbook.release import RELEASE

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "only for building")
SECRET_KEY_FALLBACKS = list(filter(None, [os.environ.get("DJANGO_SECRET_KEY_PREVIOUS")]))
ALLOWED_HOSTS = [os.environ.get("GUESTBOOK_HOST", "localhost")]
ROOT_URLCONF = "guestbook.views"
WSGI_APPLICATION = "guestbook.wsgi.application"
INSTALLED_APPS = ["guestbook"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
# Its tables have a schema of their own, which the first migration command makes.
SCHEMA = "guestbook"
_at = urlsplit(os.environ.get("DATABASE_URL", "postgresql://guestbook@localhost:5432/guestbook"))
_SERVER = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": _at.hostname or "",
    "PORT": _at.port or 5432,
    "NAME": _at.path.lstrip("/"),
    "USER": unquote(_at.username or ""),
    "PASSWORD": unquote(_at.password or ""),
    "OPTIONS": {"options": f"-c search_path={SCHEMA}", "connect_timeout": 5},
}
_FILE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": f"/{unquote(_at.path).lstrip('/')}",
    "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"},
}
DATABASES = {"default": _FILE if _at.scheme == "sqlite" else _SERVER}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": BASE_DIR / "cache"}}
UPLOADS = BASE_DIR / "uploads"
# Migrations of this release; the application's code is the same in each.
MIGRATION_MODULES = {"guestbook": "guestbook.migrations"}
VERSION = RELEASE["version"]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": os.environ.get("LOG_LEVEL", "INFO")},
}
