"""system df: what takes how much of the disk."""

from __future__ import annotations

from rdock.cli import container_list, image, output
from rdock.cli.go_values import Struct, to_json
from rdock.cli.usage import Options
from rdock.container.disk_usage import DiskUsage, Total
from rdock.image.images import Image
from rdock.values import Value
from rdock.volume.volumes import Volume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

DF_TEXT = """\
Usage:  rdock system df [OPTIONS]

Show disk usage

Images count with all that they take: the files of their layers, and the compressed data that they came in.

Options:
      --format string   Format output using a custom template:
                        'table':            Print output in table format with column headers (default)
                        'table TEMPLATE':   Print output in table format using the given Go template
                        'json':             Print in JSON format
                        'TEMPLATE':         Print output using the given Go template.
  -v, --verbose         Show detailed information on space usage
"""

_COLUMNS = {
    "Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE",
}  # fmt: skip
_CONTEXT = "*formatter.diskUsageContext"


def df(options: Options) -> int:
    usage = DiskUsage()
    if options.flag("--verbose"):
        return _verbose(usage, options.text("--format") or "")
    output.show([output.Row(total, _FIELDS, _CONTEXT) for total in usage.totals()], _COLUMNS, options)
    return 0


def _reclaimable(total: Total) -> str:
    text = output.size(total.reclaimable)
    return f"{text} ({total.reclaimable * 100 // total.size}%)" if total.size else text


_FIELDS: output.Table = {
    "Active": lambda total: str(total.active),
    "Reclaimable": _reclaimable,
    "Size": lambda total: output.size(total.size),
    "TotalCount": lambda total: str(total.count),
    "Type": lambda total: total.kind,
}


# -- verbose ---------------------------------------------------------------------------------------


class _ImageLine(Value):
    image: Image
    repository: str
    tag: str
    usage: DiskUsage


class _VolumeLine(Value):
    volume: Volume
    usage: DiskUsage


_IMAGE_FIELDS: output.Table = {
    "Repository": lambda line: line.repository,
    "Tag": lambda line: line.tag,
    "ID": lambda line: line.image.id[:12],
    "CreatedSince": lambda line: image.created_since(line.image),
    "CreatedAt": lambda line: image.created_at(line.image),
    "Size": lambda line: output.size(line.usage.usage.of(line.image).total, 3),
    "SharedSize": lambda line: output.size(line.usage.usage.of(line.image).shared),
    "UniqueSize": lambda line: output.size(line.usage.usage.of(line.image).unique),
    "Containers": lambda line: str(line.usage.users.get(line.image.id, 0)),
}
_IMAGE_COLUMNS = {
    "Repository": "REPOSITORY", "Tag": "TAG", "ID": "IMAGE ID", "CreatedSince": "CREATED", "Size": "SIZE",
    "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE", "Containers": "CONTAINERS",
}  # fmt: skip
_CONTAINER_COLUMNS = {
    "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "LocalVolumes": "LOCAL VOLUMES", "Size": "SIZE",
    "RunningFor": "CREATED", "Status": "STATUS", "Names": "NAMES",
}  # fmt: skip
_VOLUME_FIELDS: output.Table = {
    "Driver": lambda line: line.volume.driver,
    "Labels": lambda line: ",".join(f"{name}={value}" for name, value in sorted(line.volume.labels.items())),
    "Links": lambda line: str(len(line.usage.volume_users.get(line.volume.name, ()))),
    "Mountpoint": lambda line: line.volume.mountpoint,
    "Name": lambda line: line.volume.name,
    "Scope": lambda line: "local",
    "Size": lambda line: output.size(line.usage.volume_sizes[line.volume.name]),
}
_VOLUME_COLUMNS = {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"}
_CACHE_COLUMNS = {
    "ID": "CACHE ID", "CacheType": "CACHE TYPE", "Size": "SIZE", "CreatedSince": "CREATED",
    "LastUsedSince": "LAST USED", "UsageCount": "USAGE", "Shared": "SHARED",
}  # fmt: skip


def _verbose(usage: DiskUsage, template: str) -> int:
    image_rows = [
        output.Row(_ImageLine(found, repository, tag, usage), _IMAGE_FIELDS, "*formatter.imageContext")
        for found in usage.images
        for repository, tag, _ in image.names(found, digests=False)
    ]
    container_rows = container_list.rows(usage.containers, usage.sizes)
    volume_rows = [
        output.Row(_VolumeLine(volume, usage), _VOLUME_FIELDS, "*formatter.volumeContext") for volume in usage.volumes
    ]
    if template not in ("", "table"):
        everything = Struct(
            Images=_plain(image_rows), Containers=_plain(container_rows), Volumes=_plain(volume_rows), BuildCache=[]
        )
        output.write((to_json(everything) if template == "json" else _filled_in(template, everything)) + "\n")
        return 0
    output.write(
        "Images space usage:\n\n" + _table(image_rows, _IMAGE_COLUMNS)
        + "\nContainers space usage:\n\n" + _table(container_rows, _CONTAINER_COLUMNS)
        + "\nLocal Volumes space usage:\n\n" + _table(volume_rows, _VOLUME_COLUMNS)
        + "\nBuild cache usage: 0B\n\n" + _table([], _CACHE_COLUMNS)
    )  # fmt: skip
    return 0


def _table(rows: Sequence[output.Row], columns: Mapping[str, str]) -> str:
    lines = [list(columns.values()), *([str(row[field]) for field in columns] for row in rows)]
    return "".join(line + "\n" for line in output.table(lines))


def _plain(rows: Sequence[output.Row]) -> list[Any]:
    return [Struct(row.members()) for row in rows]


def _filled_in(template: str, everything: Struct) -> str:
    from rdock.cli.template import render

    return render(template, everything)
