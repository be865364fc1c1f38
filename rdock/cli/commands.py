"""The table of commands: plain data. One that has to be root of the user's small world is marked so."""

from __future__ import annotations

from rdock.values import Value


class Command(Value):
    """One command; its function and its help text NAME_TEXT stand side by side in its module."""

    place: str
    """module:function"""
    summary: str
    needs_root: bool = True
    reads_store: bool = True
    sweeps: bool = True
    """Whether what killed processes left is cleared away before it; else it does that itself."""
    keeps_groups: bool = False
    """Whether it goes on to be of the caller's supplementary groups, since it reads or writes files of theirs."""
    failure: int = 1
    """Exit code of rdock's own failure; 125 where others are the program's."""


COMMANDS: dict[str, Command] = {
    "run": Command("container_run:run", "Create and run a new container from an image", failure=125),
    "create": Command("container_create:create", "Create a new container", failure=125),
    "exec": Command(
        "container_reach:exec_", "Execute a command in a running container", needs_root=False, reads_store=False
    ),
    "attach": Command(
        "container_reach:attach_",
        "Attach local standard input, output, and error streams to a running container",
        needs_root=False,
        reads_store=False,
    ),
    "ps": Command("container_list:ps", "List containers", needs_root=False),
    "images": Command("image:images", "List images", needs_root=False),
    "inspect": Command("inspect:inspect_", "Return low-level information on rdock objects", needs_root=False),
    "logs": Command("logs:logs", "Fetch the logs of a container", needs_root=False),
    "wait": Command("container_manage:wait", "Block until one or more containers stop, then print their exit codes"),
    "stop": Command("container_manage:stop", "Stop one or more running containers"),
    "kill": Command("container_manage:kill", "Kill one or more running containers"),
    "rm": Command("container_manage:rm", "Remove one or more containers"),
    "start": Command("container_start:start", "Start one or more stopped containers"),
    "restart": Command("container_start:restart", "Restart one or more containers"),
    "pause": Command("container_manage:pause", "Pause all processes within one or more containers"),
    "unpause": Command("container_manage:unpause", "Unpause all processes within one or more containers"),
    "rename": Command("container_change:rename", "Rename a container", needs_root=False),
    "update": Command("container_change:update", "Update configuration of one or more containers", needs_root=False),
    "top": Command("container_look:top_", "Display the running processes of a container"),
    "port": Command(
        "container_look:port", "List port mappings or a specific mapping for the container", needs_root=False
    ),
    "container exists": Command("container_clone:exists", "Check if a container exists", needs_root=False, failure=125),
    "container clone": Command("container_clone:clone", "Create a container like another one", failure=125),
    "container prune": Command("container_change:prune", "Remove all stopped containers"),
    "pull": Command("transfer:pull", "Download an image from a registry", sweeps=False),
    "push": Command("transfer:push", "Upload an image to a registry"),
    "manifest inspect": Command(
        "manifest:inspect", "Display an image manifest, or manifest list", needs_root=False, reads_store=False
    ),
    "manifest create": Command(
        "manifest:create",
        "Create a local manifest list for annotating and pushing to a registry",
        needs_root=False,
        reads_store=False,
    ),
    "manifest annotate": Command(
        "manifest:annotate", "Add additional information to a local image manifest", needs_root=False, reads_store=False
    ),
    "manifest push": Command(
        "manifest:push", "Push a manifest list to a repository", needs_root=False, reads_store=False
    ),
    "manifest rm": Command(
        "manifest:rm", "Delete one or more manifest lists from local storage", needs_root=False, reads_store=False
    ),
    "commit": Command("container_files:commit", "Create a new image from a container's changes"),
    "diff": Command("container_files:diff", "Inspect changes to files or directories on a container's filesystem"),
    "export": Command("container_files:export", "Export a container's filesystem as a tar archive"),
    "cp": Command(
        "container_copy:cp", "Copy files/folders between a container and the local filesystem", keeps_groups=True
    ),
    "image diff": Command("container_files:image_diff", "Inspect changes to an image's root"),
    "mount": Command("container_mount:mount", "Mount a container's root for reading"),
    "unmount": Command("container_mount:unmount", "Unmount a container's root"),
    "image mount": Command("image_mount:mount", "Mount an image's root for reading"),
    "image unmount": Command("image_mount:unmount", "Unmount an image's root"),
    "unshare": Command("image_mount:unshare", "Run a command as root of the user's own namespaces", failure=125),
    "load": Command("image_archive:load", "Load an image from a tar archive or STDIN"),
    "import": Command("image_archive:import_", "Import the contents from a tarball to create a filesystem image"),
    "save": Command(
        "image_archive:save",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        needs_root=False,
    ),
    "history": Command("image_look:history", "Show the history of an image", needs_root=False),
    "tag": Command("image:tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
    "untag": Command("image:untag", "Take names from an image", needs_root=False),
    "rmi": Command("image:rmi", "Remove one or more images"),
    "login": Command("registry:login", "Authenticate to a registry", needs_root=False, reads_store=False),
    "logout": Command("registry:logout", "Log out from a registry", needs_root=False, reads_store=False),
    "search": Command("registry:search", "Search Docker Hub for images", needs_root=False, reads_store=False),
    "image exists": Command("image_look:exists", "Check if an image exists", needs_root=False, failure=125),
    "image inspect": Command(
        "inspect:image_inspect", "Display detailed information on one or more images", needs_root=False
    ),
    "image prune": Command("image:prune", "Remove unused images"),
    "network connect": Command("network:connect", "Connect a container to a network"),
    "network create": Command("network_create:create", "Create a network", needs_root=False, reads_store=False),
    "network disconnect": Command("network:disconnect", "Disconnect a container from a network"),
    "network inspect": Command(
        "inspect:network_inspect", "Display detailed information on one or more networks", needs_root=False
    ),
    "network ls": Command("network_list:ls", "List networks", needs_root=False, reads_store=False),
    "network prune": Command("network:prune", "Remove all unused networks"),
    "network rm": Command("network:rm", "Remove one or more networks"),
    "volume create": Command("volume:create", "Create a volume", needs_root=False, reads_store=False),
    "volume export": Command("volume_archive:export", "Export the content of a volume as a tar archive"),
    "volume import": Command(
        "volume_archive:import_", "Import the content of a tar archive, compressed or not, into a volume"
    ),
    "volume inspect": Command(
        "inspect:volume_inspect", "Display detailed information on one or more volumes", needs_root=False
    ),
    "volume ls": Command("volume_list:ls", "List volumes", needs_root=False, reads_store=False),
    "volume prune": Command("volume:prune", "Remove unused local volumes"),
    "volume rm": Command("volume:rm", "Remove one or more volumes"),
    "system df": Command("system_df:df", "Show disk usage"),
    "system prune": Command("system_prune:prune", "Remove unused data"),
    "events": Command("events:events", "Get real time events from the server", needs_root=False, reads_store=False),
    "info": Command("system:info", "Display system-wide information"),
    "version": Command("system:version", "Show the rdock version information", needs_root=False, reads_store=False),
    "system check": Command(
        "system_check:check",
        "Look through everything that is stored for what does not fit together",
        needs_root=False,
        reads_store=False,
    ),
    "doctor": Command(
        "system:doctor", "Check what this machine allows and how to fix the rest", needs_root=False, reads_store=False
    ),
}

# Docker's longer spellings, by noun, with the options that they imply.
ALIASES = {
    "container run": "run",
    "container create": "create",
    "container exec": "exec",
    "container ls": "ps",
    "container list": "ps",
    "container ps": "ps",
    "container logs": "logs",
    "container wait": "wait",
    "container stop": "stop",
    "container kill": "kill",
    "container rm": "rm",
    "container attach": "attach",
    "container start": "start",
    "container restart": "restart",
    "container pause": "pause",
    "container unpause": "unpause",
    "container rename": "rename",
    "container update": "update",
    "container top": "top",
    "container port": "port",
    "container prune": "container prune",
    "container commit": "commit",
    "container cp": "cp",
    "container diff": "diff",
    "container export": "export",
    "container mount": "mount",
    "container unmount": "unmount",
    "container umount": "unmount",
    "umount": "unmount",
    "container remove": "rm",
    "container inspect": "inspect --type=container",
    "image ls": "images",
    "image list": "images",
    "image pull": "pull",
    "image push": "push",
    "image load": "load",
    "image import": "import",
    "image tag": "tag",
    "image rm": "rmi",
    "image remove": "rmi",
    "image history": "history",
    "image save": "save",
    "image untag": "untag",
    "network list": "network ls",
    "network remove": "network rm",
    "volume list": "volume ls",
    "volume remove": "volume rm",
    "system events": "events",
    "system info": "info",
}
