"""The manifests in deploy/, and what Docker builds and composes, against the program they run."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry

from monitoring.service import status_api
from monitoring.status import Status
from stream.cli import app as cli
from stream.kafka.roles import ROLES
from stream.process.watchdog import STOP_SECONDS
from stream.settings import PREFIX, Settings, described_settings, read_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes"
KUSTOMIZATIONS = sorted(DEPLOY.rglob("kustomization.yaml"))
README = DEPLOY / "README.md"
NAMED = [
    *sorted(path for path in DEPLOY.rglob("*") if path.is_file()),
    ROOT / "docker-compose.yml",
    ROOT / "Dockerfile",
]
STAGES = {"creditstream": "worker", "creditstream-reports": "reports"}
"""Which stage of the Dockerfile each image is built from."""

Document = dict[str, Any]


@cache
def documents() -> tuple[Document, ...]:
    """Read every YAML document of the folder, those in the README too."""
    texts = [path.read_text() for path in sorted(DEPLOY.rglob("*.yaml"))]
    texts += re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    return tuple(document for text in texts for document in yaml.safe_load_all(text))


def of_kind(*kinds: str) -> list[Document]:
    return [document for document in documents() if document["kind"] in kinds]


def pods() -> dict[str, Document]:
    """Give each workload's pod specification by name."""
    specs = {}
    for document in of_kind("Deployment", "StatefulSet", "Job", "CronJob", "Pod"):
        spec = document["spec"]
        spec = spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec
        specs[document["metadata"]["name"]] = spec.get("template", {"spec": spec})["spec"]
    return specs


def containers() -> dict[str, Document]:
    """Give each workload's only container."""
    found = {}
    for name, pod in pods().items():
        (found[name],) = pod["containers"]
        assert "initContainers" not in pod
    return found


def workers() -> dict[str, Document]:
    return {name: one for name, one in containers().items() if one.get("args", [""])[0] == "worker"}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Read settings.env as a pod does: it is the environment, and there is no other."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    lines = (BASE / "settings.env").read_text().splitlines()
    for line in [line for line in lines if not line.startswith("#")]:
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)
    return read_settings()


@pytest.mark.parametrize("path", NAMED, ids=lambda path: path.name)
def test_every_setting_that_is_named_is_one_that_the_program_knows(path: Path) -> None:
    known = {name for name, *_ in described_settings()}

    assert set(re.findall(rf"{PREFIX}[A-Z0-9_]+", path.read_text())) - known == set()


def test_passwords_are_in_no_environment_and_are_files_for_those_alone_who_need_them(
    settings: Settings,
) -> None:
    mounted: dict[str, dict[str, str]] = {"clickhouse": {}, "kafka": {}}
    variables = set()
    for name, container in containers().items():
        variables |= {variable["name"] for variable in container.get("env", [])}
        volumes = {volume["name"]: volume for volume in pods()[name]["volumes"]}
        for mount in container["volumeMounts"]:
            if secret := volumes.get(mount["name"], {}).get("secret"):
                assert mount["mountPath"] == f"/run/secrets/{mount['name']}"
                assert mount["readOnly"] is True
                mounted[mount["name"]][name] = secret["secretName"]

    assert mounted["clickhouse"] == dict.fromkeys(("init", "sink", "report"), "clickhouse")
    assert mounted["kafka"] == {name: f"kafka-{name}" for name in (*ROLES, "init")}
    assert settings.store.password_file == Path("/run/secrets/clickhouse/password")
    assert variables == {f"{PREFIX}KAFKA__SASL_USERNAME"}
    assert of_kind("Secret") == []


