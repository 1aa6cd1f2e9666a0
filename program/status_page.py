"""The status page, where the stack file has one. It waits for nothing but the namespace, and nothing waits for it: a
release that fails leaves it as it is."""

from __future__ import annotations

from pulumi import ResourceOptions

from components.foundation import Foundation
from program.inputs import Inputs


def register_status_page(inputs: Inputs, foundation: Foundation) -> None:
    settings = inputs.settings
    controller = settings.network.ingress_controller
    if not (settings.status_page and controller):
        return
    from components.status_page import StatusPage, StatusPageArgs

    StatusPage(
        "status-page",
        StatusPageArgs(
            namespace=foundation.namespace,
            image=settings.image,
            page=settings.status_page,
            ingress_controller=controller,
        ),
        ResourceOptions(depends_on=[foundation]),
    )
