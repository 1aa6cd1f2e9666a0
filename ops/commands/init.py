"""`runbook init`: write the stack file of an application that has none."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from ops.adapters import registry
from ops.decisions.new_monitoring import NewMonitoring, render_monitoring
from ops.decisions.new_stack import ImageFacts, NewStack, read_dockerfile, read_image_config, render
from ops.errors import Refused
from settings import SettingsError, load_stack_file

LABELS = "docs/releases.md says what the three numbers mean"


def stack_file(folder: Path, stack: str) -> Path:
    """Where the file goes; refused where there is one, or no project."""
    if not (folder / "Pulumi.yaml").is_file():
        raise Refused(f"There is no Pulumi.yaml in {folder.resolve()}: go to this project, or add --cwd.")
    file = folder / f"Pulumi.{stack}.yaml"
    if file.exists():
        raise Refused(f"{file.name} exists already. Edit it, or choose another name for the new stack.")
    return file


def read_facts(image: str | None, dockerfile: Path | None) -> tuple[ImageFacts, list[str]]:
    """What image or Dockerfile says about how the application is run, and what its releases lack."""
    if image:
        found = registry.resolve(image)
        wanted = (registry.GIT, *registry.SCHEMA.values())
        missing = [f"LABEL {label}=…" for label in wanted if label not in found.labels]
        lacks = [f"{image} lacks labels that a release needs: {', '.join(missing)} ({LABELS})"] if missing else []
        return read_image_config(found.config), lacks
    if dockerfile and dockerfile.is_file():
        return read_dockerfile(dockerfile.read_text()), []
    return ImageFacts(), []


def resolve_digest(reference: str) -> str:
    """An image by digest, from one by tag."""
    return reference if "@sha256:" in reference else registry.resolve(reference).reference


def write_stack_file(file: Path, answers: NewStack | NewMonitoring) -> None:
    """Check the file as each command does, then write it. Secrets and context may come later."""
    text = render(answers) if isinstance(answers, NewStack) else render_monitoring(answers)
    later = "".join(f"  secrets:{name}: {{secure: set-later}}\n" for name in answers.secret_keys)
    if not answers.context:
        later += "  kubernetes:context: named-later\n"
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / file.name
        draft.write_text(text + later)
        try:
            load_stack_file(draft)
        except SettingsError as error:
            raise Refused(str(error)) from None
    with file.open("x") as sink:
        sink.write(text)


def next_commands(answers: NewStack | NewMonitoring, image: str | None) -> list[str]:
    """What to type next, in order."""
    stack = answers.stack
    secrets = [f"pulumi config set --secret secrets:{name} --stack {stack}" for name in answers.secret_keys]
    if isinstance(answers, NewStack):
        deploying = [f"runbook {verb} {image or 'IMAGE'} --stack {stack}" for verb in ("doctor", "deploy")]
    else:
        deploying = [f"runbook doctor --stack {stack}", f"pulumi up --stack {stack}"]
    return [f"pulumi stack init {stack}", *secrets, *deploying]


def describe(answers: NewStack | NewMonitoring, image: str | None, file: Path) -> Mapping[str, object]:
    return {"file": str(file), "secrets": list(answers.secret_keys), "next": next_commands(answers, image)}
