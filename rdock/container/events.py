"""What happens to containers, for the journal (state/events.py), in Docker's words and with its attributes."""

from __future__ import annotations

from rdock.container.containers import Container
from rdock.state.events import record_event


def note(container: Container, action: str, **attributes: str) -> None:
    """Note an action with what it has to tell; the container's labels, image and name go with it. Never fails."""
    config = container.config
    record_event(
        "container", action, container.id,
        {**config.labels, "image": container.image_name, "name": container.name, **attributes},
    )  # fmt: skip
