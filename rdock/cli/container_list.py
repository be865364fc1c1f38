"""ps: the list of containers."""

from __future__ import annotations

from rdock.cli import output
from rdock.cli.go_values import NIL
from rdock.cli.main import complain, enter
from rdock.cli.usage import Options
from rdock.container import containers, inspect, select
from rdock.container.containers import Container, State
from rdock.errors import DataLoss, InvalidParameter, UsageError, printable
from rdock.state import timestamp
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rdock.container.size import Size, Sizes

PS_TEXT = """\
Usage:  rdock ps [OPTIONS]

List containers

Aliases:
  rdock container ls, rdock container list, rdock container ps, rdock ps

Options:
  -a, --all             Show all containers (default shows just running)
  -f, --filter filter   Filter output based on conditions provided
      --format string   Format output using a custom template:
                        'table':            Print output in table format with column headers (default)
                        'table TEMPLATE':   Print output in table format using the given Go template
                        'json':             Print in JSON format
                        'TEMPLATE':         Print output using the given Go template.
  -n, --last int        Show n last created containers (includes all states) (default -1)
  -l, --latest          Show the latest created container (includes all states)
      --no-trunc        Don't truncate output
  -q, --quiet           Only display container IDs
  -s, --size            Display total file sizes
"""

_COLUMNS = {
    "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "RunningFor": "CREATED", "Status": "STATUS",
    "Ports": "PORTS", "Names": "NAMES",
}  # fmt: skip
_ROW = "*formatter.ContainerContext"


def ps(options: Options) -> int:
    selection = _selection(options)
    last = _last(options)
    sizes = _sizes(options, asked=_check_template(options))
    how = _How(options.flag("--no-trunc"), sizes, _Names())
    everything = options.flag("--all") or last is not None or selection.every_status
    rows: list[output.Row] = []
    damaged: list[DataLoss] = []
    for container in containers.all_containers(damaged):
        state = container.state()
        status = state.status
        if not everything and status not in _UP:
            continue
        if selection and not selection.fits(select.Candidate(container, state, status)):
            continue
        rows.append(output.Row(_Shown(container, state, status, how), _FIELDS, _ROW, _METHODS))
        if len(rows) == last:
            break
    columns = {**_COLUMNS, "Size": "SIZE"} if options.flag("--size") else _COLUMNS
    output.show(rows, columns, options, quiet_key="ID", quiet_wins=True)
    return max([complain(error, 1) for error in damaged], default=0)


def rows(found: Sequence[Container], sizes: Mapping[str, Size]) -> list[output.Row]:
    """These containers as `ps -a -s` shows them, with sizes (by id) that are known."""
    how = _How(False, _Known(sizes), _Names())
    lines = []
    for container in found:
        state = container.state()
        lines.append(output.Row(_Shown(container, state, state.status, how), _FIELDS, _ROW, _METHODS))
    return lines


class _Known:
    """Sizes that have been found out before."""

    def __init__(self, sizes: Mapping[str, Size]) -> None:
        self._sizes = sizes

    def of(self, container: Container) -> Size:
        return self._sizes[container.id]


def _selection(options: Options) -> select.Selection:
    try:
        return select.parse(options.list("--filter"))
    except UsageError as e:
        e.hint = options.hint
        raise


_UP = ("running", "paused", "restarting")


def _last(options: Options) -> int | None:
    """How many to show whatever their state; none asked for, as Docker has it, are 0 and any negative number."""
    last = options.number("--last")
    if last in (None, -1) and options.flag("--latest"):
        return 1
    return last if last is not None and last > 0 else None


def _check_template(options: Options) -> bool:
    """Refuse a template that no container could fill in; whether it asks for sizes, which take long to find out."""
    given = options.text("--format") or ""
    if "{{" not in given:
        return False
    from rdock.cli.template import Template

    blank = output.Row(None, dict.fromkeys(_FIELDS, lambda _: ""), _ROW, {"Label": lambda _: lambda _: ""})
    Template(given, "failed to parse template: ").render(blank, complaint="failed to execute template: ")
    return "Size" in blank and not options.flag("--quiet")


def _sizes(options: Options, *, asked: bool) -> Sizes | None:
    if not options.flag("--size") and (not asked or options.given("--size")):
        return None
    from rdock.container.size import Sizes

    enter()  # what containers have written belongs to other ids
    return Sizes()


