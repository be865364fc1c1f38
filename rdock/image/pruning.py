"""Removing the images that nobody needs: those without a name, or all that no container uses."""

from __future__ import annotations

from rdock.errors import InvalidParameter
from rdock.image import catalog, images, journal
from rdock.image.images import Image, Uses
from rdock.image.usage import Usage
from rdock.state import moment

Filters = list[tuple[str, str]]


def parse_filters(texts: list[str]) -> Filters:
    """`KEY=VALUE` of `--filter`: dangling, until, label, label!. Raises InvalidParameter in Docker's words."""
    found = []
    for text in texts:
        key, equals, value = text.partition("=")
        if equals and key == "label" and value.startswith("="):
            key, value = "label!", value[1:]
        if not equals or key not in ("dangling", "until", "label", "label!"):
            raise InvalidParameter(f"invalid filter '{key}'")
        if key == "until":
            value = str(moment.parse(value, "until"))
        elif key == "dangling" and value.lower() not in ("true", "1", "false", "0"):
            raise InvalidParameter(f"invalid filter 'dangling={value}'")
        found.append((key, value))
    return found


def prune(filters: Filters, *, everything: bool, uses: Uses) -> tuple[list[str], int]:
    """Remove the images without a tag, or with `everything` all, that no container uses and that pass the filters.

    Gives the lines that Docker prints about them, and the bytes that came free. An image that is being used
    or named at this moment is decided upon under the lock, so that none is lost.
    """
    for key, value in filters:
        if key == "dangling":
            everything = value.lower() in ("false", "0")
    report: list[str] = []
    with journal.removing() as doomed, catalog.change() as state:
        used = {use.image_id for use in uses()}
        found = images.list_images()
        going = [image for image in found if image.id not in used and _is_chosen(image, filters, everything)]
        kept = {image.id for image in found} - {image.id for image in going}
        chains = {chain for image in found if image.id in kept for chain in image.chain_ids}
        for image in going:
            for name in image.references:
                del state.references[name]
                report.append(f"untagged: {images.familiar(name)}")
            del state.entries[image.id]
            report.append(f"deleted: sha256:{image.id}")
            doomed.note_blob(image.manifest_digest)
            doomed.note_image(image.manifest, image.chain_ids)
            report += [f"deleted: sha256:{chain}" for chain in reversed(image.chain_ids) if chain not in chains]
            chains.update(image.chain_ids)
        freed = Usage(found).reclaimable(kept)
    return report, freed


def _is_chosen(image: Image, filters: Filters, everything: bool) -> bool:
    if not everything and image.tags:
        return False
    return all(_passes(image, key, value) for key, value in filters if key != "dangling")


def _passes(image: Image, key: str, value: str) -> bool:
    if key == "until":
        return image.created < int(value) / 1e9
    name, equals, wanted = value.partition("=")
    labels = image.config.labels
    return (name in labels and (not equals or labels[name] == wanted)) == (key == "label")
