"""The check of pages that serve, where the stack file has it."""

from __future__ import annotations

from pulumi import ResourceOptions

from components.backup import Backup
from components.foundation import Foundation
from program.inputs import Inputs
from program.release import Release


def register_page_check(inputs: Inputs, foundation: Foundation, backup: Backup | None, release: Release) -> None:
    """It names the release that serves, so it follows the application."""
    settings, performance = inputs.settings, inputs.settings.performance
    check = performance and performance.continuous
    if not (performance and check and settings.backup and backup and settings.release):
        return
    from components.page_check import ContinuousPageCheck, PageCheckArgs

    application = settings.application
    ContinuousPageCheck(
        "page-check",
        PageCheckArgs(
            namespace=foundation.namespace,
            image=settings.image,
            performance=performance,
            check=check,
            asked=performance.to_check(check, application.internal_url),
            backup=settings.backup,
            release=settings.release,
            ports=[service.port for service in application.services],
            egress=settings.network.egress,
            public_url="" if check.url else settings.url or "",
            host_header=None if check.url else application.host_header,
            paused=not settings.checks_pages,
        ),
        ResourceOptions(depends_on=[release.application, backup]),
    )
