"""The JSON documents of an image, read strictly: descriptor, manifest, index, image config.

They come from strangers, so every field that is used is checked for its type here and nowhere else;
what is not used is not looked at. The bytes of a config and a manifest are kept as they came, since
their digests are the names of the image. Also here: DiffIDs to ChainIDs, and the choice of platform.
"""

from __future__ import annotations

import os

from rdock import jsontext
from rdock.errors import DataLoss, NotFound
from rdock.image.reference import is_digest
from rdock.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeAlias

try:
    # CPython's own, good for small texts; hashlib loads OpenSSL, a tenth of the time of a start.
    from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    from hashlib import sha256

MAX_DOCUMENT = 4 << 20
MAX_LAYERS = 500

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
CONFIG_TYPES = (OCI_CONFIG, DOCKER_CONFIG)

Json: TypeAlias = "dict[str, Any]"


# -- reading what strangers wrote ------------------------------------------------------------------


def parse_document(text: bytes, what: str) -> Any:
    """The value of a JSON text of limited size. Raises DataLoss, whatever the text is."""
    if len(text) > MAX_DOCUMENT:
        raise DataLoss(f"invalid {what}: larger than {MAX_DOCUMENT >> 20} MiB")
    try:
        # Given bytes, json would guess at UTF-16; then one digest could have two readings.
        value = jsontext.parse(text)
        if b"\\u" in text:
            # Half a surrogate pair is legal JSON but no text: it could be neither printed nor passed on.
            import json

            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as e:
        problem = "nested too deeply" if isinstance(e, RecursionError) else str(e).split("\n")[0][:200]
        raise DataLoss(f"invalid {what}: {problem}") from None
    return value


def parse_object(text: bytes, what: str) -> Json:
    value = parse_document(text, what)
    if not isinstance(value, dict):
        raise DataLoss(f"invalid {what}: not a JSON object")
    return value


def digest_of(text: bytes) -> str:
    """The digest of a document, with prefix."""
    return f"sha256:{sha256(text).hexdigest()}"


def encode(document: Json) -> bytes:
    """The bytes of a document that rdock writes; equal content gives equal bytes and so one digest."""
    import json  # making images may take its time, finding one may not

    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


class _Fields:
    """Typed access to one JSON object; null counts as absent, as in Go's decoder."""

    def __init__(self, value: Any, what: str) -> None:
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise DataLoss(f"invalid {what}: not a JSON object")
        self.value: Json = value
        self.what = what

    def _get(self, key: str, kind: type, name: str, default: Any) -> Any:
        found = self.value.get(key)
        if found is None:
            return default
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise self.wrong(key, f"not {name}")
        return found

    def wrong(self, key: str, problem: str) -> DataLoss:
        return DataLoss(f"invalid {self.what}: {key}: {problem}")

    def text(self, key: str) -> str:
        found: str = self._get(key, str, "a string", "")
        if "\0" in found:
            raise self.wrong(key, "contains a NUL byte")
        return found

    def integer(self, key: str) -> int:
        found: int = self._get(key, int, "an integer", 0)
        if not 0 <= found < 1 << 63:
            raise self.wrong(key, "out of range")
        return found

    def flag(self, key: str) -> bool:
        return bool(self._get(key, bool, "a boolean", False))

    def list(self, key: str) -> list[Any]:
        found: list[Any] = self._get(key, list, "a list", [])
        return found

    def inner(self, key: str) -> _Fields:
        return _Fields(self._get(key, dict, "an object", {}), f"{self.what}: {key}")

    def texts(self, key: str) -> tuple[str, ...]:
        found = self.list(key)
        if not all(isinstance(item, str) and "\0" not in item for item in found):
            raise self.wrong(key, "not a list of strings")
        return tuple(found)

    def keys(self, key: str) -> tuple[str, ...]:
        """The keys of an object whose values mean nothing (Go's map[string]struct{})."""
        found = self._get(key, dict, "an object", {})
        if any("\0" in name for name in found):
            raise self.wrong(key, "contains a NUL byte")
        return tuple(found)

    def map(self, key: str) -> dict[str, str]:
        found: dict[str, str] = self._get(key, dict, "an object", {})
        if not all(isinstance(item, str) for item in found.values()):
            raise self.wrong(key, "not an object of strings")
        return found

    def digest(self, key: str) -> str:
        found = self.text(key)
        if not is_digest(found):
            raise self.wrong(key, f"not a sha256 digest: {found[:100]!r}")
        return found


# -- platforms -----------------------------------------------------------------------------------


class Platform(Value):
    os: str = "linux"
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
}


def host_platform() -> Platform:
    machine = os.uname().machine
    return Platform("linux", *_MACHINES.get(machine, (machine, "")))


# -- descriptor, manifest, index -----------------------------------------------------------------


