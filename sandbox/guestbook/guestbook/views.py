"""Pages and checks. Each wants a Host that it knows (`ALLOWED_HOSTS`), the checks too."""

import itertools
import json
import os
import uuid

from django.conf import settings
from django.core import signing
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from guestbook.models import Entry
from guestbook.release import RELEASE

_answered = itertools.count(1)


def alive(request: HttpRequest) -> HttpResponse:
    """The process answers, whatever the database does."""
    request.get_host()
    return HttpResponse("alive\n", content_type="text/plain")


def healthz(request: HttpRequest) -> HttpResponse:
    """It can serve: database, cache and uploads."""
    request.get_host()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM guestbook_entry")
    cache.set("healthz", "ok", 60)
    settings.UPLOADS.stat()
    if cache.get("healthz") != "ok":
        return HttpResponse("the cache forgets\n", status=503, content_type="text/plain")
    return HttpResponse("ok\n", content_type="text/plain")


def entries(request: HttpRequest) -> HttpResponse:
    """The guestbook: GET reads it, POST writes an entry (`name`, `words`) and keeps its picture (`picture`)."""
    if (after := RELEASE.get("failsAfterRequests")) and next(_answered) > after:
        return HttpResponse("this release is broken\n", status=500, content_type="text/plain")
    if request.method == "POST":
        given = json.loads(request.body)
        made = Entry.objects.create(name=given["name"], words=given["words"])
        (settings.UPLOADS / f"{made.pk}-{uuid.uuid4().hex}.txt").write_text(given["words"])
        return JsonResponse({"id": made.pk}, status=201)
    found = list(Entry.objects.order_by("pk").values("id", "name", "greeted"))
    answer = JsonResponse({"version": RELEASE["version"], "entries": found})
    answer["X-Release"] = os.environ.get("RELEASE_GIT", "")
    answer["X-Signed"] = signing.dumps("guest")
    return answer


def token(request: HttpRequest) -> HttpResponse:
    """Whether a value was signed with a key that is accepted now."""
    try:
        signing.loads(request.GET["signed"], fallback_keys=settings.SECRET_KEY_FALLBACKS)
    except signing.BadSignature:
        return HttpResponse("refused\n", status=403, content_type="text/plain")
    return HttpResponse("accepted\n", content_type="text/plain")


urlpatterns = [path("alive", alive), path("healthz", healthz), path("token", token), path("", entries)]
