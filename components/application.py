"""The application (runbook-de-production §3.3): one Deployment per service, replaced without downtime."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi import Input, ResourceHookBinding, ResourceOptions
from pulumi_kubernetes.apps.v1 import Deployment, DeploymentSpecArgsDict
from pulumi_kubernetes.core.v1 import (
    ConfigMap,
    ContainerArgsDict,
    EnvFromSourceArgsDict,
    EnvVarArgsDict,
    PodTemplateSpecArgsDict,
    Service,
)
from pulumi_kubernetes.meta.v1 import LabelSelectorArgsDict

from components.base.init_containers import make_beside_jobs, make_init_containers
from components.base.names import SERVICE, SERVICE_PORT, SKIP_AWAIT, content_hash, labels, metadata, selector
from components.base.pods import (
    APPLICATION_UID,
    OLD_REVISIONS,
    SECRETS_IN_ENVIRONMENT,
    container,
    probe,
    register_budget,
    register_service_account,
    spread,
    template,
)
from components.base.shapes import mounts, waivers
from components.ingress import IngressRules
from components.lockdown import Lockdown
from components.rehearsal import Rehearsal, RehearsalArgs, Rehearsed, join_pod
from settings import Application as ApplicationSettings
from settings import Command, Ingress, NetworkPeer, Release
from settings import Service as ServiceSettings
from settings.init_containers import InitContainer
from settings.names import keep_dollars
from settings.performance import Performance
from settings.sqlite import BESIDE

SCALED = "runbook/scaled-by"
"""Annotation of a Deployment with an autoscaler. Its removal makes the provider write `replicas` again, also when the
number is the one that the state had before the autoscaler."""
_SLACK = 60
"""Seconds beyond the rollout's own deadline until the engine stops waiting."""


def _notes(service: ServiceSettings) -> dict[str, str]:
    """Annotations of a Deployment that follow from its service. With an autoscaler, the number of pods is written when
    the Deployment is made, and ignored afterwards: kube-score reads only that it is there."""
    found = waivers(service.shape)
    if not service.autoscaler:
        return found
    ignored = ["deployment-targeted-by-hpa-does-not-have-replicas-configured", found.get("kube-score/ignore")]
    return {**found, SCALED: "autoscaler", "kube-score/ignore": ",".join(filter(None, ignored))}


def _ports(service: ServiceSettings) -> list[tuple[str, int, str]]:
    """Name, number and protocol of each port that clients call through the Service."""
    main = [(SERVICE_PORT, service.port, "TCP")] if service.port else []
    return [*main, *((port.name, port.port, port.protocol) for port in service.more_ports)]


@dataclass(frozen=True, kw_only=True)
class ApplicationArgs:
    """The release, its services and its ingress."""

    namespace: Input[str]
    """Where it runs."""
    release: Release
    """The release: image, schema range, commit, revision."""
    application: ApplicationSettings
    """The services."""
    ingress: Ingress | None
    """The ingress, if there is one."""
    ingress_controller: NetworkPeer | None
    """The only client from outside the namespace that may call the services."""
    secret_name: str
    """Immutable Secret with every secret variable."""
    rehearsal: Command
    """What a new release must pass before it gets traffic."""
    performance: Performance | None = None
    """Pages that it has to show fast enough before."""
    stops_writers: bool = False
    """Run no pods of services that have a SQLite database open, while another file takes its place."""
    divert_to: Input[str] | None = None
    """Under maintenance, the Service that the ingress routes to instead of the services."""
    lockdown: Lockdown | None = None
    """Under lockdown, the gate in front of them."""
    hooks: Mapping[str, ResourceHookBinding] = field(default_factory=dict[str, ResourceHookBinding])
    """By service: called before its Deployment changes."""


