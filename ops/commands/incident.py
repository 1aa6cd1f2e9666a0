"""`runbook incident …`: a record that only grows, the people it notifies, and the post-mortem from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from html import escape
from typing import Any

import httpx

from ops.adapters.cluster import Cluster
from ops.commands import business
from ops.commands.measures import count_requests, measure
from ops.commands.status_page import publish_status
from ops.decisions.incident import (
    KIND,
    RELATED_BEFORE,
    Facts,
    Incident,
    Moment,
    needs_post_mortem,
    next_name,
    read_incident,
    write_post_mortem,
)
from ops.decisions.post_mortem_page import write_post_mortem_page
from ops.decisions.public_status import SAY, SCHEDULE
from ops.errors import OpsError, Refused
from ops.stack import incidents, stack_file
from ops.stack.session import Session
from ops.stack.stack_context import load_settings
from settings import StackSettings
from settings.monitoring import SLACK_SECRET, Slack
from settings.status_page import STATUS_PAGE, TEMPLATES, StatusPage

POST_MORTEM, POST_MORTEM_PAGE = "post-mortem.md", "post-mortem.html"
_SEND_SECONDS = 5
_PUBLIC = ("start", "assess", "escalate", SAY, SCHEDULE)
"""Entries after which the status page is published again; after a resolution, once the record is closed."""
_ASKS_FOR_AN_ANSWER = ("start", "escalate")
_MOST_EVENTS = 40
_STEP = 15


@dataclass
class IncidentLog:
    """The incidents of one stack."""

    session: Session

    @cached_property
    def settings(self) -> StackSettings:
        return load_settings(self.session.file)

    @cached_property
    def cluster(self) -> Cluster:
        return self.session.cluster(self.settings, stack_file.read(self.session.file).config)

    def list_all(self) -> list[dict[str, Any]]:
        """Every record, of the controller and of commands too, the newest first."""
        return incidents.list_incidents(self.cluster)

    def find(self, name: str | None, *, closed: bool = False) -> Incident:
        """The incident with this name, or whose name begins so; without one, the only open one.

        `closed`: without a name, the newest one, open or not.
        """
        records = [one for one in self.list_all() if one["kind"] == KIND or name]
        found = [read_incident(one, one["entries"]) for one in records if not name or one["name"].startswith(name)]
        if name and len(found) == 1:
            return found[0]
        if name:
            which = "no record" if not found else "more than one record"
            raise Refused(f"There is {which} {name}: `runbook incident list`.")
        if closed and found:
            return found[0]
        still = [one for one in found if one.resolution is None]
        if len(still) != 1:
            have = "\n".join(f"  {one.name}  {one.title}" for one in still) or "  (none)"
            raise Refused(
                f"Name one of the open incidents:\n{have}\n`runbook incident start --level 2 TITLE` opens one."
            )
        return still[0]

    def start(self, level: int, title: str, *, another: bool, affects: Sequence[str] = ()) -> dict[str, Any]:
        """Open an incident and notify; refused while one is open, unless it is another one."""
        self._require_known(affects)
        while True:
            records = self.list_all()
            first = min((one["name"] for one in records if _is_open(one)), default=None)
            if first and not another:
                raise Refused(
                    f"{first} is open: write to it with `runbook incident note`, or open another one with --another. "
                    "Nothing was changed."
                )
            name = next_name(one["name"] for one in records)
            try:
                incidents.open_incident(self.cluster, KIND, {"title": title, "reason": title, "level": level}, name)
            except Refused:
                if name not in (one["name"] for one in self.list_all()):
                    raise
                # Another command has opened it at the same time.
                continue
            entry = {"kind": "start", "text": title, "level": level, "affects": list(affects)}
            return self._write(name, entry, level, notify=True)

    def append(self, name: str | None, entry: Mapping[str, Any], *, notify: bool = False) -> dict[str, Any]:
        """Append to the log of an incident."""
        self._require_known(entry.get("affects") or ())
        incident = self.find(name)
        return self._write(incident.name, entry, int(entry.get("level") or incident.level), notify=notify)

    def resolve(self, name: str | None, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Close an incident; after level 1 or 2 with a post-mortem, which is kept in its record."""
        incident = self.find(name)
        due = (datetime.now(UTC) + timedelta(days=self.settings.incidents.action_days)).date().isoformat()
        done = self._write(incident.name, {**entry, "kind": "resolve", "due": due}, incident.level, notify=True)
        incidents.close_incident(self.cluster, incident.name, {"result": "resolved"})
        done["published"] = self.publish() if self.settings.status_page else None
        resolved = self.find(incident.name)
        if not needs_post_mortem(resolved):
            return {**done, "postMortem": None, "postMortemPage": None}
        made, page = self.write_post_mortem(resolved)
        announced = self.notify(resolved.level, self._announce(resolved, due))
        return {**done, "postMortem": made, "postMortemPage": page, "announced": announced}

    def _announce(self, resolved: Incident, due: str) -> str:
        actions = (resolved.resolution or {}).get("actions") or ()
        what = "; ".join(f"{one['what']} ({one.get('owner') or 'no owner'})" for one in actions)
        todo = f"Actions, due {due}: {what}" if actions else "It has no actions: `runbook incident resolve --action`"
        return f":memo: The post-mortem of {resolved.name} ({resolved.title}) is written: " + (
            f"`runbook incident show -i {resolved.name} --post-mortem`. {todo}."
        )

    def write_post_mortem(self, incident: Incident) -> tuple[str, str]:
        """Markdown and HTML from all that is known now; they replace those before."""
        facts, days = self._gather(incident), self.settings.incidents.action_days
        text, page = write_post_mortem(incident, facts, days), write_post_mortem_page(incident, facts, days)
        incidents.keep_document(self.cluster, incident.name, POST_MORTEM, text)
        incidents.keep_document(self.cluster, incident.name, POST_MORTEM_PAGE, page)
        return text, page

    def say(self, name: str | None, text: str | None, template: str | None, title: str | None) -> dict[str, Any]:
        """Write for customers: a text, or that of a template."""
        page = self._require_page()
        if (text is None) == (template is None):
            raise Refused("Write either a text or --template NAME. Nothing was changed.")
        if template is not None and (text := page.text(template)) is None:
            known = ", ".join(sorted({*TEMPLATES, *page.templates}))
            raise Refused(f"--template {template}: there are {known} ({STATUS_PAGE}.templates). Nothing was changed.")
        return self.append(name, {"kind": SAY, "text": text, "title": title})

    def schedule_fix(
        self,
        name: str | None,
        text: str,
        at: str | None,
        seconds: int,
        public: str | None,
        affects: Sequence[str],
        *,
        withdraw: bool,
    ) -> dict[str, Any]:
        """When a fix will be made; with a public text, planned maintenance on the status page."""
        if public is not None:
            self._require_page()
        if withdraw:
            if at or public:
                raise Refused("--withdraw goes with neither --at nor --public. Nothing was changed.")
            return self.append(name, {"kind": SCHEDULE, "text": text})
        begin = parse_moment(at or "")
        if begin <= (now := datetime.now(UTC)):
            raise Refused(f"--at {at}: that is over, it is {now:%Y-%m-%dT%H:%M} UTC. Nothing was changed.")
        end = begin + timedelta(seconds=seconds)
        times = {"from": begin.isoformat(timespec="seconds"), "until": end.isoformat(timespec="seconds")}
        return self.append(name, {"kind": SCHEDULE, "text": text, **times, "public": public, "affects": list(affects)})

    def publish(self) -> dict[str, Any]:
        """Publish the status page from all records."""
        why = publish_status(self.cluster, self._require_page())
        again = "not published: {why}. `runbook incident publish` tries again"
        return {"sent": why is None, "text": "the status page is published" if why is None else again.format(why=why)}

    def _require_page(self) -> StatusPage:
        if page := self.settings.status_page:
            return page
        raise Refused(f"This stack has no status page: set {STATUS_PAGE}. Nothing was changed.")

    def _require_known(self, names: Sequence[str]) -> None:
        if not names:
            return
        known = self._require_page().affectable
        for name in names:
            if name not in known:
                raise Refused(
                    f"--affects {name}: {STATUS_PAGE}.components has {', '.join(known)}. Nothing was changed."
                )

    # -- writing ---------------------------------------------------------------------------------

    def _write(self, name: str, entry: Mapping[str, Any], level: int, *, notify: bool) -> dict[str, Any]:
        made = incidents.append_entry(self.cluster, name, entry)
        notified = self._notify(name, made, level) if notify else None
        if notified:
            incidents.append_entry(self.cluster, name, {"kind": "notify", "text": notified["text"]})
        published = self.publish() if self.settings.status_page and entry["kind"] in _PUBLIC else None
        return {"incident": name, "level": level, "entry": made, "notified": notified, "published": published}

    def _notify(self, name: str, entry: Mapping[str, Any], level: int) -> dict[str, Any]:
        """Notify the people of the level; whether that worked is part of the log."""
        about = self.settings.incidents.of(level).about
        sign = ":white_check_mark:" if entry["kind"] == "resolve" else ":rotating_light:"
        said = f"{sign} *{self.session.stack}*: {entry['kind']} of {name}, level {level} ({about}): {entry['text']}"
        if entry["kind"] in _ASKS_FOR_AN_ANSWER:
            minutes = self.settings.incidents.pace(level).respond_minutes
            said = f"{said}. Answer within {minutes} min: `runbook incident note`"
        return self._send_to(level, said, mention=True)

    def notify(self, level: int, text: str) -> dict[str, Any]:
        """A message to the level's channel that calls no one away from what they do."""
        return self._send_to(level, f"*{self.session.stack}*: {text}", mention=False)

    def _send_to(self, level: int, said: str, *, mention: bool) -> dict[str, Any]:
        wanted, monitoring = self.settings.incidents.of(level), self.settings.monitoring
        slack = monitoring.slack if monitoring else Slack()
        mentions = self.settings.incidents.mentions(level, slack) if mention else ()
        secret = f"{SLACK_SECRET}{wanted.channel.upper()}"
        where = f"channel {wanted.channel}{f', mentions: {len(mentions)}' if mentions else ''}"
        # What people wrote is text: `<!channel>` in a title calls no one.
        why = self._send(secret, f"{' '.join(mentions)} {escape(said, quote=False)}".strip())
        return {"sent": why is None, "text": f"sent to {where}" if why is None else f"not sent to {where}: {why}"}

    def _send(self, secret: str, text: str) -> str | None:
        """None, or why it was not sent: the incident goes on without."""
        key = f"secrets:{secret}"
        if key not in stack_file.read(self.session.file).config:
            return f"{key} is not set (`pulumi config set --secret {key}`)"
        try:
            url = self.session.reader.run(
                *("config", "get", key, "--stack", self.session.stack, "--config-file", str(self.session.file))
            ).strip()
            httpx.post(url, json={"text": text, "link_names": 1}, timeout=_SEND_SECONDS).raise_for_status()
        except httpx.HTTPStatusError as error:
            return f"Slack, or a proxy on the route to it, answers {error.response.status_code}"
        except (OpsError, httpx.HTTPError, httpx.InvalidURL) as error:
            # Not the error's message: it contains the address, which is a secret.
            return f"Slack could not be reached ({type(error).__name__})"
        return None

    # -- facts for the post-mortem ---------------------------------------------------------------

    def _gather(self, incident: Incident) -> Facts:
        until = incident.resolved_at or datetime.now(UTC)
        since = incident.opened_at - RELATED_BEFORE
        missing: list[str] = []
        moments = [
            *_try("the stack's history", lambda: self._updates(since, until), missing, []),
            *self._records(incident, since, until),
            *_try("events of Kubernetes", lambda: self._events(since, until), missing, []),
        ]
        seconds = max(round((until - incident.opened_at).total_seconds()), 60)
        numbers, alerts = self._metrics(since, until, seconds, missing)
        revenue: Mapping[str, Any] = {}
        if "revenue" in self.settings.operations.metrics:
            revenue = _try(
                "revenue", lambda: business.read_metric(self.session, "revenue", seconds, until), missing, {}
            )
        first = next(iter((revenue.get("columns") or {}).values()), {})
        return Facts(
            until=until,
            moments=[*moments, *alerts],
            failed_requests=numbers.get("failed"),
            requests=numbers.get("all"),
            revenue=first.get("value"),
            revenue_before=first.get("before"),
            revenue_unit=revenue.get("unit", ""),
            missing=missing,
        )

    def _updates(self, since: datetime, until: datetime) -> list[Moment]:
        found = []
        for entry in self.session.history():
            if entry.started < since:
                break
            if entry.started <= until:
                what = f"{entry.action}, revision {entry.revision}, {entry.result}, by {entry.who or 'unknown'}"
                found.append(Moment(entry.started.astimezone(UTC), "update", what))
        return found

    def _records(self, incident: Incident, since: datetime, until: datetime) -> list[Moment]:
        """Of the controller and of commands: an emergency rotation, a lockdown, an automatic rollback."""
        return [
            Moment(at, "record", f"{one['name']}: {one.get('reason') or one['kind']}")
            for one in self.list_all()
            for at in [datetime.fromisoformat(one["openedAt"])]
            if one["name"] != incident.name and since <= at <= until
        ]

    def _events(self, since: datetime, until: datetime) -> list[Moment]:
        path = f"/api/v1/namespaces/{self.cluster.namespace}/events"
        with self.cluster.http() as http:
            answer = http.get(path, params={"fieldSelector": "type=Warning"})
            if answer.is_error:
                raise Refused(f"the API server answers {answer.status_code}")
            items = answer.json()["items"]
        found = []
        for one in items:
            at = one.get("lastTimestamp") or one.get("eventTime")
            about = one["involvedObject"]
            if at and since <= (moment := datetime.fromisoformat(at)) <= until and about["kind"] != "ConfigMap":
                found.append(Moment(moment, "event", f"{about['kind']} {about['name']}: {one.get('reason')}"))
        return sorted(found, key=lambda one: one.at)[-_MOST_EVENTS:]

    def _metrics(
        self, since: datetime, until: datetime, seconds: int, missing: list[str]
    ) -> tuple[dict[str, float | None], list[Moment]]:
        from monitoring.alerts.requests import counted

        if self.settings.monitoring is None:
            missing.append("alerts: this stack has no monitoring")
            return {}, []
        at = f" @ {until.timestamp():.0f}"
        span = f"[{max(round((until - since).total_seconds()), 60)}s:{_STEP}s]{at}"
        all_, failed = counted(self.settings.monitoring), counted(self.settings.monitoring, 'status=~"5.."')
        firing = 'ALERTS{alertstate="firing",alertname!="Watchdog",severity!="none"}'
        found = measure(
            self.settings,
            self.cluster,
            {
                "all": f"sum{count_requests(all_, seconds, at)}",
                "failed": f"sum{count_requests(failed, seconds, at)} or vector(0)",
                "first": f"min by (alertname, severity) (min_over_time(timestamp({firing}){span}))",
                "last": f"max by (alertname, severity) (max_over_time(timestamp({firing}){span}))",
            },
        )
        missing += found.notes
        moments = [
            Moment(datetime.fromtimestamp(one.value, UTC), "alert", f"{one.labels.get('alertname')} {word}")
            for name, word in (("first", "fires"), ("last", "fired until then"))
            for one in found.samples(name) or ()
        ]
        return {name: found.number(name, 0) for name in ("all", "failed")}, moments


def _is_open(record: Mapping[str, Any]) -> bool:
    return record["kind"] == KIND and "closedAt" not in record


def _try(what: str, read: Callable[[], Any], missing: list[str], otherwise: Any) -> Any:
    try:
        return read()
    except OpsError as error:
        missing.append(f"{what}: {error.brief}")
        return otherwise


def parse_actions(texts: Sequence[str]) -> list[dict[str, str | None]]:
    """Actions of `what=owner`; without an owner, that is unknown."""
    found = []
    for text in texts:
        what, _, owner = text.rpartition("=") if "=" in text else (text, "", "")
        found.append({"what": what.strip(), "owner": owner.strip() or None})
    return found


def parse_moment(text: str) -> datetime:
    """A time as people write it; without an offset, of this machine's time zone."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise Refused(
            f"--at {text!r}: write a time such as 2026-12-01T03:00 or 2026-12-01T03:00+01:00. Nothing was changed."
        ) from None
