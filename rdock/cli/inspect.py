"""inspect: all that is known of containers, images and networks."""

from __future__ import annotations

from rdock.cli.go_values import to_json
from rdock.cli.inspect_types import typed
from rdock.cli.main import complain, enter
from rdock.cli.output import write
from rdock.cli.usage import Options
from rdock.container import containers, inspect
from rdock.errors import (
    DataLoss,
    InvalidParameter,
    NoSuchContainer,
    NoSuchImage,
    NoSuchObject,
    NotFound,
    RdockError,
)
from rdock.image import describe, images, platforms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rdock.cli.template import Template

INSPECT_TEXT = """\
Usage:  rdock inspect [OPTIONS] NAME|ID [NAME|ID...]

Return low-level information on rdock objects

Aliases:
  rdock container inspect, rdock inspect

Options:
  -f, --format string   Format output using a custom template:
                        'json':             Print in JSON format
                        'TEMPLATE':         Print output using the given Go template.
  -s, --size            Display total file sizes if the type is container
      --type string     Only inspect objects of the given type: container, image, network or volume
"""

_TYPES = (
    "config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume",
)  # fmt: skip


def inspect_(options: Options) -> int:
    kind = options.text("--type") or ""
    if kind not in ("", *_TYPES):
        words = ", ".join(f'"{word}"' for word in _TYPES)
        raise InvalidParameter(f'unknown type: "{kind}": must be one of {words}')
    if options.flag("--size"):
        enter()  # what containers have written belongs to other ids
    return _show(options, lambda name: _describe(name, kind, size=options.flag("--size")))


IMAGE_INSPECT_TEXT = """\
Usage:  rdock image inspect [OPTIONS] IMAGE [IMAGE...]

Display detailed information on one or more images

Options:
  -f, --format string     Format output using a custom template:
                          'json':             Print in JSON format
                          'TEMPLATE':         Print output using the given Go template.
      --platform string   Inspect a specific platform of the multi-platform image. If the image or the server is not
                          multi-platform capable, the command will error out if the platform does not match. Formatted
                          as "os[/arch[/variant]]" (e.g., "linux/amd64")
"""


def image_inspect(options: Options) -> int:
    wanted = platforms.parse(options.text("--platform"))

    def one(name: str) -> dict[str, Any]:
        image = images.lookup(name)
        platforms.check_provided(wanted, image, name)
        return describe.inspect(image)

    return _show(options, one)


NETWORK_INSPECT_TEXT = """\
Usage:  rdock network inspect [OPTIONS] NETWORK [NETWORK...]

Display detailed information on one or more networks

Options:
  -f, --format string   Format output using a custom template:
                        'json':             Print in JSON format
                        'TEMPLATE':         Print output using the given Go template.
  -v, --verbose         Verbose output for diagnostics
"""


def network_inspect(options: Options) -> int:
    options.flag("--verbose")  # there is more to tell of a cluster's networks only
    return _show(options, _network)


VOLUME_INSPECT_TEXT = """\
Usage:  rdock volume inspect [OPTIONS] VOLUME [VOLUME...]

Display detailed information on one or more volumes

Options:
  -f, --format string   Format output using a custom template:
                        'json':             Print in JSON format
                        'TEMPLATE':         Print output using the given Go template.
"""


def volume_inspect(options: Options) -> int:
    return _show(options, _volume)


def _show(options: Options, describe_one: Callable[[str], dict[str, Any]]) -> int:
    """Print what there is to know of each object, and complain of those that are not there."""
    template = _template(options.text("--format") or "")
    found: list[dict[str, Any]] = []
    lines: list[str] = []
    errors: list[RdockError] = []
    for name in options.arguments:
        try:
            item = describe_one(name)
            if template:
                lines.append(_fill_in(template, item))
            found.append(item)
        except (NotFound, InvalidParameter, DataLoss) as e:
            errors.append(e)
    if template:
        write("".join(line + "\n" for line in lines) or "\n")  # an empty line, as Docker has it
    else:
        indent = "" if options.text("--format") == "json" else "    "
        write(to_json([_typed(item) for item in found], indent) + "\n")
    return max([complain(error, 1) for error in errors], default=0)


def _template(text: str) -> Template | None:
    if text in ("", "json"):
        return None
    from rdock.cli.template import Template

    return Template(text)


def _fill_in(template: Template, item: dict[str, Any]) -> str:
    try:
        return template.render(_typed(item))
    except InvalidParameter:
        return template.render(item, strict=True, complaint="template parsing error: ")


def _typed(item: dict[str, Any]) -> Any:
    return typed(item, "Network" if "IPAM" in item else "Volume" if "Mountpoint" in item else "")


def _describe(name: str, kind: str, *, size: bool) -> dict[str, Any]:
    if kind not in ("", "container", "image", "network", "volume"):
        raise NotFound(f"No such {kind}: {name}")
    if kind == "network":
        return _network(name)
    if kind == "volume":
        try:
            return _volume(name)
        except NotFound:
            raise NotFound(f"No such volume: {name}") from None
    if kind != "image":
        try:
            return _container(name, size=size)
        except NoSuchContainer:
            if kind == "container":
                raise
    try:
        return describe.inspect(images.lookup(name))
    except NoSuchImage:
        if kind == "image":
            raise
    for describe_one in (_network, _volume):
        try:
            return describe_one(name)
        except NotFound:
            continue
    raise NoSuchObject(name)


def _network(name: str) -> dict[str, Any]:
    from rdock.container.network_removal import users
    from rdock.network import describe as network_describe
    from rdock.network import networks

    network = networks.lookup(name)
    if network.name == networks.DEFAULT and not network.pools:
        with networks.locked():
            network = networks.settled(network)  # who asks wants to know its addresses
    return network_describe.inspect(network, users(network))


def _volume(name: str) -> dict[str, Any]:
    from rdock.container.volume_removal import describe as describe_volume
    from rdock.volume import volumes

    return describe_volume(volumes.lookup(name))


def _container(name: str, *, size: bool) -> dict[str, Any]:
    container = containers.lookup(name)
    if not size:
        return inspect.describe(container)
    from rdock.container.size import Sizes

    return inspect.describe(container, Sizes().of(container))
