"""A bad stack file is refused with the file, the key, what was found and what to write; a good one is read."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from settings import Command, Commands, Release, SettingsError, StackFile, StackSettings, load_stack_file, parse
from settings.application import Application
from tests.support.program import RELEASE, ROOT, secrets_for, stack_config

BAD_DIGEST = "sha256:" + "b" * 64


def edited(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the value at `application.services.0.replicas` changed; `...` removes it."""
    changed = copy.deepcopy(config)
    key, *steps = path.split(".")
    target: Any = changed
    where: Any = f"runbook:{key}"
    for step in steps:
        target = target[where]
        where = int(step) if step.isdigit() else step
    if value is ...:
        del target[where]
    else:
        target[where] = value
    return changed


def judged(config: dict[str, Any], sealed: set[str] | None = None) -> StackSettings:
    names = set(secrets_for(config)) if sealed is None else sealed
    return parse(StackFile("Pulumi.test.yaml", config, frozenset(f"secrets:{name}" for name in names)))


def refusal(config: dict[str, Any], sealed: set[str] | None = None) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        judged(config, sealed)
    return caught.value


def prod(**changes: Any) -> dict[str, Any]:
    return stack_config("Pulumi.prod.yaml", release=RELEASE, **changes)


def fixed_replicas(count: int) -> dict[str, Any]:
    return edited(edited(prod(), "application.services.0.autoscaler", ...), "application.services.0.replicas", count)


@pytest.mark.parametrize("name", ["staging", "prod", "sandbox"])
@pytest.mark.parametrize("released", [True, False])
def test_the_committed_stacks_are_good(name: str, released: bool) -> None:
    config = stack_config(f"Pulumi.{name}.yaml", **({"release": RELEASE} if released else {}))
    settings = judged(config)
    assert (settings.release is not None) == released
    assert settings.commands.smoke.run[0] == "npm run smoke:all --workspace backend"


@pytest.mark.parametrize("name", ["staging", "prod"])
def test_the_commands_are_the_runbooks_own(name: str) -> None:
    commands = judged(stack_config(f"Pulumi.{name}.yaml")).commands
    assert commands.check.run == ("npm run ci:check --workspace backend",)
    assert commands.migrate.run == ("npx prisma migrate deploy",)
    assert commands.cache is not None
    assert commands.cache.run == ("npm run ops:wait --workspace backend",)
    assert commands.smoke.run[-1].startswith(f"npm run postdeploy:{name}")


CASES: list[tuple[str, str, Any, str, str]] = [
    ("unknown key", "application.services.0.colour", "red", "runbook:application.services[0].colour", "autoscaler"),
    ("misspelt key", "application.servces", [], "runbook:application.servces", "did you mean services?"),
    ("missing key", "ingress.host", ..., "runbook:ingress.host", "host: shop.example.com"),
    ("no digest", "release.image", "shop:v1", "runbook:release.image", "image: shop:v1@sha256:"),
    ("inverted range", "release.schema", {"min": 3, "max": 2, "level": 3}, "runbook:release.schema.max", "max: 3"),
    ("level outside", "release.schema", {"min": 1, "max": 2, "level": 3}, "runbook:release.schema.level", "level: 2"),
    ("equal probes", "application.services.0.probes.liveness.path", "/api/ready", "probes.liveness.path", "/api/live"),
    ("limit below request", "application.services.0.resources.limits.memory", "1Mi", "limits.memory", "384Mi"),
    (
        "inverted autoscaler",
        "application.services.0.autoscaler.maxReplicas",
        1,
        "autoscaler.maxReplicas",
        "maxReplicas: 3",
    ),
    ("replicas beside autoscaler", "application.services.0.replicas", 2, "services[0].replicas", "remove replicas"),
    ("grace below pre-stop", "application.services.0.terminationGraceSeconds", 10, "terminationGraceSeconds", "35"),
    (
        "secret in env",
        "application.services.0.env",
        {"API_TOKEN": "x"},
        "env.API_TOKEN",
        "config set --secret secrets:API_TOKEN",
    ),
    ("own variable", "application.services.0.env", {"DATABASE_URL": "x"}, "env.DATABASE_URL", "set by the program"),
    (
        "slow start",
        "application.progressDeadlineSeconds",
        20,
        "progressDeadlineSeconds",
        "progressDeadlineSeconds: 120",
    ),
    ("unbalanced quotes", "commands.cache.run", "npm 'run", "runbook:commands.cache.run", "not a command line"),
    ("no folder", "commands.migrate.runner", "command", "runbook:commands.migrate.directory", "directory: ../shop"),
    ("wrong choice", "commands.migrate.runner", "pod", "runbook:commands.migrate.runner", "'job' or 'command'"),
    ("no paths", "application.services.0.paths", [], "services[0].paths", "- /"),
    ("quota too small", "guards.quota.pods", 0, "runbook:guards.quota.pods", "greater than or equal to 1"),
    ("quota below requests", "guards.quota.cpu", "500m", "runbook:guards.quota.cpu", "surge of a rollout"),
    ("taken name", "application.services.0.name", "redis", "services[0].name", "uses itself"),
    ("surge beyond the quota", "application.surge", 100, "runbook:guards.quota.cpu", "surge of a rollout"),
    ("rollback that migrates", "release.action", "rollback", "runbook:release.migrate", "migrate: false"),
    ("generated twice", "credentials.generated", {"SMTP_URL": {}}, "credentials.generated.SMTP_URL", "remove one"),
    ("secret in lower case", "application.services.0.env", {"api_token": "x"}, "env.api_token", "secrets:"),
    ("yes as a number", "application.services.0.port", True, "services[0].port", "is a boolean, not a number"),
    ("far too many pods", "application.services.0.autoscaler.maxReplicas", 10**30, "maxReplicas", "less than or equal"),
    ("browser's address", "release.image", f"https://r.io/shop@{BAD_DIGEST}", "runbook:release.image", "image: "),
    ("a line's end", "release.image", f"r.io/shop@{BAD_DIGEST}\n", "runbook:release.image", "image: "),
    ("NUL in a variable", "application.services.0.env", {"X": "a\0"}, "env.X", "no NUL"),
    ("a variable too long to start", "application.services.0.env", {"X": "a" * 131_072}, "env.X", "128 KiB"),
    ("quantity", "guards.quota.memory", "lots", "runbook:guards.quota.memory", "256Mi"),
]


