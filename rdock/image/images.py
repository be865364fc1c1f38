"""Images: what is in the store, how it is found, named and removed.

An image is known by its id, the digest of its config; references lead to it. Reading takes no lock.
Removal follows moby (daemon/images/image_delete.go) in what it refuses and in the lines it reports.
Whether containers use an image is not known here: whoever removes brings a function that tells.
"""

from __future__ import annotations

from rdock.errors import Conflict, DataLoss, InvalidParameter, NoSuchImage, NotFound
from rdock.image import blobs, catalog, journal, reference
from rdock.image.catalog import Catalog, Entry
from rdock.image.manifest import ImageConfig, Manifest, chain_ids
from rdock.launch import debug
from rdock.scope import scope
from rdock.state.events import record_event
from rdock.storage import layers
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    from rdock.image.reference import Reference


class Use(Value):
    """A container that was made from an image."""

    container_id: str
    image_id: str
    running: bool


Uses: TypeAlias = "Callable[[], Iterable[Use]]"


def _no_uses() -> Iterable[Use]:
    return ()


class Image(Value):
    """An image of the store with all that is recorded about it."""

    id: str
    config: ImageConfig
    manifest: Manifest
    manifest_digest: str
    manifest_size: int
    references: tuple[str, ...]
    """What leads to it, in long form: name:tag and name@digest."""
    added: str

    @property
    def chain_ids(self) -> list[str]:
        """The ChainIDs of its layers, lowest first."""
        return chain_ids(self.config.diff_ids)

    @property
    def tags(self) -> list[str]:
        """Docker's RepoTags, in familiar form."""
        return [reference.parse(name).familiar for name in self.references if "@" not in name]

    @property
    def digests(self) -> list[str]:
        """Docker's RepoDigests."""
        return [reference.parse(name).familiar for name in self.references if "@" in name]

    @property
    def size(self) -> int:
        """Bytes in the files of all its layers."""
        return sum(map(layers.size, self.chain_ids))

    @property
    def created(self) -> float:
        """When it was made, in seconds since 1970; 0 if it does not say."""
        return timestamp(self.config.created)


def timestamp(text: str) -> float:
    """An RFC 3339 time as seconds since 1970; 0 for what is none."""
    import datetime

    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0


# -- finding -------------------------------------------------------------------------------------


def lookup(name: str) -> Image:
    """The image that a reference, an id or the beginning of an id names. Raises NoSuchImage, InvalidParameter."""
    found = find(name)
    if found is None:
        raise NoSuchImage(shown(name))
    return found


def find(name: str) -> Image | None:
    """As lookup, but None if there is none."""
    state = catalog.read()
    image_id = _resolve(state, name)
    return _load(state, state.entries[image_id]) if image_id else None


def list_images() -> list[Image]:
    """All images, the newest first. One that is damaged, or being removed at this moment, is left out."""
    state = catalog.read()
    found = []
    for entry in state.entries.values():
        try:
            found.append(_load(state, entry))
        except (NotFound, DataLoss) as e:
            debug(f"left out of the list: {e.message}")
    return sorted(found, key=lambda image: (image.created, image.added), reverse=True)


def known_layers() -> set[tuple[str, str]]:
    """Which blob, by digest, was verified to be which layer, by DiffID: all pairs in the store."""
    return {
        (descriptor.digest, diff_id)
        for image in list_images()
        for descriptor, diff_id in zip(image.manifest.layers, image.config.diff_ids, strict=True)
    }


def _resolve(state: Catalog, name: str) -> str:
    """The id that is meant, or nothing. References win over ids, whole ids over beginnings of ids."""
    digits = name.removeprefix("sha256:")
    if reference.is_hex(digits, 64):
        return digits if digits in state.entries else ""
    if _is_name(state, name):
        return state.references[_long(name)]
    if not reference.is_hex(digits, len(digits)) or not digits:
        return ""
    matching = [image_id for image_id in state.entries if image_id.startswith(digits)]
    if len(matching) > 1:
        raise InvalidParameter(f"ambiguous digest string: {name}")
    return matching[0] if matching else ""


def _is_name(state: Catalog, name: str) -> bool:
    """Whether this is a reference that leads to an image, and not an id. Raises InvalidParameter if it is neither."""
    digits = name.removeprefix("sha256:")
    return digits == name and not reference.is_hex(digits, 64) and _long(name) in state.references


