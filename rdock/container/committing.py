"""From a container to an image (`commit`): its changes as a layer, its configuration as the image's."""

from __future__ import annotations

from rdock.container import control, events, roots
from rdock.container.config import Config
from rdock.container.containers import Container
from rdock.errors import InvalidParameter
from rdock.image import committing, images, reference
from rdock.image.changes import apply_changes
from rdock.image.manifest import Json, parse_object
from rdock.image.packing import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rdock.container.roots import Root


def commit(
    container: Container,
    *,
    name: str = "",
    author: str = "",
    message: str = "",
    changes: Iterable[str] = (),
    pause: bool = True,
    warn: Callable[[str], None],
) -> str:
    """Make an image of a container, which may be at work; the image's id, 64 hex digits.

    With `pause` it is paused meanwhile. `warn` is told what a layer cannot hold. Raises InvalidParameter for a bad
    name or change, and for a container without an image; Conflict.
    """
    wanted = reference.parse(name).tagged() if name else None
    if wanted is not None and wanted.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    if container.rootfs:
        raise InvalidParameter(
            "cannot commit a container that uses an exploded rootfs",
            hint=f"rdock export {container.name} | rdock import - NAME",
        )
    base = images.lookup(container.image)
    run = apply_changes(_run_config(parse_object(base.config.raw, "image config"), container.config), changes)
    step = committing.Step(run, " ".join(container.config.cmd or ()), author, message)
    with control.held(container, wanted=pause), roots.opened(container) as root:
        image_id = committing.commit(container.image, _changeset(root, warn), step, wanted)
    events.note(
        container, "commit", comment=message, imageID=f"sha256:{image_id}",
        imageRef=wanted.familiar if wanted else "",
    )  # fmt: skip
    return image_id


def _changeset(root: Root, warn: Callable[[str], None]) -> Iterator[bytes]:
    yield from pack(root.changes(), root.now, is_layer=True, note=warn, was=root.image, known=root.known)
    root.check()


def _run_config(document: Json, config: Config) -> Json:
    """The run part: the container's, and of the image's what a container has no say in, such as a healthcheck."""
    run = dict(document.get("config") or {})
    for key in ("Hostname", "Domainname", "Image"):
        run.pop(key, None)
    own: Json = {
        "User": config.user, "ExposedPorts": config.exposed_ports, "Env": config.env, "Cmd": config.cmd,
        "Volumes": config.volumes, "WorkingDir": config.working_dir, "Entrypoint": config.entrypoint,
        "Labels": config.labels, "StopSignal": config.stop_signal, "StopTimeout": config.stop_timeout,
    }  # fmt: skip
    for key, value in own.items():
        run.pop(key, None)
        if value:
            run[key] = value
    return run
