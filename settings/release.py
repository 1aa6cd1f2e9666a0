"""What is released (runbook-de-production §3, §6): an image by digest and the database it can serve on."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from settings.base import EXAMPLE_DIGEST, Digest, Finding, ImageRef, Settings, as_text, image_digest, refuse

Level = Annotated[int, Field(ge=0, examples=[1])]


class SchemaRange(Settings):
    """Which database schema levels a release can serve on, and the level its migrations lead to."""

    min: Level
    """Lowest schema level this release can serve on (image label `runbook.schema.min`)."""
    max: Level
    """Highest schema level this release can serve on (image label `runbook.schema.max`)."""
    level: Level
    """Schema level this release's migrations bring the database to (image label `runbook.schema.level`)."""

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.min > self.max:
            refuse([Finding(("max",), f"range is inverted: min {self.min} is above max {self.max}", self.min)])
        if not self.min <= self.level <= self.max:
            why = (
                f"the release could not serve after its own migrations: {self.level} is outside {self.min}..{self.max}"
            )
            refuse([Finding(("level",), why, self.max)])
        return self

    def serves(self, level: int) -> bool:
        """Whether the release can serve on a database at this level."""
        return self.min <= level <= self.max


class Release(Settings):
    """The release a stack runs. Written by `runbook deploy` and `runbook rollback`."""

    revision: Annotated[int, Field(ge=1, examples=[7])]
    """Our own counter: DIY backends number no updates."""
    image: ImageRef
    """What runs, by digest."""
    git: Annotated[str, BeforeValidator(as_text), Field(min_length=1, examples=["1a2b3c4"])]
    """Commit the image was built from (image label `org.opencontainers.image.revision`)."""
    version: Annotated[str | None, BeforeValidator(as_text), Field(examples=["2.4.0"])] = None
    """Human name of the release, from the image label `org.opencontainers.image.version`."""
    schema_: Annotated[
        SchemaRange,
        Field(alias="schema", examples=[{"min": 1, "max": 2, "level": 1}]),
    ]
    """Database schema levels, from the image's labels."""
    migrate: bool = True
    """Whether this update runs the migrations. Off on a rollback: the database stays as it is."""
    action: Literal["deploy", "rollback"] = "deploy"
    """How this revision came to be."""
    rollback_of: Annotated[int | None, Field(ge=1, examples=[6])] = None
    """On a rollback, the revision that was left behind."""
    allow_quarantined: Annotated[str | None, Field(min_length=1, examples=["hotfix of the payment provider"])] = None
    """Why a quarantined digest is released all the same. Absent in every ordinary release."""

    restored_from: Annotated[str | None, Field(min_length=1, examples=["20260816T020000Z-pre-release-4f1a"])] = None
    """Backup that the database was last restored from in place; the checks are done again after it."""
    restored_over: Annotated[str | None, Field(min_length=1, examples=["20260816T093000Z-safety-81c0"])] = None
    """Safety backup of the database which that restore replaced: no two restores have the same one."""
    without_proof: Annotated[str | None, Field(min_length=1, examples=["restore tests are down, dump checked"])] = None
    """Why migrations run although no backup was proven lately. Absent in every ordinary release."""

    report: Annotated[Digest | None, Field(examples=[EXAMPLE_DIGEST])] = None
    """Digest of the report of the code's checks, where the stack file requires one."""
    without_checks: Annotated[str | None, Field(min_length=1, examples=["the fix cannot wait for a node"])] = None
    """Why it was released although a check failed. Absent in every ordinary release."""

    def _findings(self) -> list[Finding]:
        found: list[Finding] = []
        if self.action == "rollback":
            if self.rollback_of is None:
                found.append(Finding(("rollbackOf",), "a rollback names the revision it leaves behind", 1))
            if self.migrate:
                found.append(Finding(("migrate",), "a rollback never runs migrations", False))
        elif self.rollback_of is not None:
            found.append(Finding(("action",), "rollbackOf stands only on a rollback", "rollback"))
        if self.rollback_of is not None and self.rollback_of >= self.revision:
            why = f"revision {self.revision} can only leave an earlier one behind"
            found.append(Finding(("rollbackOf",), why, max(self.revision - 1, 1)))
        return found

    @property
    def digest(self) -> str:
        """The image's `sha256:…`."""
        return image_digest(self.image)

    @property
    def message(self) -> str:
        """The update's message, as shown in the stack's history."""
        return f"revision {self.revision}: {self.action} {self.image} (git {self.git})"


class Quarantined(Settings):
    """A digest that was rolled back and must not come back by accident."""

    digest: Digest
    """`sha256:…` of the bad image, whatever repository it is pulled from."""
    revision: Annotated[int, Field(ge=1, examples=[6])]
    """The revision that ran it."""
    reason: Annotated[str, Field(min_length=1, examples=["smoke check failed"])]
    """What was wrong with it."""