class Application(pulumi.ComponentResource):
    """The services of a release.

    Configuration reaches pods through ConfigMaps named by their content, so the release before keeps its own
    until nothing runs it any more, and a rollback finds or makes exactly what it had.
    """

    url: str
    """URL customers use; without an ingress, that of the main service inside the namespace."""
    services: Sequence[str]
    """Names of the Deployments."""
    env_from: Sequence[EnvFromSourceArgsDict]
    """Variables of the main service, for the Jobs that check it."""
    container: ContainerArgsDict
    """The main service's container, for the restore test."""
    companions: Sequence[ContainerArgsDict]
    """Sidecars and init containers of the main service that commands need beside them."""
    internal_url: str
    """URL of the main service inside the namespace."""
    rollout_identity: str
    """Hash of everything that makes pods be replaced, and of the revision: checks are done again after each."""

    def __init__(self, name: str, args: ApplicationArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:release:Application", name, None, opts)
        self._args = args
        self._inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        services = args.application.services
        configs = {service.name: self._config_map(service) for service in services}
        main = args.application.main_service
        # A rollback skips the rehearsal: its release has served before, and every second counts.
        rehearsed = self._rehearsal(configs) if args.release.action == "deploy" else None
        self._proven = self._rehearse(rehearsed) if rehearsed else []
        IngressRules(
            namespace=args.namespace,
            services=services,
            ingress=args.ingress,
            ingress_controller=args.ingress_controller,
            divert_to=args.divert_to,
            lockdown=args.lockdown,
        ).register(
            self._inside,
            lambda let_in: [
                made for service in services for made in self._service(service, configs[service.name], let_in)
            ],
        )

        self.url = self._url
        self.services = [service.name for service in services]
        self.env_from = self._env_from(configs[main.name])
        self.container = self._container(main, configs[main.name])
        self.companions = make_beside_jobs(main, main.image or args.release.image, args.secret_name)
        self.internal_url = f"http://{main.name}:{main.port}"
        contents = [*(service.to_config() for service in services), *self._host_headers()]
        release = args.release
        self.rollout_identity = content_hash(
            release.revision, release.image, release.restored_over, args.secret_name, list(configs.values()), contents
        )
        self.register_outputs({"url": self.url, "services": list(self.services)})

    @property
    def _url(self) -> str:
        main = self._args.application.main_service
        return self._args.ingress.url if self._args.ingress else f"http://{main.name}:{main.port}"

    def _config_map(self, service: ServiceSettings) -> str:
        release = self._args.release
        data = {
            "NODE_ENV": "production",
            **({"PORT": str(service.port)} if service.port else {}),
            "PUBLIC_URL": self._url,
            "RELEASE_GIT": release.git,
            "SCHEMA_MIN": str(release.schema_.min),
            "SCHEMA_MAX": str(release.schema_.max),
            **service.env,
        }
        name = f"{service.name}-config-{content_hash(data)}"
        ConfigMap(
            name,
            metadata=metadata(name, self._args.namespace, labels(service.name, "configuration")),
            immutable=True,
            data=data,
            opts=self._inside,
        )
        return name

    def _env_from(self, config: str) -> list[EnvFromSourceArgsDict]:
        return [{"config_map_ref": {"name": config}}, {"secret_ref": {"name": self._args.secret_name}}]

    def _service(
        self, service: ServiceSettings, config: str, let_in: Sequence[pulumi.Resource]
    ) -> list[pulumi.Resource]:
        """What serves: the Deployment, once clients are let in, and the Service in front of it."""
        known_by = service.shape.service_account_annotations
        account = register_service_account(service.name, SERVICE, self._args.namespace, self._inside, known_by)
        deployment = self._deployment(
            service,
            self._template(service, config, account.metadata.apply(lambda meta: meta.name or "")),
            ResourceOptions(depends_on=[*self._proven, *let_in]),
        )
        named = metadata(service.name, self._args.namespace, labels(service.name, SERVICE))
        pods: LabelSelectorArgsDict = {"match_labels": selector(service.name, SERVICE)}
        register_budget(f"{service.name}-budget", named, pods, self._inside)
        serving: list[pulumi.Resource] = [deployment]
        if open_ports := _ports(service):
            made = Service(
                f"{service.name}-service",
                metadata=metadata(
                    service.name,
                    self._args.namespace,
                    {**(service.labels or {}), **labels(service.name, SERVICE)},
                    {**(service.annotations or {}), **SKIP_AWAIT},
                ),
                spec={
                    "type": "ClusterIP",
                    "selector": selector(service.name, SERVICE),
                    "ports": [
                        {"name": name, "port": number, "target_port": name, "protocol": protocol}
                        for name, number, protocol in open_ports
                    ],
                },
                # Updated after its pods: a failed rollout does not change the Service.
                opts=ResourceOptions.merge(self._inside, ResourceOptions(depends_on=[deployment])),
            )
            serving.append(made)
        if service.autoscaler:
            # Imported only here: the API group loads slowly, and not every stack scales.
            from pulumi_kubernetes.autoscaling.v2 import HorizontalPodAutoscaler

            HorizontalPodAutoscaler(
                f"{service.name}-autoscaler",
                metadata=named,
                spec={
                    "scale_target_ref": {
                        "api_version": "apps/v1",
                        "kind": "Deployment",
                        "name": service.name,
                    },
                    "min_replicas": service.autoscaler.min_replicas,
                    "max_replicas": service.autoscaler.max_replicas,
                    "metrics": [
                        {
                            "type": "Resource",
                            "resource": {
                                "name": "cpu",
                                "target": {
                                    "type": "Utilization",
                                    "average_utilization": service.autoscaler.cpu_percent,
                                },
                            },
                        }
                    ],
                },
                opts=ResourceOptions(parent=self, depends_on=[deployment]),
            )
        return serving

    def _deployment(self, service: ServiceSettings, pod: PodTemplateSpecArgsDict, after: ResourceOptions) -> Deployment:
        application = self._args.application
        spec: DeploymentSpecArgsDict = {
            "revision_history_limit": OLD_REVISIONS,
            # `runbook` ends the update earlier, when a pod that has started is not ready in time.
            "progress_deadline_seconds": application.placement_seconds + application.progress_deadline_seconds,
            # A new pod must be ready before an old pod stops.
            "strategy": {
                "type": "RollingUpdate",
                "rolling_update": {"max_surge": application.surge, "max_unavailable": 0},
            },
            "selector": {"match_labels": selector(service.name, SERVICE)},
            "template": pod,
        }
        # With an autoscaler, only where the Deployment is new: a field that the program wrote and no longer names goes
        # back to its default, one pod, until the autoscaler acts.
        stopped = self._args.stops_writers and BESIDE in service.shape.labels
        spec["replicas"] = 0 if stopped else service.least_replicas
        # The deadline starts anew with every pod that becomes ready. The provider does not end with it: `runbook` does.
        rounds = math.ceil(max(service.most_replicas, 1) / application.surge)
        seconds = application.placement_seconds + application.progress_deadline_seconds * rounds + _SLACK
        return Deployment(
            service.name,
            metadata=metadata(
                service.name,
                self._args.namespace,
                {**(service.labels or {}), **labels(service.name, SERVICE)},
                {
                    **(service.annotations or {}),
                    "runbook/revision": str(self._args.release.revision),
                    **SECRETS_IN_ENVIRONMENT,
                    **_notes(service),
                    # The command waits itself, until the last pod has ended.
                    **(SKIP_AWAIT if stopped else {}),
                },
            ),
            spec=spec,
            opts=ResourceOptions.merge(
                ResourceOptions.merge(self._inside, after),
                ResourceOptions(
                    custom_timeouts=pulumi.CustomTimeouts(create=f"{seconds}s", update=f"{seconds}s"),
                    ignore_changes=["spec.replicas"] if service.autoscaler else None,
                    hooks=self._args.hooks.get(service.name),
                ),
            ),
        )

    def _rehearse(self, rehearsed: RehearsalArgs) -> list[pulumi.Resource]:
        """What has to pass before the first old pod is replaced."""
        args, rehearsal = self._args, Rehearsal("rehearsal", rehearsed, self._inside)
        if not args.performance:
            return [rehearsal]
        from components.lighthouse import Lighthouse, LighthouseArgs

        measured = LighthouseArgs(
            rehearsal=rehearsed,
            performance=args.performance,
            public_url=args.ingress.url if args.ingress else args.application.internal_url("/"),
            host_header=args.application.host_header,
        )
        # Not beside the rehearsal: it would take the CPU that is measured.
        after = ResourceOptions.merge(self._inside, ResourceOptions(depends_on=[rehearsal]))
        return [rehearsal, Lighthouse("lighthouse", measured, after)]

    def _rehearsal(self, configs: Mapping[str, str]) -> RehearsalArgs | None:
        """`configs`: the ConfigMap of each service."""
        args = self._args
        rehearsed = args.application.rehearsed
        if not rehearsed or (main := rehearsed[0]).port is None:
            return None
        image = main.image or args.release.image
        return RehearsalArgs(
            namespace=args.namespace,
            image=image,
            services=[self._rehearsed(service, configs[service.name]) for service in rehearsed],
            port=main.port,
            start_seconds=sum(service.start_seconds for service in rehearsed),
            placement_seconds=args.application.placement_seconds,
            command=args.rehearsal,
            amounts=args.application.job_resources,
            env_from=self._env_from(configs[main.name]),
            shape=main.shape,
            identity=content_hash(
                image,
                [configs[service.name] for service in rehearsed],
                args.secret_name,
                [service.to_config() for service in rehearsed],
                args.rehearsal.to_config(),
                *self._host_headers(),
            ),
        )

    def _rehearsed(self, service: ServiceSettings, config: str) -> Rehearsed:
        env: list[EnvVarArgsDict] = [{"name": k, "value": keep_dollars(v)} for k, v in service.rehearsal_env.items()]
        made = self._container(service, config)
        before = self._before(service, config, [one for one in service.before if one.rehearse])
        rehearsed = Rehearsed(container={**made, "env": env} if env else made, before=before)
        main = self._args.application.main_service
        return rehearsed if service is main else join_pod(rehearsed, service, main)

    def _before(
        self, service: ServiceSettings, config: str, wanted: Sequence[InitContainer]
    ) -> list[ContainerArgsDict]:
        args = self._args
        return make_init_containers(
            service,
            wanted,
            release_image=args.release.image,
            secret_name=args.secret_name,
            env_from=self._env_from(config),
        )

    def _host_headers(self) -> list[str]:
        """Part of what pods are made of, where it is set."""
        return [host] if (host := self._args.application.host_header) else []

    def _container(self, service: ServiceSettings, config: str) -> ContainerArgsDict:
        host = self._args.application.host_header
        more: dict[str, Any] = {}
        if open_ports := _ports(service):
            more["ports"] = [
                {"name": name, "container_port": number, "protocol": protocol} for name, number, protocol in open_ports
            ]
        if service.pre_stop_seconds:
            # Every proxy removes the endpoint while the pod still answers.
            more["lifecycle"] = {"pre_stop": {"sleep": {"seconds": service.pre_stop_seconds}}}
        return container(
            service.name,
            image=service.image or self._args.release.image,
            amounts=service.resources,
            command=service.argv,
            env_from=self._env_from(config),
            mounts=mounts(service.shape),
            startup_probe=probe(service.probes.startup, service.port, host),
            readiness_probe=probe(service.probes.readiness, service.port, host),
            liveness_probe=probe(service.probes.liveness, service.port, host),
            **more,
        )

    def _template(self, service: ServiceSettings, config: str, account: Input[str]) -> PodTemplateSpecArgsDict:
        here: LabelSelectorArgsDict = {"match_labels": selector(service.name, SERVICE)}
        return template(
            service.name,
            SERVICE,
            service_account=account,
            uid=APPLICATION_UID,
            shape=service.shape,
            containers=[self._container(service, config)],
            **({"init_containers": self._before(service, config, service.before)} if service.before else {}),
            termination_grace_period_seconds=service.termination_grace_seconds,
            **spread(here, service.shape),
        )
