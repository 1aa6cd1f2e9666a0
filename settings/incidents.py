"""Incidents (HerbisVeritas "Incident Response"): what a level means, and which people are notified."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from settings.base import Settings
from settings.monitoring import Mention, Slack

INCIDENTS = "runbook:incidents"
LEVELS = (1, 2, 3, 4)
Level = Literal[1, 2, 3, 4]
POST_MORTEM_LEVELS = (1, 2)
"""Levels after which a post-mortem is written (HerbisVeritas "Post-Mortem Automatique")."""
Channel = Literal["critical", "alerts", "security", "business", "performance"]


class IncidentLevel(Settings):
    """A level."""

    about: Annotated[str, Field(min_length=1)]
    """What it means."""
    channel: Channel
    """Slack channel that is notified (`secrets:SLACK_WEBHOOK_<CHANNEL>`)."""
    mentions: tuple[Mention, ...] | None = None
    """Members or groups that are notified. Without it, on levels 1 and 2 those of `monitoring.slack.escalation…`."""


class Incidents(Settings):
    """Levels 1 (critical) to 4, and the post-mortem."""

    level1: IncidentLevel = IncidentLevel(about="critical: production is down", channel="critical")
    """Level 1."""
    level2: IncidentLevel = IncidentLevel(about="major: a feature does not work", channel="alerts")
    """Level 2."""
    level3: IncidentLevel = IncidentLevel(about="minor: customers are hindered", channel="alerts", mentions=())
    """Level 3."""
    level4: IncidentLevel = IncidentLevel(about="low: customers notice nothing", channel="alerts", mentions=())
    """Level 4."""
    action_days: Annotated[int, Field(ge=1, le=365)] = 14
    """Days until an action of a post-mortem is due."""

    def of(self, level: int) -> IncidentLevel:
        return {1: self.level1, 2: self.level2, 3: self.level3, 4: self.level4}[level]

    def mentions(self, level: int, slack: Slack) -> tuple[str, ...]:
        """What is put in front of a message about this level."""
        wanted = self.of(level)
        if wanted.mentions is not None:
            return wanted.mentions
        return slack.escalation(wanted.channel) if level in POST_MORTEM_LEVELS else ()