class Descriptor(Value):
    """A reference to a blob by digest and size."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = {}
    platform: Platform | None = None

    @classmethod
    def from_json(cls, value: Any, what: str) -> Descriptor:
        fields = _Fields(value, what)
        platform = None
        if fields.value.get("platform") is not None:
            given = fields.inner("platform")
            platform = Platform(given.text("os"), given.text("architecture"), given.text("variant"))
        return cls(
            fields.text("mediaType"),
            fields.digest("digest"),
            fields.integer("size"),
            fields.map("annotations"),
            platform,
        )

    def to_json(self) -> Json:
        found: Json = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            found["annotations"] = self.annotations
        return found


class Manifest(Value):
    """One image: its config and its layers, lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        fields = _Fields(parse_object(text, "image manifest"), "image manifest")
        # A document that can be read as both would have two meanings under one digest (CVE-2021-41190).
        if "manifests" in fields.value:
            raise fields.wrong("manifests", "not allowed in an image manifest")
        if fields.value.get("schemaVersion") != 2:
            raise fields.wrong("schemaVersion", "only version 2 is supported")
        media_type = fields.text("mediaType") or OCI_MANIFEST
        if media_type not in MANIFEST_TYPES:
            raise fields.wrong("mediaType", f"unexpected {media_type[:100]!r}")
        layers = fields.list("layers")
        if len(layers) > MAX_LAYERS:
            raise fields.wrong("layers", f"more than {MAX_LAYERS}")
        return cls(
            media_type,
            Descriptor.from_json(fields.value.get("config"), "image manifest: config"),
            tuple(Descriptor.from_json(layer, "image manifest: layer") for layer in layers),
        )

    def to_json(self) -> Json:
        return {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }


class Index(Value):
    """Several manifests, one per platform or, in an image layout, one per image."""

    manifests: tuple[Descriptor, ...]

    @classmethod
    def from_json(cls, text: bytes) -> Index:
        fields = _Fields(parse_object(text, "image index"), "image index")
        for foreign in ("layers", "config"):
            if foreign in fields.value:
                raise fields.wrong(foreign, "not allowed in an image index")
        if fields.value.get("schemaVersion") != 2:
            raise fields.wrong("schemaVersion", "only version 2 is supported")
        media_type = fields.text("mediaType") or OCI_INDEX
        if media_type not in INDEX_TYPES:
            raise fields.wrong("mediaType", f"unexpected {media_type[:100]!r}")
        return cls(tuple(Descriptor.from_json(m, "image index: manifest") for m in fields.list("manifests")))

    def choose(self, wanted: Platform) -> Descriptor:
        """The manifest for a platform, in the order of the index. Raises NotFound in Docker's words."""
        images = [m for m in self.manifests if "vnd.docker.reference.type" not in m.annotations]
        for manifest in images:
            if manifest.platform is not None and _fits(manifest.platform, wanted):
                return manifest
        if len(images) == 1 and images[0].platform is None:
            return images[0]
        raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")


def _fits(offered: Platform, wanted: Platform) -> bool:
    if (offered.os, offered.architecture) != (wanted.os, wanted.architecture):
        return False
    # arm64 is always v8; for arm a lower version runs on a higher machine, and none given runs anywhere.
    if wanted.architecture == "arm64" or not wanted.variant or not offered.variant:
        return True
    return offered.variant <= wanted.variant


# -- image config --------------------------------------------------------------------------------


class ImageConfig(Value):
    """What an image says of itself and of how to run it; `raw` are the bytes whose digest is the image id."""

    raw: bytes
    architecture: str
    os: str
    variant: str
    created: str
    author: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    working_dir: str
    user: str
    exposed_ports: tuple[str, ...]
    volumes: tuple[str, ...]
    labels: dict[str, str]
    stop_signal: str
    shell: tuple[str, ...]
    on_build: tuple[str, ...]
    healthcheck: Json | None
    history: tuple[Json, ...]
    diff_ids: tuple[str, ...]

    @classmethod
    def from_json(cls, text: bytes) -> ImageConfig:
        fields = _Fields(parse_object(text, "image config"), "image config")
        run = fields.inner("config")
        rootfs = fields.inner("rootfs")
        diff_ids = rootfs.texts("diff_ids")
        for diff_id in diff_ids:
            if not is_digest(diff_id):
                raise rootfs.wrong("diff_ids", f"not a sha256 digest: {diff_id[:100]!r}")
        history = fields.list("history")
        if not all(isinstance(entry, dict) for entry in history):
            raise fields.wrong("history", "not a list of objects")
        for entry in history:
            step = _Fields(entry, "image config: history")
            for key in ("created", "created_by", "author", "comment"):
                step.text(key)
            step.flag("empty_layer")
        if run.value.get("Healthcheck") is not None:
            _check_healthcheck(run.inner("Healthcheck"))
        return cls(
            raw=text,
            architecture=fields.text("architecture"),
            os=fields.text("os"),
            variant=fields.text("variant"),
            created=fields.text("created"),
            author=fields.text("author"),
            env=run.texts("Env"),
            entrypoint=run.texts("Entrypoint"),
            cmd=run.texts("Cmd"),
            working_dir=run.text("WorkingDir"),
            user=run.text("User"),
            exposed_ports=run.keys("ExposedPorts"),
            volumes=run.keys("Volumes"),
            labels=run.map("Labels"),
            stop_signal=run.text("StopSignal"),
            shell=run.texts("Shell"),
            on_build=run.texts("OnBuild"),
            healthcheck=run.value.get("Healthcheck"),
            history=tuple(history),
            diff_ids=diff_ids,
        )

    @property
    def id(self) -> str:
        """The image id: the digest of the config, without its prefix."""
        return digest_of(self.raw)[7:]


def _check_healthcheck(check: _Fields) -> None:
    check.texts("Test")
    for key in ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"):
        check.integer(key)


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """The ChainID of every layer, lowest first, without prefix (image spec, "Layer ChainID")."""
    chains: list[str] = []
    for diff_id in diff_ids:
        if chains:
            chains.append(digest_of(f"sha256:{chains[-1]} {diff_id}".encode())[7:])
        else:
            chains.append(diff_id.removeprefix("sha256:"))
    return chains