def _long(name: str) -> str:
    """What is looked up for a name; with a digest the tag is decoration."""
    wanted = reference.parse(name).tagged()
    return str(wanted._replace(tag="") if wanted.digest else wanted)


def _load(state: Catalog, entry: Entry) -> Image:
    """Read the documents of an image. Raises NotFound, DataLoss."""
    manifest = Manifest.from_json(blobs.read(entry.digest))
    config = ImageConfig.from_json(blobs.read(manifest.config.digest))
    if manifest.config.digest != "sha256:" + entry.image_id or len(manifest.layers) != len(config.diff_ids):
        raise DataLoss(f"image {entry.image_id[:12]}: its manifest does not fit its config")
    return Image(
        id=entry.image_id,
        config=config,
        manifest=manifest,
        manifest_digest=entry.digest,
        manifest_size=entry.size,
        references=tuple(state.references_of(entry.image_id)),
        added=entry.added,
    )


def familiar(name: str) -> str:
    """A reference of the store, as it is shown."""
    return reference.parse(name).familiar


def shown(name: str) -> str:
    """A name in an error message, as Docker spells it: with its tag."""
    try:
        return reference.parse(name).tagged().familiar
    except InvalidParameter:
        return name


def tags_of(repository: Reference) -> list[Reference]:
    """The repository's names in the store, one for each tag. Raises NotFound in Docker's words if there are none."""
    found = [reference.parse(name) for name in catalog.read().references if "@" not in name]
    tagged = [other for other in found if other.name == repository.name]
    if not tagged:
        raise NotFound(f"An image does not exist locally with the tag: {repository.familiar_name}")
    return sorted(tagged, key=lambda other: other.tag)


def similar(name: str) -> list[str]:
    """The names in the store that differ from this one only in the tag or the registry, in familiar form.

    Other tools' archives name images by `localhost/`, which to Docker is a registry like any other.
    """
    try:
        path = reference.parse(name).path.removeprefix("library/")
    except InvalidParameter:  # an id
        return []
    found = [reference.parse(text) for text in catalog.read().references if "@" not in text]
    return sorted(other.familiar for other in found if other.path.removeprefix("library/") == path)


# -- unpacking -----------------------------------------------------------------------------------


def root_directories(image: Image) -> list[str]:
    """The directories to stack for the image's root, topmost first; empty for an image without layers.

    Layers that are not there in a fit state, since the id mode or the boot is another one, are unpacked
    again from their blobs.
    """
    parent = ""
    found = []
    for chain, diff_id, descriptor in zip(image.chain_ids, image.config.diff_ids, image.manifest.layers, strict=True):
        found.append(layers.ensure(chain, parent, diff_id, _filler(descriptor.digest)))
        parent = chain
    layers.settle(found)
    return layers.stack(found[::-1])


def _filler(digest: str) -> Callable[[int], layers.Content]:
    def fill(root: int) -> layers.Content:
        # Nearly every start finds its layers unpacked and does not need this.
        from rdock.image import layer

        return layer.apply(blobs.chunks(digest), root)

    return fill


@scope
def unchanged() -> Iterator[None]:
    """While this lasts no image is removed. Who creates a container looks its image up and saves the record in it."""
    with catalog.locked(shared=True):
        yield


# -- naming --------------------------------------------------------------------------------------


def tag(source: str, target: str) -> None:
    """Let `target` lead to the image as well. Raises NoSuchImage, InvalidParameter."""
    wanted = reference.parse(target)
    if wanted.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    with catalog.change() as state:
        image_id = _resolve(state, source)
        if not image_id:
            raise NoSuchImage(shown(source))
        state.references[str(wanted.tagged())] = image_id
    note("tag", image_id, wanted.tagged().familiar)


def note(action: str, image_id: str, name: str = "") -> None:
    """Note in the journal that something has happened to an image, in Docker's words. Never fails."""
    record_event("image", action, f"sha256:{image_id}", {"name": name or f"sha256:{image_id}"})


def untag(source: str, targets: Iterable[str] = ()) -> list[str]:
    """Take these names from an image, or all that it has; it stays, if need be nameless. The names, in familiar form.

    Raises NoSuchImage if one of them is not the image's, and then takes none; InvalidParameter.
    """
    with catalog.change() as state:
        image_id = _resolve(state, source)
        if not image_id:
            raise NoSuchImage(shown(source))
        wanted = [_long(name) for name in targets] or state.references_of(image_id)
        for name in wanted:
            if state.references.get(name) != image_id:
                raise NoSuchImage(reference.parse(name).familiar)
        for name in wanted:
            state.references.pop(name, None)
    names = [reference.parse(name).familiar for name in wanted]
    for name in names:
        note("untag", image_id, name)
    return names


