"""An image says what runs, where and as whom; it has no say in how that is shut in.

Group image-can't-steer: whatever labels, annotations, environment, volumes, health checks and unknown fields
an image's config has, the isolation of the computed spec is that of a plain image (CVE-2026-94603, -121885,
-53492), or the image is refused in words.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from rdock.container import request, spec
from rdock.container.config import Config, HostConfig
from rdock.container.containers import Container
from rdock.container.users import User
from rdock.errors import RdockError
from rdock.image.manifest import ImageConfig
from rdock.linux.idmap import Mapping

KEYS = [
    "io.podman.annotations.privileged", "io.podman.annotations.seccomp", "io.podman.annotations.checkpoint",
    "io.podman.annotations.init", "io.podman.annotations.autoremove", "io.podman.annotations.volumes-from",
    "run.oci.handler", "run.oci.keep_original_groups", "run.oci.seccomp_fail_unknown_syscall", "run.oci.hooks.stdout",
    "run.oci.pidfd_receiver", "run.oci.systemd.subgroup", "module.wasm.image/variant", "krun.cpus",
    "io.kubernetes.cri-o.userns-mode", "io.kubernetes.cri-o.Devices", "io.kubernetes.cri-o.ShmSize",
    "cdi.k8s.io/all", "security.alpha.kubernetes.io/sysctls", "seccomp.security.alpha.kubernetes.io/pod",
    "io.balena.features.privileged", "com.docker.compose.project", "org.opencontainers.image.ref.name",
    "rdock.privileged", "privileged", "com.github.containers.toolbox", "org.systemd.property.DevicePolicy",
]  # fmt: skip
VALUES = [
    "true", "1", "unconfined", "host", "ALL", "/", "/etc:/etc:rw", "/dev/sda", "wasm", "krun", "nvidia.com/gpu=all",
    "localhost/x.json", "{\"privileged\": true}", "", "a\nb", "\u202e", "x" * 5000,
]  # fmt: skip
PATHS = [
    "/data",
    "/var/lib/x",
    "/a b",
    "/x,y",
    "/x:y",
    "/dev/shm",
    "/etc",
    "/usr/../srv",
    "//double",
    "/sys/fs/cgroup",
    "/run",
]
ENTRIES = [
    "A=1",
    "PATH=/evil",
    "LD_PRELOAD=/x.so",
    "RDOCK_DEBUG=1",
    "=x",
    "",
    "HOME",
    "*",
    "container=podman",
    "A=\u00e9",
]
# What runs, where and as whom, and nothing else, is the image's to say.
ITS_OWN = {"args", "env", "cwd", "user"}
MAPPINGS = (Mapping(0, 0, 1), Mapping(1, 1, 65536))


def computed(document: dict[str, Any], host: HostConfig) -> dict[str, Any]:
    """The spec of a container of such an image, without what an image may say."""
    image = ImageConfig.from_json(json.dumps(document).encode())
    config = request.merge(Config(hostname="one", cmd=["true"]), image, given_command=True)
    container = Container(
        id="1" * 64, name="one", created="", image="2" * 64, image_name="some", config=config, host_config=host,
        driver="overlay", id_mode="subids",
    )  # fmt: skip
    files = {"/etc/hosts": "/h", "/etc/hostname": "/n", "/etc/resolv.conf": "/r"}
    user = User(0, 0, [0], "/root", "root")
    built = spec.build(container, user=user, files=files, uids=MAPPINGS, gids=MAPPINGS, cgroup_path="/g")
    process = {key: value for key, value in built["process"].items() if key not in ITS_OWN}
    return {**built, "process": process}


def plain() -> dict[str, Any]:
    return {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}


def hostile(choice: random.Random) -> dict[str, Any]:
    def texts(pool: list[str]) -> list[str]:
        return [choice.choice(pool) for _ in range(choice.randrange(4))]

    def table() -> dict[str, str]:
        return {choice.choice(KEYS): choice.choice(VALUES) for _ in range(choice.randrange(8))}

    test = {"Test": ["CMD-SHELL", choice.choice(VALUES)], "Interval": choice.randrange(1 << 40)}
    config = {
        "Labels": table(),
        "Env": texts(ENTRIES),
        "Volumes": {path: {} for path in texts(PATHS)},
        "WorkingDir": choice.choice(["", "/", *PATHS, "/proc/self/fd/9"]),
        "User": choice.choice(["", "0", "app", "1:2"]),
        "Entrypoint": texts(VALUES),
        "Cmd": texts(VALUES),
        "Healthcheck": test,
        "OnBuild": texts(["RUN x", "USER root"]),
        "ExposedPorts": {port: {} for port in texts(["80/tcp", "0/udp", "x", "99999/tcp"])},
        "Shell": texts(["/x", "-c"]),
        "StopSignal": choice.choice(["", "SIGTERM", "9", "RTMIN+3"]),
        "ArgsEscaped": True,
        "Tty": True,
        "OpenStdin": True,
        "Annotations": table(),
        "Memory": 1,
        "Hostname": "evil",
        "Domainname": "evil",
        "NetworkDisabled": True,
        "MacAddress": "0",
        "Privileged": True,
        "HostConfig": {"Privileged": True, "Binds": ["/:/host"]},
    }
    document = {
        **plain(),
        "config": config,
        "annotations": table(),
        "container_config": config,
        "privileged": True,
        "hooks": {"prestart": [{"path": "/bin/sh"}]},
        "mounts": [{"source": "/", "destination": "/host"}],
        "linux": {"namespaces": [], "seccomp": None},
        "process": {"capabilities": {"bounding": ["CAP_SYS_ADMIN"]}},
        "os.features": texts(VALUES),
        "variant": choice.choice(VALUES),
        "author": choice.choice(VALUES),
    }
    for key in choice.sample(sorted(document), choice.randrange(4)):
        if key not in ("rootfs", "config"):
            del document[key]
    return document


@pytest.mark.parametrize(
    "host",
    [
        HostConfig(network_mode="none"),
        HostConfig(network_mode="host", cap_drop=["ALL"], readonly_rootfs=True),
        HostConfig(network_mode="slirp4netns", cap_add=["NET_ADMIN"], init=True, tmpfs={"/t": ""}, binds=["/a:/b:ro"]),
        HostConfig(network_mode="none", security_opt=["no-new-privileges"], shm_size=1 << 20),
    ],
)
def test_isolation_is_that_of_a_plain_image(host: HostConfig) -> None:
    expected = computed(plain(), host)
    assert expected["linux"]["seccomp"] and expected["linux"]["maskedPaths"] and len(expected["mounts"]) > 8
    refused = 0
    for seed in range(400):
        document = hostile(random.Random(seed))
        try:
            found = computed(document, host)
        except RdockError as e:
            assert e.message, seed
            refused += 1
            continue
        assert found == expected, f"seed {seed}"
    assert refused < 200, "most of these images are fit to run"


@pytest.mark.parametrize(
    "path",
    [
        "/proc",
        "/proc/",
        "/proc/self",
        "/proc/sys/kernel",
        "/sys",
        "/sys/",
        "//proc",
        "/x/../proc",
        "/./sys",
        "/",
        "relative",
        "",
    ],
)
def test_volumes_over_the_kernels_files_are_refused(path: str) -> None:
    """CVE-2019-16884."""
    document = plain() | {"config": {"Volumes": {path: {}}}}
    with pytest.raises(RdockError, match="volume"):
        computed(document, HostConfig(network_mode="none"))


@pytest.mark.parametrize(
    "config", [{"StopSignal": "SIGFOO"}, {"StopSignal": "99"}, {"WorkingDir": "x"}, {"WorkingDir": "../.."}]
)
def test_words_of_an_image_that_make_no_sense(config: dict[str, str]) -> None:
    with pytest.raises(RdockError, match=r"signal|absolute"):
        computed(plain() | {"config": config}, HostConfig(network_mode="none"))


def test_malformed_environment_is_left_out() -> None:
    """CVE-2026-57231."""
    document = plain() | {"config": {"Env": ["SECRET", "AWS_*", "=x", "", "GOOD=1"]}}
    image = ImageConfig.from_json(json.dumps(document).encode())
    merged = request.merge(Config(env=["OWN=2"], cmd=["true"]), image, given_command=True)
    assert merged.env == ["GOOD=1", "OWN=2"]
