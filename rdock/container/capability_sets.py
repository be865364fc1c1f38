"""Which capabilities a container gets: the default set, `--cap-add`, `--cap-drop`, `--privileged`.

Here are rules only; `linux/capabilities.py` carries them out.
"""

from __future__ import annotations

from rdock.errors import InvalidParameter
from rdock.linux import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Docker's fourteen without two that can do nothing in a user namespace, so that nobody misses them:
# MKNOD (mknod(2) of a device asks for it in the initial user namespace; device nodes are bind-mounted
# instead) and AUDIT_WRITE (the audit socket answers ECONNREFUSED outside the initial user namespace,
# which PAM and sshd take for "no auditing here"). NET_RAW stays, other than in podman: it reaches no
# further than the container's own network namespace, and busybox's ping has no other way.
DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_SETFCAP",
)


def resolve(add: Iterable[str], drop: Iterable[str], privileged: bool) -> list[str]:
    """The bounding set of a container, by Docker's rules, in the order of the kernel's numbers.

    Privileged is all that the kernel has, whatever else is said. `ALL` added is all but those dropped by
    name, also where `ALL` is dropped too; `ALL` dropped leaves exactly those added. Otherwise what is
    both dropped and added is added. Raises InvalidParameter for an unknown name, privileged or not.
    """
    added = _normalise(add, "CapAdd")
    dropped = _normalise(drop, "CapDrop")
    everything = capabilities.supported()
    if privileged:
        return everything
    if "ALL" in added:
        chosen = set(everything) - dropped
    elif "ALL" in dropped:
        chosen = added
    else:
        chosen = set(DEFAULT) - dropped | added
    return [name for name in everything if name in chosen]


def _normalise(spellings: Iterable[str], field: str) -> set[str]:
    known = {"ALL", *capabilities.supported()}
    result = set()
    for text in spellings:
        try:
            name = capabilities.parse(text)
        except ValueError as e:
            raise InvalidParameter(f'invalid {field}: unknown capability: "{e}"') from e
        if name not in known:
            raise InvalidParameter(
                f"invalid {field}: capability not supported by your kernel or not available in the current "
                f'environment: "{name}"'
            )
        result.add(name)
    return result