# -- removing ------------------------------------------------------------------------------------


def remove_image(name: str, *, force: bool = False, uses: Uses = _no_uses) -> list[str]:
    """Take a name from an image, or remove it with its layers; the lines that Docker prints about it.

    An image that a stopped container uses can be forced to lose its names, but stays for the container.
    Raises NoSuchImage; Conflict when a container uses it, or it has several names and is given by id.
    """
    report: list[str] = []
    with journal.removing() as doomed, catalog.change() as state:
        image_id = _resolve(state, name)
        if not image_id:
            raise NoSuchImage(shown(name))
        using = [use for use in uses() if use.image_id == image_id]
        names = state.references_of(image_id)
        by_name = _is_name(state, name)
        if by_name:
            if not force and using and _is_single(names):
                raise Conflict(
                    f'conflict: unable to remove repository reference "{name}" (must force) - '
                    f"container {using[0].container_id[:12]} is using its referenced image {image_id[:12]}"
                )
            _take_names(state, _names_to_untag(name, names), image_id, report)
            if state.references_of(image_id):
                return report
            # Without its last name the image goes as well, unless it is in use: then it stays, nameless.
        else:
            conflict = _conflict(image_id, using, [] if _is_single(names) else names, force=force)
            if conflict:
                raise Conflict(conflict)
            _take_names(state, names, image_id, report)
        if not using:
            _strike_off(state, image_id, doomed, report)
            note("delete", image_id)
    return report


def _strike_off(state: Catalog, image_id: str, doomed: journal.Journal, report: list[str]) -> None:
    """Take an image off the list and note down what it consists of."""
    entry = state.entries.pop(image_id)
    report.append(f"Deleted: sha256:{image_id}")
    doomed.note_blob(entry.digest)
    try:
        image = _load(state, entry)
    except (NotFound, DataLoss) as e:
        # A damaged image can be removed, too; only what it consisted of is not known in full.
        debug(e.message)
        doomed.note_blob("sha256:" + image_id)
        return
    kept = _chains_in_use(state)
    report += [f"Deleted: sha256:{chain}" for chain in reversed(image.chain_ids) if chain not in kept]
    doomed.note_image(image.manifest, image.chain_ids)


def _names_to_untag(name: str, names: list[str]) -> list[str]:
    """The name itself, and with the last tag of a repository also its digests."""
    given = reference.parse(name).tagged()
    chosen = str(given._replace(tag="") if given.digest else given)
    repository = [n for n in names if reference.parse(n).name == given.name]
    if not given.digest and all("@" in n for n in repository if n != chosen):
        return [chosen, *(n for n in repository if n != chosen)]
    return [chosen]


def _take_names(state: Catalog, names: Iterable[str], image_id: str, report: list[str]) -> None:
    for name in names:
        if state.references.pop(name, None):
            note("untag", image_id, reference.parse(name).familiar)
            report.append(f"Untagged: {reference.parse(name).familiar}")


def _is_single(names: list[str]) -> bool:
    """Whether these are one tag and at most its digest, or less (moby: isSingleReference)."""
    tags = [name for name in names if "@" not in name]
    digests = [reference.parse(name).name for name in names if "@" in name]
    if len(names) <= 1:
        return True
    return len(tags) <= 1 and len(set(digests)) == 1 and (not tags or reference.parse(tags[0]).name == digests[0])


def _conflict(image_id: str, using: list[Use], names: list[str], *, force: bool) -> str:
    """Why an image cannot be removed; empty if it can."""
    unable = f"conflict: unable to delete {image_id[:12]}"
    for use in using:
        if use.running:
            return f"{unable} (cannot be forced) - image is being used by running container {use.container_id[:12]}"
    if force:
        return ""
    if names:
        return f"{unable} (must be forced) - image is referenced in multiple repositories"
    for use in using:
        return f"{unable} (must be forced) - image is being used by stopped container {use.container_id[:12]}"
    return ""


def _chains_in_use(state: Catalog) -> set[str]:
    found: set[str] = set()
    for entry in state.entries.values():
        try:
            found.update(_load(state, entry).chain_ids)
        except (NotFound, DataLoss):
            continue
    return found
