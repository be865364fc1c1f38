"""What there is to know about an image, in the shape of Docker's `image inspect` and `history`."""

from __future__ import annotations

from rdock.image.images import Image
from rdock.image.manifest import parse_object
from rdock.storage import layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def inspect(image: Image) -> dict[str, Any]:
    config = image.config
    document = parse_object(config.raw, "image config")
    found = {
        "Id": f"sha256:{image.id}",
        "RepoTags": image.tags,
        "RepoDigests": image.digests,
        "Parent": "",
        "Comment": document.get("comment") or (config.history[-1].get("comment") or "" if config.history else ""),
        "Created": config.created,
        "DockerVersion": document.get("docker_version") or "",
        "Author": config.author,
        "Config": _run_config(image, document.get("config") or {}),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": image.size,
        "GraphDriver": {"Data": {}, "Name": "rdock"},
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Metadata": {"LastTagTime": image.added},
        "Descriptor": {
            "mediaType": image.manifest.media_type,
            "digest": image.manifest_digest,
            "size": image.manifest_size,
        },
    }
    if config.variant:
        found["Variant"] = config.variant
    return found


def _run_config(image: Image, given: dict[str, Any]) -> dict[str, Any]:
    """Docker's Config: every field of it, also those that the image does not set."""
    config = image.config
    found: dict[str, Any] = {
        "Hostname": "",
        "Domainname": "",
        "User": config.user,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": list(config.env) or None,
        "Cmd": list(config.cmd) or None,
        "Image": "",
        "Volumes": given.get("Volumes"),
        "WorkingDir": config.working_dir,
        "Entrypoint": list(config.entrypoint) or None,
        "OnBuild": list(config.on_build) or None,
        "Labels": config.labels or None,
    }
    for key in ("ExposedPorts", "Healthcheck", "StopSignal", "Shell", "ArgsEscaped"):
        if given.get(key):
            found[key] = given[key]
    return found


def history(image: Image) -> list[dict[str, Any]]:
    """The steps that made the image, the newest first; each with its size, as far as the config tells them."""
    chains = iter(image.chain_ids)
    steps = []
    for step in image.config.history:
        chain = "" if step.get("empty_layer") else next(chains, "")
        steps.append(
            {
                "Id": "<missing>",
                "Created": step.get("created") or "",
                "CreatedBy": step.get("created_by") or "",
                "Comment": step.get("comment") or "",
                "Size": layers.size(chain) if chain else 0,
                "Tags": None,
            }
        )
    steps.reverse()
    if steps:
        steps[0].update(Id=f"sha256:{image.id}", Tags=image.tags or None)
    return steps