def test_the_readmes_settings_of_a_kafka_with_logins_are_whole(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not settings.kafka.with_sasl
    literals = re.findall(rf"^    - ({PREFIX}KAFKA__\w+)=(\S+)$", README.read_text(), re.MULTILINE)
    for name, value in (*literals, (f"{PREFIX}KAFKA__SASL_USERNAME", "scoring")):
        monkeypatch.setenv(name, value)

    kafka = read_settings().kafka

    assert (len(literals), kafka.security_protocol) == (3, "SASL_SSL")
    for file in (kafka.sasl_password_file, kafka.ssl_cafile):
        assert file is not None
        assert file.parent == Path("/run/secrets/kafka")


def test_every_pod_takes_its_settings_from_the_config_map_that_kustomize_makes() -> None:
    base = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    (generator,) = base["configMapGenerator"]
    sources = {name: one.get("envFrom") for name, one in containers().items() if name != "fill"}

    wanted = [{"configMapRef": {"name": generator["name"]}}]
    assert generator["envs"] == ["settings.env"]
    assert {name: source for name, source in sources.items() if source != wanted} == {}


def test_each_role_has_a_workload_and_every_command_is_one_of_the_command_line() -> None:
    known = typer.main.get_command(cli).commands  # type: ignore[attr-defined] # a group
    commands = {}
    for name, container in containers().items():
        if "command" in container:  # not the image's entry point
            continue
        command, *arguments = container["args"]
        context = known[command].make_context(command, arguments)
        commands[name] = (command, context.params.get("agents"))

    assert commands == {role: ("worker", role) for role in ROLES} | {
        "init": ("init", None),
        "report": ("report", None),
    }


def test_every_image_is_a_stage_of_the_dockerfile_that_can_do_what_it_is_asked() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    images = {name: one["image"] for name, one in containers().items() if name != "fill"}
    overlay = [image for one in of_kind("Kustomization") for image in one.get("images", [])]

    assert set(STAGES.values()) <= set(stages)
    assert images == dict.fromkeys([*ROLES, "init"], "creditstream") | {
        "report": "creditstream-reports"
    }
    assert {image["name"] for image in overlay} == set(STAGES)
    assert all(image["newName"].endswith(f"/{image['name']}") for image in overlay)


def test_probes_ask_paths_and_the_port_that_the_status_service_serves(settings: Settings) -> None:
    api = status_api(lambda: Status(role="r", alive=True, not_ready=[]), CollectorRegistry())
    served = {route.path for route in api.routes if isinstance(route, APIRoute)}
    probes = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}

    assert {*probes.values(), "/metrics"} <= served
    assert set(workers()) == set(ROLES)
    for container in workers().values():
        asked = {probe: container[probe]["httpGet"] for probe in probes}
        assert asked == {name: {"path": path, "port": "status"} for name, path in probes.items()}
        assert container["ports"] == [{"name": "status", "containerPort": settings.status.port}]


def test_the_status_service_listens_where_a_kubelet_and_prometheus_reach_it(
    settings: Settings,
) -> None:
    (service,) = of_kind("Service")
    port = {"name": "status", "port": settings.status.port, "targetPort": "status"}
    wanted = {"scrape": "true", "port": str(settings.status.port), "path": "/metrics"}

    assert settings.status.host == "0.0.0.0"
    assert service["spec"]["ports"] == [port]
    for document in of_kind("Deployment", "StatefulSet"):
        pod = document["spec"]["template"]["metadata"]
        assert service["spec"]["selector"].items() <= pod["labels"].items()
        assert pod["annotations"] == {f"prometheus.io/{key}": wanted[key] for key in wanted}


def test_liveness_is_no_less_patient_than_the_worker_with_itself(settings: Settings) -> None:
    for container in workers().values():
        probe = container["livenessProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= settings.stall_seconds


def test_every_container_is_restricted_and_has_its_share_of_the_machine() -> None:
    uid = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert uid is not None
    as_user = {"runAsUser": int(uid[1]), "runAsGroup": int(uid[2]), "runAsNonRoot": True}
    restricted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }

    assert set(pods()) == {*ROLES, "init", "report", "fill"}
    for pod in pods().values():
        context = pod["securityContext"]
        assert as_user.items() <= context.items()
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        # The name of a Service may make a variable that looks like a setting, and ends the program.
        assert pod["enableServiceLinks"] is False
    for container in containers().values():
        assert container["securityContext"] == restricted
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