class _Names:
    """Which images the names lead to by now; read when first asked."""

    def __init__(self) -> None:
        self._references: dict[str, str] | None = None
        self._ids: dict[str, str] = {}

    def shown(self, container: Container, *, whole: bool) -> str:
        """The name that a container's image was given by, or its id when that leads elsewhere by now, or nowhere."""
        name = container.image_name
        if not container.image or container.image.startswith(name.removeprefix("sha256:")):
            return name
        if name not in self._ids:
            self._ids[name] = self._find(name)
        if self._ids[name] == container.image:
            return name
        return f"sha256:{container.image}" if whole else container.image[:12]

    def _find(self, name: str) -> str:
        """The id that a name leads to, empty for what is no name of the store."""
        from rdock.image import catalog, reference

        if self._references is None:
            try:
                self._references = catalog.read().references
            except DataLoss:
                self._references = {}
        try:
            parsed = reference.parse(name).tagged()
        except InvalidParameter:
            return ""
        return self._references.get(str(parsed._replace(tag="") if parsed.digest else parsed), "")


class _How(Value):
    """How all lines are shown."""

    whole: bool
    sizes: Sizes | _Known | None
    names: _Names


class _Shown(Value):
    """A container as a line shows it."""

    container: Container
    state: State
    status: str
    how: _How


# -- fields ----------------------------------------------------------------------------------------


def _id(shown: _Shown) -> str:
    return shown.container.id if shown.how.whole else shown.container.short_id


def _image(shown: _Shown) -> str:
    return printable(shown.how.names.shown(shown.container, whole=shown.how.whole))


def _command(shown: _Shown) -> str:
    config = shown.container.config
    words = (config.entrypoint or []) + (config.cmd or [])
    # As in moby, the program itself is never in quotation marks.
    command = " ".join([*words[:1], *(f"'{word}'" if " " in word else word for word in words[1:])])
    return _quoted(command if shown.how.whole else _shortened(command, 20))


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _quoted(text: str) -> str:
    """As Go's strconv.Quote: what an image calls its command must not steer the terminal."""
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _seconds(text: str) -> float:
    return timestamp.to_ns(text) / 1e9


def _labels(shown: _Shown) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(shown.container.config.labels.items()))


def _mounts(shown: _Shown) -> str:
    names = [mount.get("Name") or mount["Source"] for mount in inspect.mounts(shown.container)]
    return ",".join(name if shown.how.whole else _shortened(name, 15) for name in names if name)


def _size(shown: _Shown) -> str:
    if shown.how.sizes is None:
        return "0B"
    size = shown.how.sizes.of(shown.container)
    text = output.size(size.writable, 3)
    return f"{text} (virtual {output.size(size.root, 3)})" if size.root > 0 else text


_FIELDS: output.Table = {
    "Command": _command,
    "CreatedAt": lambda shown: output.local_time(_seconds(shown.container.created)),
    "ID": _id,
    "Image": _image,
    "Labels": _labels,
    "LocalVolumes": lambda shown: str(sum(m.get("Driver") == "local" for m in inspect.mounts(shown.container))),
    "Mounts": _mounts,
    "Names": lambda shown: shown.container.name,
    "Networks": lambda shown: ",".join(inspect.network_names(shown.container)),
    "Platform": lambda _: NIL,
    "Ports": lambda shown: inspect.describe_ports(shown.container, shown.state, shown.status),
    "RunningFor": lambda shown: output.age(_seconds(shown.container.created)) + " ago",
    "Size": _size,
    "State": lambda shown: shown.status,
    "Status": lambda shown: status_text(shown.state, shown.status),
}
_METHODS: output.Table = {"Label": lambda shown: lambda name: shown.container.config.labels.get(name, "")}


def status_text(state: State, status: str) -> str:
    """Docker's sentence: `Up 2 minutes`, `Exited (0) 3 seconds ago`."""
    if status in ("running", "paused"):
        return f"Up {output.age(_seconds(state.started_at))}" + (" (Paused)" if status == "paused" else "")
    if status in _SENTENCES:
        return _SENTENCES[status]
    word = "Restarting" if status == "restarting" else "Exited"
    if not state.finished_at:
        return f"{word} ({state.exit_code})"
    return f"{word} ({state.exit_code}) {output.age(_seconds(state.finished_at))} ago"


_SENTENCES = {"created": "Created", "removing": "Removal In Progress", "dead": "Dead"}