@pytest.mark.parametrize(
    ("path", "value", "where", "says"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_bad_value_is_refused_with_its_key(path: str, value: Any, where: str, says: str) -> None:
    error = refusal(edited(prod(), path, value))
    message = str(error)
    assert message.startswith("Pulumi.test.yaml cannot be used")
    assert "nothing was changed" in message
    assert where in message
    assert says in message


@pytest.mark.parametrize("count", [0, 1])
def test_production_wants_two_pods(count: int) -> None:
    message = str(refusal(fixed_replicas(count)))
    assert "runbook:application.services[0].replicas" in message
    assert f"found:  {count}" in message
    assert "name: backend" in message
    assert "replicas: 2" in message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("application.services.0.env", {"http_proxy": "x", "Logging__LogLevel__Default": "Warning", "N": 1.5}),
        ("guards.quota.limitsCpu", 200),
        ("release.image", f"Registry.example.com:5000/a/b_c__d-e.f:v1.2@{BAD_DIGEST}"),
        ("release.image", f"[2001:db8::1]:5000/shop@{BAD_DIGEST}"),
        ("release.image", f"localhost/shop@{BAD_DIGEST}"),
    ],
)
def test_what_others_write_is_accepted(path: str, value: Any) -> None:
    judged(edited(prod(), path, value))


def test_what_is_given_in_part_keeps_its_default() -> None:
    """A larger memory limit and a longer check are one line each."""
    config = edited(prod(), "commands.smoke", {"timeoutSeconds": 900})
    config = edited(config, "commands.cache", {"run": "npm run warm"})
    config = edited(config, "application.jobResources", {"limits": {"memory": "1Gi"}})
    settings = judged(config)
    assert settings.commands.smoke == Commands().smoke.model_copy(update={"timeout_seconds": 900})
    assert settings.commands.cache == Command(run=("npm run warm",), timeout_seconds=300)
    before, after = Application.none().job_resources, settings.application.job_resources
    assert (after.requests, after.limits) == (before.requests, before.limits.model_copy(update={"memory": "1Gi"}))


def test_a_part_is_refused_for_itself_alone() -> None:
    for value, says in (
        ({"limits": {"memory": "64Mi"}}, "the limit is below the request 256Mi"),
        ({"limits": {"memory": "lots"}}, "256Mi"),
        ({"limits": "1Gi"}, "limits"),
        ({"limit": {"memory": "1Gi"}}, "limit"),
    ):
        error = refusal(edited(prod(), "application.jobResources", value))
        assert len(error.problems) == 1, str(error)
        assert says in str(error)
    assert "run" in str(refusal(edited(prod(), "commands.pipeline", [{"name": "after", "timeoutSeconds": 5}])))


def test_production_is_content_with_two_pods() -> None:
    assert judged(fixed_replicas(2)).application.services[0].replicas == 2


def test_two_services_of_one_name_or_path() -> None:
    config = prod()
    services = config["runbook:application"]["services"]
    services.append(copy.deepcopy(services[0]))
    message = str(refusal(config))
    assert "runbook:application.services[1].name" in message
    assert "/ is already served by backend" in message


def test_an_unknown_top_level_key_is_refused() -> None:
    message = str(refusal({**prod(), "runbook:aplication": {}, "runbok:namespace": "x"}))
    assert "rename it to runbook:application" in message
    assert "did you mean runbook:namespace" in message


def test_a_provider_may_have_keys_of_its_own() -> None:
    assert judged({**prod(), "kubernetes:context": "prod"})


