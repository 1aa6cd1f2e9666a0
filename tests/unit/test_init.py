"""`runbook init`: a stack file that is valid, short, and from what the Dockerfile or the image says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ops.adapters import registry
from ops.adapters.registry import Image
from ops.cli.main import app
from ops.decisions.new_stack import ImageFacts, read_dockerfile, read_image_config
from settings import load_stack_file

DIGEST = "sha256:" + "1a" * 32
GIVEN = [
    "--tasks-image", f"registry.example.com/tasks@{DIGEST}", "--live-path", "/alive", "--host", "shop.example.com",
    "--postgres-cidr", "10.0.0.0/24", "--redis-image", f"registry.example.com/redis@{DIGEST}",
]  # fmt: skip
DOCKERFILE = """
FROM node:22 AS build
EXPOSE 9
CMD ["npm", "run", "build"]
FROM python:3.12
expose 8000/tcp
HEALTHCHECK --interval=5s \\
    CMD curl --fail http://localhost:8000/healthz || exit 1
ENTRYPOINT ["tini", "--"]
CMD ["gunicorn", "shop.wsgi:application", "--bind", "0.0.0.0:8000", "--name", "my shop"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Pulumi.yaml").write_text("name: runbook\nruntime: python\n")
    return tmp_path


def init(project: Path, *words: str) -> Any:
    dockerfile = ["--dockerfile", str(project / "Dockerfile")]
    return CliRunner().invoke(app, ["init", "demo", "--cwd", str(project), "--yes", *dockerfile, *words])


def test_the_file_is_valid_and_says_what_the_dockerfile_says(project: Path) -> None:
    (project / "Dockerfile").write_text(DOCKERFILE)
    done = init(project, *GIVEN, "--context", "prod-eu", "--secret", "SMTP_URL", "--json")
    assert done.exit_code == 0, done.output
    file = project / "Pulumi.demo.yaml"
    config = yaml.safe_load(file.read_text())["config"]
    [service] = config["runbook:application"]["services"]
    assert service["port"] == 8000
    assert service["command"] == "tini -- gunicorn shop.wsgi:application --bind 0.0.0.0:8000 --name 'my shop'"
    assert service["probes"]["readiness"] == {"path": "/healthz"}
    assert json.loads(done.stdout)["next"] == [
        "pulumi stack init demo",
        "pulumi config set --secret secrets:DATABASE_URL --stack demo",
        "pulumi config set --secret secrets:SMTP_URL --stack demo",
        "runbook doctor IMAGE --stack demo",
        "runbook deploy IMAGE --stack demo",
    ]
    assert config["runbook:application"]["healthPath"] == "/healthz"
    assert "runbook:commands" not in config
    assert len(file.read_text().splitlines()) <= 40
    file.write_text(file.read_text() + "  secrets:DATABASE_URL: {secure: x}\n  secrets:SMTP_URL: {secure: x}\n")
    load_stack_file(file)


def test_an_application_of_another_kind_needs_no_edit_of_its_file(project: Path) -> None:
    (project / "Dockerfile").write_text(f"{DOCKERFILE}USER 1000:1000\n")
    commands = ["--migrate", "python -m shop schema", "--migrate", "python -m shop migrate"]
    commands += ["--schema-level", "python -m shop level", "--smoke", "python -m shop smoke"]
    done = init(project, *GIVEN[:-2], "--without-redis", "--context", "eu", *commands, "--json")
    assert done.exit_code == 0, done.output
    file = project / "Pulumi.demo.yaml"
    file.write_text(file.read_text() + "  secrets:DATABASE_URL: {secure: x}\n")
    made = load_stack_file(file)
    assert made.application.main_service.shape.uid == 1000
    assert made.data.redis is None
    assert made.secret_names == ("DATABASE_URL",)
    assert made.commands.migrate.argvs == [["python", "-m", "shop", "schema"], ["python", "-m", "shop", "migrate"]]
    assert made.commands.schema_level.run == ("python -m shop level",)
    assert made.commands.smoke.run == made.commands.rehearsal.run == ("python -m shop smoke",)
    assert made.commands.cache is None
    assert made.health_path == "/healthz"


ALONE = [
    "--monitoring-only", "--tasks-image", f"registry.example.com/tasks@{DIGEST}",
    "--monitoring-image", f"registry.example.com/monitoring@{DIGEST}", "--slack-cidr", "10.0.3.4/32",
]  # fmt: skip


def test_a_stack_that_only_monitors_needs_no_image_of_an_application(project: Path) -> None:
    door = ["--watch-url", "https://shop.example.com", "--watch-cidr", "203.0.113.0/24"]
    done = init(project, *ALONE, *door, "--postgres-cidr", "10.0.0.0/24", "--context", "eu", "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["next"][0] == "pulumi stack init demo"
    assert printed["next"][-2:] == ["runbook doctor --stack demo", "pulumi up --stack demo"]
    file = project / "Pulumi.demo.yaml"
    file.write_text(file.read_text() + "".join(f"  secrets:{name}: {{secure: x}}\n" for name in printed["secrets"]))
    made = load_stack_file(file)
    assert made.application.services == ()
    assert made.monitoring
    assert made.monitoring.front_door.address == "https://shop.example.com"
    assert set(made.secret_names) == set(printed["secrets"])
    assert "DATABASE_URL" in made.secret_names


def test_what_a_stack_that_only_monitors_lacks_is_named(project: Path) -> None:
    done = init(project, "--monitoring-only")
    assert done.exit_code == 2
    for option in ("--watch-url", "--tasks-image", "--monitoring-image", "--slack-cidr"):
        assert option in done.stderr
    for option in ("--command", "--live-path", "--host"):
        assert option not in done.stderr


def test_what_is_missing_is_named_at_once_and_nothing_is_written(project: Path) -> None:
    done = init(project, "--port", "3000")
    assert done.exit_code == 2
    for option in (
        "--tasks-image",
        "--command",
        "--health-path",
        "--live-path",
        "--host",
        "--postgres-cidr",
        "--without-redis",
    ):
        assert option in done.stderr
    assert "--port" not in done.stderr
    assert not (project / "Pulumi.demo.yaml").exists()


def test_answers_that_do_not_fit_together_are_refused_like_in_a_stack_file(project: Path) -> None:
    given = [*GIVEN, "--port", "3000", "--command", "serve", "--health-path", "/alive"]
    done = init(project, *given)
    assert done.exit_code == 2
    assert "requests the same path as readiness" in done.stderr
    assert not (project / "Pulumi.demo.yaml").exists()


def test_a_stack_file_is_never_overwritten(project: Path) -> None:
    (project / "Pulumi.demo.yaml").write_text("config: {}\n")
    done = init(project, *GIVEN)
    assert done.exit_code == 2
    assert "exists already" in done.stderr
    assert (project / "Pulumi.demo.yaml").read_text() == "config: {}\n"


def test_an_image_by_tag_is_resolved_and_its_missing_labels_are_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"ExposedPorts": {"8080/tcp": {}, "53/udp": {}}, "Cmd": ["./serve"]}

    def resolve(reference: str) -> Image:
        return Image(f"{reference.split(':')[0]}@{DIGEST}", {registry.GIT: "1a2b"}, config)

    monkeypatch.setattr(registry, "resolve", resolve)
    given = [*GIVEN[2:], "--tasks-image", "registry.example.com/tasks:1", "--health-path", "/ready"]
    done = init(project, *given, "--image", "registry.example.com/shop:1")
    assert done.exit_code == 0, done.output
    written = yaml.safe_load((project / "Pulumi.demo.yaml").read_text())["config"]
    assert written["runbook:image"] == f"registry.example.com/tasks@{DIGEST}"
    assert written["runbook:application"]["services"][0]["port"] == 8080
    assert "LABEL runbook.schema.min=…" in done.stderr
    assert "revision" not in done.stderr


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("FROM scratch\n", ImageFacts()),
        ("FROM a\nCMD npm run start:prod\nEXPOSE $PORT\n", ImageFacts(None, "npm run start:prod", None)),
        ('from a\nexpose 3000 9090\ncmd [ "a", \n', ImageFacts(3000, '[ "a",', None)),
    ],
)
def test_dockerfiles(text: str, facts: ImageFacts) -> None:
    assert read_dockerfile(text) == facts


def test_an_image_without_anything_says_nothing() -> None:
    assert read_image_config({}) == ImageFacts()
    check = {"Test": ["CMD-SHELL", "wget -qO- http://127.0.0.1:3000/api/health"]}
    assert read_image_config({"Healthcheck": check}).health_path == "/api/health"