def test_every_mount_is_a_volume_of_its_pod_and_every_claim_is_made() -> None:
    claimed = {claim["metadata"]["name"] for claim in of_kind("PersistentVolumeClaim")}
    templates = {
        document["metadata"]["name"]: {
            claim["metadata"]["name"] for claim in document["spec"]["volumeClaimTemplates"]
        }
        for document in of_kind("StatefulSet")
    }

    for name, container in containers().items():
        volumes = {volume["name"]: volume for volume in pods()[name]["volumes"]}
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == set(volumes) | templates.get(name, set())
        claims = [volume.get("persistentVolumeClaim") for volume in volumes.values()]
        assert {claim["claimName"] for claim in claims if claim} <= claimed


def test_the_files_of_the_settings_lie_on_volumes_and_what_decides_is_read_only(
    settings: Settings,
) -> None:
    mounts = {
        name: {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        for name, container in containers().items()
    }

    for path in (settings.release, settings.features):
        assert path.is_relative_to("/data")
    assert [name for name in mounts if mounts[name].get("/data", {}).get("readOnly")] == [
        "monitor",
        "report",
        "scoring",
    ]
    assert str(settings.monitor.checkpoint.parent) in mounts["monitor"]
    assert str(settings.monitor.reports) in mounts["report"]


def test_a_worker_may_drain_for_longer_than_its_watchdog_lets_it() -> None:
    for name in ROLES:
        assert pods()[name]["terminationGracePeriodSeconds"] > STOP_SECONDS


def test_selectors_find_the_pods_of_their_own_workload() -> None:
    workloads = of_kind("Deployment", "StatefulSet")
    selected = {one["metadata"]["name"]: one["spec"]["selector"] for one in workloads}
    labels = {one["metadata"]["name"]: one["spec"]["template"]["metadata"] for one in workloads}

    for name, selector in selected.items():
        assert selector == {"matchLabels": {"app.kubernetes.io/component": name}}
        assert selector["matchLabels"].items() <= labels[name]["labels"].items()
    for budget in of_kind("PodDisruptionBudget"):
        assert budget["spec"]["selector"] == selected[budget["metadata"]["name"]]


def test_there_is_one_monitor_and_no_scoring_replica_beyond_the_partitions(
    settings: Settings,
) -> None:
    (monitor,) = of_kind("StatefulSet")
    (scaled,) = of_kind("ScaledObject")
    (scoring, sink) = (one["spec"] for one in of_kind("Deployment"))

    assert monitor["spec"]["replicas"] == 1
    assert scaled["spec"]["maxReplicaCount"] == settings.kafka.partitions
    for spec in (scoring, sink):
        assert "replicas" not in spec
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_keda_looks_at_the_topic_and_the_group_of_the_scoring_worker(settings: Settings) -> None:
    (scaled,) = of_kind("ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    deployments = {one["metadata"]["name"] for one in of_kind("Deployment")}

    assert scaled["spec"]["scaleTargetRef"]["name"] in deployments
    assert trigger["metadata"]["topic"] == settings.kafka.applications
    assert trigger["metadata"]["consumerGroup"] == f"{settings.kafka.group_prefix}-scoring"
    assert all(isinstance(value, str) for value in trigger["metadata"].values())


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_a_kustomization_lists_every_file_of_its_folder_and_nothing_else(path: Path) -> None:
    kustomization = yaml.safe_load(path.read_text())
    listed = list(kustomization["resources"])
    for generator in kustomization.get("configMapGenerator", []):
        listed += generator["envs"]

    files = {file.name for file in path.parent.iterdir() if file.is_file()}
    assert sorted(listed) == sorted(files - {path.name})
