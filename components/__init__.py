"""The rooms of the house: one file per chapter, each a ComponentResource that reads no configuration."""

from components.application import Application, ApplicationArgs
from components.backup import Backup, BackupArgs
from components.backup_exporter import BackupExporter, BackupExporterArgs
from components.cache import Cache
from components.credentials import Credentials, CredentialsArgs
from components.data import DataServices, DataServicesArgs
from components.foundation import Foundation, FoundationArgs
from components.jobs import RolloutJobArgs
from components.lockdown import Lockdown, LockdownArgs
from components.maintenance import Maintenance, MaintenanceArgs
from components.migration import Migration, MigrationArgs
from components.pre_release import PreRelease, PreReleaseArgs
from components.restore_test import RestoreTest, RestoreTestArgs
from components.rotation import Retirement, RetirementArgs, Rotation, RotationArgs
from components.smoke import Smoke
from components.verification import Verification

__all__ = [
    "Application",
    "ApplicationArgs",
    "Backup",
    "BackupArgs",
    "BackupExporter",
    "BackupExporterArgs",
    "Cache",
    "Credentials",
    "CredentialsArgs",
    "DataServices",
    "DataServicesArgs",
    "Foundation",
    "FoundationArgs",
    "Lockdown",
    "LockdownArgs",
    "Maintenance",
    "MaintenanceArgs",
    "Migration",
    "MigrationArgs",
    "PreRelease",
    "PreReleaseArgs",
    "RestoreTest",
    "RestoreTestArgs",
    "Retirement",
    "RetirementArgs",
    "RolloutJobArgs",
    "Rotation",
    "RotationArgs",
    "Smoke",
    "Verification",
]
