"""What the backup chapter's pods have in common: the tasks' image, its environment, and access to the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    EnvFromSourceArgsDict,
    EnvVarArgsDict,
    PodTemplateSpecArgsDict,
    ServiceAccount,
    VolumeArgsDict,
    VolumeMountArgsDict,
)

from components.base.claims import claim_spec
from components.base.jobs import DISRUPTED
from components.base.names import BACKUP_EXPORTER, labels
from components.base.pods import APPLICATION_UID, container, register_service_account, template
from components.base.shapes import mounts as mounts_of
from settings import Backup, PodShape, S3Destination, VolumeDestination
from settings.backup import STORE_PORT

SETTINGS = "backup-settings"
CREDENTIALS = "backup-store"
IDENTITIES = "backup-identities"
LOGIN = "backup-login"
ADMINISTRATOR = "restore-administrator"
"""Secret with the login that made the application's, and ends their sessions in a restore in place."""
EVIDENCE = "backup-evidence"
WINDOW = "backup-store-token"
"""Secret with the token by which a restore test reads the store through the exporter's pod."""
VOLUME = "backups"

KEYS_IN_ENVIRONMENT = {"checkov.io/skip1": "CKV_K8S_35=Tasks and what they run take their keys from the environment"}
"""On what runs a task: a linter's default that does not fit, with the reason."""

_STORE_PATH = "/backups"
_SCRATCH_PATH = "/scratch"
_IDENTITIES_PATH = "/run/secrets/backup"


def settings_data(backup: Backup, namespace: Input[str]) -> dict[str, Input[str]]:
    """Environment variables of every task; none is secret."""
    to, keep = backup.destination, backup.retention
    data: dict[str, Input[str]] = {
        "BACKUP_RETENTION_DAYS": str(keep.days),
        **{f"BACKUP_KEEP_{name.upper()}": str(getattr(keep, name)) for name in _KEEPS},
        "BACKUP_KEEP_IDS": " ".join(backup.keep),
        "BACKUP_FORMAT": backup.format,
        "BACKUP_JOBS": str(backup.jobs),
        "BACKUP_RECIPIENTS": " ".join(backup.encryption.recipients) if backup.encryption else "",
        "BACKUP_WAIT_SECONDS": str(backup.wait_seconds),
        "BACKUP_INTERVAL_SECONDS": str(int(backup.interval.total_seconds())),
        "RESTORE_TEST_MAX_AGE_HOURS": str(backup.restore_test.max_age_hours),
        "RESTORE_TEST_TIMEOUT_SECONDS": str(backup.restore_test.timeout_seconds),
        "SCHEMA_LEVEL_QUERY": backup.schema_level_query,
    }
    if isinstance(to, VolumeDestination):
        return {**data, "BACKUP_STORE": f"file://{_STORE_PATH}"}
    return {
        **data,
        "BACKUP_STORE": pulumi.Output.concat("s3://", to.bucket, "/", to.prefix or namespace),
        "S3_ENDPOINT_URL": to.endpoint or "",
        "S3_REGION": to.region or "",
        "S3_PATH_STYLE": str(to.path_style).lower(),
        "S3_CREATE_BUCKET": str(to.create_bucket).lower(),
        "S3_OBJECT_LOCK_DAYS": str(to.object_lock_days or ""),
    }


_KEEPS = ("daily", "weekly", "monthly", "yearly", "least")


