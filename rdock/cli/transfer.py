"""pull and push: images between the store and registries."""

from __future__ import annotations

import sys

from rdock.cli.progress import report_on
from rdock.cli.usage import Options
from rdock.errors import DataLoss, InvalidParameter, NotFound
from rdock.image import images, journal, platforms, reference, starter
from rdock.registry import pulling, pushing, refetching
from rdock.registry.client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rdock.image.manifest import Platform
    from rdock.image.reference import Reference
    from rdock.registry.progress import Report

PULL_TEXT = """\
Usage:  rdock pull [OPTIONS] NAME[:TAG|@DIGEST]

Download an image from a registry

Aliases:
  rdock image pull, rdock pull

Options:
  -a, --all-tags                Download all tagged images in the repository
      --disable-content-trust   Skip image verification (default true)
      --platform string         Set platform if server is multi-platform capable
  -q, --quiet                   Suppress verbose output
"""


def pull(options: Options) -> int:
    (name,) = options.arguments
    wanted = reference.parse(name)
    quiet = options.flag("--quiet")
    _no_trust(options)
    platform = platforms.parse(options.text("--platform"))
    report = report_on(sys.stdout, quiet=quiet)
    if options.flag("--all-tags"):
        if wanted.tag or wanted.digest:
            raise InvalidParameter("tag can't be used with --all-tags/-a")
        for tag in Client(wanted.domain, wanted.path).tags():
            _pull(wanted._replace(tag=tag), report, platform)
        sys.stdout.write(f"{wanted.familiar_name if quiet else wanted.name}\n")
        return 0
    if not wanted.tag and not wanted.digest:
        report.line(f"Using default tag: {reference.DEFAULT_TAG}")
    wanted = wanted.tagged()
    if starter.is_it(name):
        starter.find(name, "missing")
        report.line(f"Status: {wanted.familiar} is part of rdock, and comes from no registry")
    else:
        _pull(wanted, report, platform)
    sys.stdout.write(f"{wanted}\n")
    return 0


def fetch(name: str, platform: Platform | None, *, quiet: bool) -> None:
    """Pull the image for a new container; what is told of it goes to the error output. Raises what pull raises."""
    _pull(reference.parse(name).tagged(), report_on(sys.stderr, quiet=quiet), platform)


def _pull(wanted: Reference, report: Report, platform: Platform | None) -> None:
    done = pulling.pull(wanted, report, platform=platform, sweep=_sweep)
    # An image that is listed is not fetched, and may have been damaged since.
    for problem in refetching.restore(report.layer, only=done.image_id):
        raise DataLoss(problem)
    report.line(f"Digest: {done.digest}")
    what = "Downloaded newer image for" if done.is_new else "Image is up to date for"
    report.line(f"Status: {what} {wanted.familiar}")


def _sweep() -> None:
    """What `main.enter` does for other commands; of images it would take what a pull can go on with."""
    from rdock.container import removal

    removal.sweep()
    journal.sweep()


PUSH_TEXT = """\
Usage:  rdock push [OPTIONS] NAME[:TAG]

Upload an image to a registry

Aliases:
  rdock image push, rdock push

Options:
  -a, --all-tags                Push all tags of an image to the repository
      --disable-content-trust   Skip image signing (default true)
      --platform string         Push a platform-specific manifest as a single-platform image to the registry
  -q, --quiet                   Suppress verbose output
"""


def push(options: Options) -> int:
    (name,) = options.arguments
    target = reference.parse(name)
    quiet = options.flag("--quiet")
    _no_trust(options)
    platform = platforms.parse(options.text("--platform"))
    if target.digest:
        raise InvalidParameter("cannot push a digest reference")
    report = report_on(sys.stdout, quiet=quiet)
    if options.flag("--all-tags"):
        if target.tag:
            raise InvalidParameter("tag can't be used with --all-tags/-a")
        targets = images.tags_of(target)
    else:
        if not target.tag:
            report.line(f"Using default tag: {reference.DEFAULT_TAG}")
        targets = [target.tagged()]
    report.line(f"The push refers to repository [{target.name}]")
    for one in targets:
        image = images.find(str(one))
        if image is None:
            raise NotFound(f"An image does not exist locally with the tag: {target.familiar_name}")
        platforms.check(platform, image, one.familiar)
        digest, size = pushing.push(image, one, report)
        report.line(f"{one.tag}: digest: {digest} size: {size}")
    if quiet:
        sys.stdout.write(f"{targets[0] if len(targets) == 1 else target.name}\n")
    return 0


def _no_trust(options: Options) -> None:
    """`--disable-content-trust=false` asks for signatures of a kind that nobody makes any more."""
    if options.given("--disable-content-trust") and not options.flag("--disable-content-trust"):
        raise InvalidParameter("--disable-content-trust=false: content trust (Notary v1) is not supported")
