"""Changing a container that exists: its name, its labels, its restart policy."""

from __future__ import annotations

from rdock.container import containers, events
from rdock.container.containers import Container
from rdock.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def rename(container: Container, name: str) -> Container:
    """Give a container another name. Raises InvalidParameter and Conflict in Docker's words."""
    if not name:
        raise InvalidParameter("Neither old nor new names may be empty")
    containers.check_name(name)
    if name == container.name:
        raise InvalidParameter("Renaming a container with the same name as its current name")
    containers.take_name(name, container.id)  # first: killed now, it has two names for a while, and never none
    try:
        renamed = containers.change(container.id, name=name)
    except BaseException:
        containers.drop_name(name, container.id)
        raise
    containers.drop_name(container.name, container.id)
    events.note(renamed, "rename", oldName=f"/{container.name}")
    return renamed


def update(container: Container, labels: dict[str, str], restart_policy: dict[str, Any] | None) -> None:
    """Give a container more labels, or others of the same names, and another restart policy, if there is one.

    A monitor that is at work goes by what is on record when the container ends. Raises InvalidParameter.
    """
    fields: dict[str, Any] = {}
    if labels:
        fields["config"] = container.config._replace(labels={**container.config.labels, **labels})
    if restart_policy is not None:
        if container.host_config.auto_remove and restart_policy["Name"] != "no":
            raise InvalidParameter("Restart policy cannot be updated because AutoRemove is enabled for the container")
        fields["host_config"] = container.host_config._replace(restart_policy=restart_policy)
    if fields:
        events.note(containers.change(container.id, **fields), "update")