def task_container(
    name: str,
    words: Sequence[str],
    *,
    image: Input[str],
    backup: Backup,
    env: Sequence[EnvVarArgsDict] = (),
    env_from: Sequence[EnvFromSourceArgsDict] = (),
    decrypts: bool = False,
    scratch: bool = False,
    through_window: bool = False,
    signs: bool = True,
    file: PodShape | None = None,
    **more: Any,
) -> ContainerArgsDict:
    """A container that runs `python3 -m tasks WORDS`, with everything it needs to use the store.

    `through_window`: a bucket is read through the exporter's pod, without its keys. `signs`: it reads or writes records
    of restore tests, and has their key. `file`: the volume of a SQLite database.
    """
    through_window = through_window and has_window(backup)
    # In the pod and not in the ConfigMap, which holds what the stack file says.
    variables: list[EnvVarArgsDict] = [
        *env,
        {"name": "BACKUP_STACK", "value": f"{pulumi.get_project()}/{pulumi.get_stack()}"},
    ]
    mounts: list[VolumeMountArgsDict] = [*more.pop("mounts", ()), *(mounts_of(file) if file else ())]
    sources: list[EnvFromSourceArgsDict] = [
        {"config_map_ref": {"name": SETTINGS}},
        *([cast(EnvFromSourceArgsDict, {"secret_ref": {"name": EVIDENCE}})] if signs else []),
        *env_from,
    ]
    if through_window:
        sources.append({"secret_ref": {"name": WINDOW}})
        variables.append({"name": "BACKUP_STORE", "value": f"http://{BACKUP_EXPORTER}:{STORE_PORT}"})
    elif uses_secret_keys(backup):
        sources.append({"secret_ref": {"name": CREDENTIALS}})
    if isinstance(backup.destination, VolumeDestination):
        mounts.append({"name": VOLUME, "mount_path": _STORE_PATH})
    if decrypts and backup.encryption:
        mounts.append({"name": IDENTITIES, "mount_path": _IDENTITIES_PATH, "read_only": True})
        variables.append({"name": "BACKUP_IDENTITIES_FILE", "value": f"{_IDENTITIES_PATH}/identities"})
    if scratch:
        mounts.append({"name": "scratch", "mount_path": _SCRATCH_PATH})
        variables.append({"name": "SCRATCH", "value": _SCRATCH_PATH})
    return container(
        name,
        image=image,
        amounts=backup.resources,
        command=["python3", "-m", "tasks", *words],
        mounts=mounts,
        env=variables,
        env_from=sources,
        **more,
    )


def has_window(backup: Backup) -> bool:
    """Whether restore tests read the store through another pod; a volume is mounted by their tasks alone."""
    return isinstance(backup.destination, S3Destination)


def uses_secret_keys(backup: Backup) -> bool:
    """Whether the store is opened by keys that this program hands over."""
    return isinstance(backup.destination, S3Destination) and backup.destination.credentials == "secret"


def task_pod(
    name: str,
    component: str,
    *,
    backup: Backup,
    account: ServiceAccount,
    containers: Sequence[ContainerArgsDict],
    volumes: Sequence[VolumeArgsDict] = (),
    decrypts: bool = False,
    scratch: bool = False,
    annotations: Mapping[str, str] | None = None,
    file: PodShape | None = None,
    **more: Any,
) -> PodTemplateSpecArgsDict:
    """A pod of tasks, with the volumes that `task` mounts. `file`: as the owner of a SQLite database, and where the
    task opens it on the node that has it."""
    own = list(volumes)
    if isinstance(backup.destination, VolumeDestination):
        own.append({"name": VOLUME, "persistent_volume_claim": {"claim_name": VOLUME}})
    if decrypts and backup.encryption:
        own.append({"name": IDENTITIES, "secret": {"secret_name": IDENTITIES, "default_mode": 0o440}})
    if scratch:
        claim = claim_spec(backup.scratch, backup.scratch_storage_class)
        wanted = {"metadata": {"labels": labels(name, component)}, "spec": claim}
        own.append(cast(VolumeArgsDict, {"name": "scratch", "ephemeral": {"volume_claim_template": wanted}}))
    return template(
        name,
        component,
        service_account=account.metadata.apply(lambda meta: meta.name or ""),
        uid=APPLICATION_UID,
        containers=containers,
        volumes=own,
        annotations=annotations,
        shape=file,
        **({"priority_class_name": backup.priority_class} if backup.priority_class else {}),
        **more,
    )


def register_account(
    name: str, component: str, backup: Backup, namespace: Input[str], opts: ResourceOptions
) -> ServiceAccount:
    """A ServiceAccount without RBAC; its annotations may bind it to a cloud role that may use the store."""
    to = backup.destination
    known_by = to.service_account_annotations if isinstance(to, S3Destination) else {}
    return register_service_account(name, component, namespace, opts, known_by)


def database(secret_name: Input[str], backup: Backup) -> list[EnvFromSourceArgsDict]:
    """`DATABASE_URL` and the backup's own login, for a task that needs the live database."""
    own: list[EnvFromSourceArgsDict] = [{"secret_ref": {"name": LOGIN}}] if backup.own_login else []
    return [{"secret_ref": {"name": secret_name}}, *own]


def retry_faults(*, final: Sequence[str]) -> dict[str, Any]:
    """Tries again after a fault; not after a refusal (exit code 2), nor when one of the `final` containers failed."""
    return {
        "backoff_limit": 2,
        "pod_failure_policy": {
            "rules": [
                DISRUPTED,
                {"action": "FailJob", "on_exit_codes": {"operator": "In", "values": [2]}},
                *(
                    {
                        "action": "FailJob",
                        "on_exit_codes": {"container_name": name, "operator": "NotIn", "values": [0]},
                    }
                    for name in final
                ),
            ]
        },
    }
