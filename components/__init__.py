"""The rooms of the house: one file per chapter, each a ComponentResource that reads no configuration."""

from components.application import Application, ApplicationArgs
from components.cache import Cache
from components.credentials import Credentials, CredentialsArgs
from components.data import DataServices, DataServicesArgs
from components.foundation import Foundation, FoundationArgs
from components.jobs import RolloutJobArgs
from components.migration import Migration, MigrationArgs
from components.smoke import Smoke

__all__ = [
    "Application",
    "ApplicationArgs",
    "Cache",
    "Credentials",
    "CredentialsArgs",
    "DataServices",
    "DataServicesArgs",
    "Foundation",
    "FoundationArgs",
    "Migration",
    "MigrationArgs",
    "RolloutJobArgs",
    "Smoke",
]
