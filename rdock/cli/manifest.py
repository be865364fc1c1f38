"""manifest inspect, create, annotate, push, rm: what a name leads to at a registry, and lists for several platforms."""

from __future__ import annotations

import json
import sys

from rdock.cli.main import complain
from rdock.cli.usage import Options
from rdock.errors import NotFound, RdockError, UsageError
from rdock.image import reference
from rdock.image.manifest import INDEX_TYPES, Index, parse_object
from rdock.registry import lists
from rdock.registry.client import Fetched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rdock.image.reference import Reference

INSPECT_TEXT = """\
Usage:  rdock manifest inspect [OPTIONS] [MANIFEST_LIST] MANIFEST

Display an image manifest, or manifest list

Options:
      --insecure   Allow communication with an insecure registry
  -v, --verbose    Output additional info including layers and platform
"""


def inspect(options: Options) -> int:
    *within, name = options.arguments
    if len(within) > 1:
        raise UsageError("'rdock manifest inspect' requires at most 2 arguments")
    _note_insecure(options)
    wanted = _parse(name)
    verbose = options.flag("--verbose")
    if within:
        local = [entry for entry in lists.members(_parse(within[0])) if entry["Ref"] == str(wanted)]
        if not local:
            raise NotFound(f"manifest for image {name} does not exist in {within[0]}")
        _show(local[0] if verbose else local[0]["Descriptor"])
        return 0
    if lists.is_here(wanted):
        _show(lists.members(wanted) if verbose else lists.as_index(wanted))
        return 0
    found = lists.fetch(wanted)
    document = parse_object(found.content, "manifest")
    if not verbose:
        _show(document)
    elif found.media_type in INDEX_TYPES:
        _show([_whole(wanted._replace(tag="", digest=one.digest)) for one in Index.from_json(found.content).manifests])
    else:
        _show(_whole(wanted, found))
    return 0


def _whole(wanted: Reference, found: Fetched | None = None) -> dict[str, Any]:
    found = found or lists.fetch(wanted)
    kind = "OCIManifest" if ".oci." in found.media_type else "SchemaV2Manifest"
    return {**lists.described(wanted, found), kind: parse_object(found.content, "manifest")}


def _show(document: Any) -> None:
    # In ASCII: a server has no business with control characters of the terminal.
    sys.stdout.write(json.dumps(document, indent="\t") + "\n")


CREATE_TEXT = """\
Usage:  rdock manifest create [OPTIONS] MANIFEST_LIST MANIFEST [MANIFEST...]

Create a local manifest list for annotating and pushing to a registry

Options:
  -a, --amend      Amend an existing manifest list
      --insecure   Allow communication with an insecure registry
"""


def create(options: Options) -> int:
    name, *members = options.arguments
    _note_insecure(options)
    target = _parse(name)
    lists.create(target, [_parse(member) for member in members], amend=options.flag("--amend"))
    sys.stdout.write(f"Created manifest list {target}\n")
    return 0


ANNOTATE_TEXT = """\
Usage:  rdock manifest annotate [OPTIONS] MANIFEST_LIST MANIFEST

Add additional information to a local image manifest

Options:
      --arch string           Set architecture
      --os string             Set operating system
      --os-features strings   Set operating system feature
      --os-version string     Set operating system version
      --variant string        Set architecture variant
"""


def annotate(options: Options) -> int:
    name, member = map(_parse, options.arguments)
    given = {
        "architecture": options.text("--arch"),
        "os": options.text("--os"),
        "os.features": [part for text in options.list("--os-features") for part in text.split(",")] or None,
        "os.version": options.text("--os-version"),
        "variant": options.text("--variant"),
    }
    lists.annotate(name, member, {key: value for key, value in given.items() if value})
    return 0


PUSH_TEXT = """\
Usage:  rdock manifest push [OPTIONS] MANIFEST_LIST

Push a manifest list to a repository

Options:
      --insecure   Allow push to an insecure registry
  -p, --purge      Remove the local manifest list after push
"""


def push(options: Options) -> int:
    name = _parse(options.arguments[0])
    _note_insecure(options)
    sys.stdout.write(lists.push(name) + "\n")
    if options.flag("--purge"):
        lists.remove(name)
    return 0


RM_TEXT = """\
Usage:  rdock manifest rm MANIFEST_LIST [MANIFEST_LIST...]

Delete one or more manifest lists from local storage
"""


def rm(options: Options) -> int:
    code = 0
    for name in options.arguments:
        try:
            lists.remove(_parse(name))
        except RdockError as e:
            code = complain(e, 1)
    return code


def _parse(name: str) -> Reference:
    return reference.parse(name).tagged()


def _note_insecure(options: Options) -> None:
    """Which registries are insecure is for the configuration to say, once for all commands; the loopback's are."""
    if options.flag("--insecure"):
        sys.stderr.write("rdock: note: --insecure does nothing: see insecure-registries in rdock's config.json\n")