def test_a_missing_secret_shows_the_command() -> None:
    config = prod()
    present = set(secrets_for(config)) - {"STRIPE_SECRET_KEY", "DATABASE_URL"}
    message = str(refusal(config, present))
    assert "pulumi config set --secret secrets:STRIPE_SECRET_KEY" in message
    assert "pulumi config set --secret secrets:DATABASE_URL" in message
    assert "runbook:data.postgres (mode: external)" in message


def test_an_unused_secret_is_refused_but_not_on_a_rollback() -> None:
    config = prod()
    present = {*secrets_for(config), "PAYPAL_KEY"}
    assert "secrets:PAYPAL_KEY" in str(refusal(config, present))
    rollback = RELEASE | {"revision": 2, "action": "rollback", "rollbackOf": 1, "migrate": False}
    assert judged({**config, "runbook:release": rollback}, present)


def test_a_plain_secret_is_refused_and_never_shown() -> None:
    config = {**prod(), "secrets:STRIPE_SECRET_KEY": "sk_live_in_the_clear"}
    message = str(refusal(config))
    assert "a secret in plain text" in message
    assert "sk_live" not in message


def test_what_may_be_a_secret_is_not_shown() -> None:
    config = edited(prod(), "application.services.0.env", {"API_TOKEN": "t0k3n-in-the-clear"})
    assert "t0k3n" not in str(refusal(config))


def test_encrypting_settings_is_refused() -> None:
    config = prod()
    del config["runbook:data"]
    file = StackFile("Pulumi.test.yaml", config, frozenset({"runbook:data"}))
    with pytest.raises(SettingsError, match="only secrets:\\* keys are encrypted"):
        parse(file)


def test_a_quarantined_digest_needs_a_reason() -> None:
    quarantine = [{"digest": BAD_DIGEST, "revision": 6, "reason": "smoke check failed"}]
    bad = RELEASE | {"revision": 8, "image": f"registry.example.com/shop@{BAD_DIGEST}"}
    message = str(refusal({**prod(quarantine=quarantine), "runbook:release": bad}))
    assert "runbook:release.image" in message
    assert "quarantined since revision 6 (smoke check failed)" in message
    assert "--allow-quarantined" in message
    assert judged({**prod(quarantine=quarantine), "runbook:release": bad | {"allowQuarantined": "fixed upstream"}})
    assert judged(prod(quarantine=quarantine))


def test_a_quarantined_digest_is_found_in_a_service_too() -> None:
    quarantine = [{"digest": BAD_DIGEST, "revision": 6, "reason": "bad"}]
    config = edited(prod(quarantine=quarantine), "application.services.0.image", f"registry.example.com/x@{BAD_DIGEST}")
    assert "runbook:application.services[0].image" in str(refusal(config))


def test_all_problems_are_reported_at_once() -> None:
    config = edited(edited(prod(), "ingress.host", ...), "release.image", "shop:v1")
    config = edited(config, "application.services.0.probes.liveness.path", "/api/ready")
    error = refusal({**config, "secrets:OTHER": "plain"})
    assert {".".join(map(str, problem.path)) for problem in error.problems} >= {
        "runbook:ingress.host",
        "runbook:release.image",
        "runbook:application.services.0.probes.liveness.path",
        "secrets:OTHER",
    }


def test_a_digit_only_commit_stays_text() -> None:
    assert Release.model_validate(RELEASE | {"git": 1234567}).git == "1234567"


def test_a_release_goes_to_the_stack_file_and_back() -> None:
    release = Release.model_validate(RELEASE)
    assert Release.model_validate(release.to_config()) == release
    assert release.to_config()["schema"] == RELEASE["schema"]
    assert release.digest == "sha256:" + "a" * 64
    assert release.message == f"revision 1: deploy {RELEASE['image']} (git 1a2b3c4)"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load_stack_file(tmp_path / "Pulumi.gone.yaml")
    broken = tmp_path / "Pulumi.broken.yaml"
    broken.write_text("config: [")
    with pytest.raises(SettingsError, match="is not YAML"):
        load_stack_file(broken)
    broken.write_text("name: x")
    with pytest.raises(SettingsError, match="is missing"):
        load_stack_file(broken)


def test_encrypted_values_are_recognised_in_a_file(tmp_path: Path) -> None:
    config = prod()
    config |= {f"secrets:{name}": {"secure": "v1:abc"} for name in secrets_for(config)}
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(yaml.safe_dump({"encryptionsalt": "v1:x", "config": config}))
    assert load_stack_file(file).namespace == "herbisveritas"


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in value.items()}
    return "list" if isinstance(value, list) else "value"


def test_staging_and_prod_have_the_same_keys() -> None:
    assert shape(stack_config("Pulumi.staging.yaml")) == shape(stack_config("Pulumi.prod.yaml"))


def test_stack_files_name_their_schema_for_editors() -> None:
    for file in ROOT.glob("Pulumi.*.yaml"):
        assert file.read_text().startswith("# yaml-language-server: $schema=settings/stack.schema.json\n")
