"""Typed settings of a stack. `settings.config` is the only reader of pulumi.Config; the rest needs no engine."""

from settings.application import Application, Autoscaler, Probes, Service
from settings.backup import Backup, S3Destination, VolumeDestination
from settings.base import ImageRef, Settings, image_digest
from settings.commands import Command, Commands, MigrateCommand
from settings.consistency import StackFile
from settings.containers import Probe, Resources
from settings.files import load_stack_file, read_stack_file
from settings.lockdown import Lockdown, Precautions
from settings.maintenance import Maintenance
from settings.maintenance_tasks import MaintenanceTasks
from settings.monitoring import Monitoring
from settings.peers import NetworkPeer, Peer
from settings.platform import (
    BundledPostgres,
    BundledRedis,
    Credentials,
    Data,
    Egress,
    External,
    ExternalPostgres,
    Generated,
    Guards,
    Ingress,
    Network,
    Registry,
)
from settings.pods import DataVolume, PodShape
from settings.problems import Problem, SettingsError
from settings.release import Quarantined, Release, SchemaRange
from settings.rotation import Policy, RotationSettings, RotationState, SecretRotation
from settings.stack import StackSettings, json_schema, parse

__all__ = [
    "Application",
    "Autoscaler",
    "Backup",
    "BundledPostgres",
    "BundledRedis",
    "Command",
    "Commands",
    "Credentials",
    "Data",
    "DataVolume",
    "Egress",
    "External",
    "ExternalPostgres",
    "Generated",
    "Guards",
    "ImageRef",
    "Ingress",
    "Lockdown",
    "Maintenance",
    "MaintenanceTasks",
    "MigrateCommand",
    "Monitoring",
    "Network",
    "NetworkPeer",
    "Peer",
    "PodShape",
    "Policy",
    "Precautions",
    "Probe",
    "Probes",
    "Problem",
    "Quarantined",
    "Registry",
    "Release",
    "Resources",
    "RotationSettings",
    "RotationState",
    "S3Destination",
    "SchemaRange",
    "SecretRotation",
    "Service",
    "Settings",
    "SettingsError",
    "StackFile",
    "StackSettings",
    "VolumeDestination",
    "image_digest",
    "json_schema",
    "load_stack_file",
    "parse",
    "read_stack_file",
]
