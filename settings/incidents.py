"""Incidents (HerbisVeritas "Incident Response"): what a level means, who is notified, how fast people answer, and how
closely the stack is watched meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from settings.base import Settings
from settings.monitoring import Mention, Slack

INCIDENTS = "runbook:incidents"
LEVELS = (1, 2, 3, 4)
Level = Literal[1, 2, 3, 4]
POST_MORTEM_LEVELS = (1, 2)
"""Levels after which a post-mortem is written (HerbisVeritas "Post-Mortem Automatique")."""
PROCEDURES_LEVEL = 1
"""Level at which the emergency procedures are shown (HerbisVeritas "Execute emergency procedures")."""
Channel = Literal["critical", "alerts", "security", "business", "performance"]
Text = Annotated[str, Field(min_length=1)]
_RESPOND_MINUTES = {1: 5, 2: 30, 3: 480, 4: 2880}
_WATCH_SECONDS = {1: 15, 2: 30, 3: 0, 4: 0}
_REPEAT_MINUTES = {1: 5, 2: 15, 3: 60, 4: 60}


class IncidentLevel(Settings):
    """A level."""

    about: Text
    """What it means."""
    channel: Channel
    """Slack channel that is notified (`secrets:SLACK_WEBHOOK_<CHANNEL>`)."""
    mentions: tuple[Mention, ...] | None = None
    """Members or groups that are notified. Without it, on levels 1 and 2 those of `monitoring.slack.escalation…`."""
    respond_minutes: Annotated[int, Field(ge=1, le=10_080)] | None = None
    """Minutes within which someone answers, by any entry in the log. The message says so, and enhanced mode notifies
    again after them. Without it 5 on level 1, 30 on level 2, 480 on level 3, 2880 on level 4; the runbook names none.
    """
    watch_seconds: Annotated[int, Field(ge=0, le=600)] | None = None
    """Enhanced mode: seconds from one observation of the stack to the next; 0: this level has none. Without it 15 on
    level 1, 30 on level 2, else 0."""
    repeat_minutes: Annotated[int, Field(ge=1, le=1440)] | None = None
    """Enhanced mode: minutes after which what is still wrong is sent again. Without it 5 on level 1, 15 on level 2,
    else 60."""


class Level1(IncidentLevel):
    """Level 1; what is left out of it has these defaults."""

    about: Text = "critical: production is down"
    channel: Channel = "critical"


class Level2(IncidentLevel):
    """Level 2; what is left out of it has these defaults."""

    about: Text = "major: a feature does not work"
    channel: Channel = "alerts"


class Level3(IncidentLevel):
    """Level 3; what is left out of it has these defaults."""

    about: Text = "minor: customers are hindered"
    channel: Channel = "alerts"
    mentions: tuple[Mention, ...] | None = ()


class Level4(IncidentLevel):
    """Level 4; what is left out of it has these defaults."""

    about: Text = "low: customers notice nothing"
    channel: Channel = "alerts"
    mentions: tuple[Mention, ...] | None = ()


@dataclass(frozen=True)
class Pace:
    """How fast a level is answered, and how closely it is watched."""

    respond_minutes: int
    watch_seconds: int
    """0: there is no enhanced mode."""
    repeat_minutes: int


class Incidents(Settings):
    """Levels 1 (critical) to 4, and the post-mortem."""

    level1: Level1 = Level1()
    """Level 1."""
    level2: Level2 = Level2()
    """Level 2."""
    level3: Level3 = Level3()
    """Level 3."""
    level4: Level4 = Level4()
    """Level 4."""
    action_days: Annotated[int, Field(ge=1, le=365)] = 14
    """Days until an action of a post-mortem is due."""
    remind_days: Annotated[int, Field(ge=0, le=365)] = 3
    """Days before an action is due from which on `runbook incident remind` names it, each day until it is done."""
    issues: bool = False
    """Whether the daily pipeline (`ci/actions.py`) keeps an issue on GitHub or GitLab for each open action: people who
    read the project's issues then read what actions say."""

    def of(self, level: int) -> IncidentLevel:
        return {1: self.level1, 2: self.level2, 3: self.level3, 4: self.level4}[level]

    def pace(self, level: int) -> Pace:
        """The level's own, or the defaults of its number."""
        given = self.of(level)
        return Pace(
            respond_minutes=given.respond_minutes or _RESPOND_MINUTES[level],
            watch_seconds=_WATCH_SECONDS[level] if given.watch_seconds is None else given.watch_seconds,
            repeat_minutes=given.repeat_minutes or _REPEAT_MINUTES[level],
        )

    def mentions(self, level: int, slack: Slack) -> tuple[str, ...]:
        """What is put in front of a message about this level."""
        wanted = self.of(level)
        if wanted.mentions is not None:
            return wanted.mentions
        return slack.escalation(wanted.channel) if level in POST_MORTEM_LEVELS else ()
