"""What Docker's command line has, by name, so that a missing piece is told from a slip of the finger.

Imported only when a command or an option is not known. Plain tables of names: what rdock has of them is
told by its own help texts.
"""

from __future__ import annotations

from rdock.errors import NotThereYet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Commands and groups of commands, and those within the groups that rdock has a part of.
_COMMANDS = {
    "": """
        attach build builder buildx checkpoint commit compose config container context cp create diff events exec
        export history image images import info inspect kill load login logout logs manifest network node pause plugin
        port ps pull push rename restart rm rmi run save search secret service stack start stats stop swarm system tag
        top trust unpause update version volume wait""",
    "container": """
        attach commit cp create diff exec export inspect kill list logs ls pause port prune ps remove rename restart rm
        run start stats stop top unpause update wait""",
    "image": "build history import inspect list load ls prune pull push remove rm save tag",
    "system": "df events info prune",
}

# Options that Docker understands by another name and does not show.
HIDDEN_SPELLINGS = {"--dns-opt": "--dns-option", "--net": "--network", "--net-alias": "--network-alias"}

# Docker's clusters. rdock is for one machine.
_OF_CLUSTERS = ("config", "node", "secret", "service", "stack", "swarm")

# By command; those of no command stand before it.
_OPTIONS = {
    "": """
        --config -c,--context -D,--debug -H,--host -l,--log-level --tls --tlscacert --tlscert --tlskey --tlsverify
        -v,--version""",
    "exec": """
        -d,--detach --detach-keys -e,--env --env-file -i,--interactive --privileged -t,--tty -u,--user -w,--workdir""",
    "images": "-a,--all --digests -f,--filter --format --no-trunc -q,--quiet --tree",
    "import": "-c,--change -m,--message --platform",
    "info": "-f,--format",
    "inspect": "-f,--format -s,--size --type",
    "kill": "-s,--signal",
    "load": "-i,--input --platform -q,--quiet",
    "logs": "--details -f,--follow --since -n,--tail -t,--timestamps --until",
    "ps": "-a,--all -f,--filter --format -n,--last -l,--latest --no-trunc -q,--quiet -s,--size",
    "rm": "-f,--force -l,--link -v,--volumes",
    "rmi": "-f,--force --no-prune --platform",
    "run": """
        --add-host --annotation -a,--attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent
        --cgroupns --cidfile --cpu-count --cpu-percent --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime
        -c,--cpu-shares --cpus --cpuset-cpus --cpuset-mems -d,--detach --detach-keys --device --device-cgroup-rule
        --device-read-bps --device-read-iops --device-write-bps --device-write-iops --disable-content-trust --dns
        --dns-opt --dns-option --dns-search --domainname --entrypoint -e,--env --env-file --expose --gpus --group-add
        --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout
        -h,--hostname --init -i,--interactive --io-maxbandwidth --io-maxiops --ip --ip6 --ipc --isolation
        --kernel-memory -l,--label --label-file --link --link-local-ip --log-driver --log-opt --mac-address -m,--memory
        --memory-reservation --memory-swap --memory-swappiness --mount --name --net --net-alias --network
        --network-alias --no-healthcheck --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged
        -p,--publish -P,--publish-all --pull -q,--quiet --read-only --restart --rm --runtime --security-opt --shm-size
        --sig-proxy --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs -t,--tty --ulimit --use-api-socket
        -u,--user --userns --uts -v,--volume --volume-driver --volumes-from -w,--workdir""",
    "stop": "-s,--signal --time -t,--timeout",
    "version": "-f,--format",
}

_NOT_OF_CREATE = ("-d,--detach", "--detach-keys", "--sig-proxy")
_OPTIONS["create"] = " ".join(word for word in _OPTIONS["run"].split() if word not in _NOT_OF_CREATE)

# Those that will not be there, and why.
_SENSELESS = {
    ("--cpu-count", "--cpu-percent", "--io-maxbandwidth", "--io-maxiops"): "it is for containers of Windows",
    ("--kernel-memory",): "Linux has no such limit any more",
    ("--use-api-socket",): "it would give the container all that its user has",
    ("--storage-opt",): "a container's layer cannot be limited without root",
    ("--cpu-rt-period", "--cpu-rt-runtime", "--device-cgroup-rule"): "it needs control groups that are root's",
}


def missing_command(words: Sequence[str]) -> NotThereYet | None:
    """What to say about a command of Docker that rdock lacks; None if Docker has none of this name either."""
    first, second = [*words, "", ""][:2]
    if first not in names(""):
        return None
    if first in _OF_CLUSTERS:
        return NotThereYet(f"'rdock {first}' is not there: rdock is for one machine")
    if first not in _COMMANDS:
        return NotThereYet(f"'rdock {first}' is not there yet")
    return NotThereYet(f"'rdock {first} {second}' is not there yet") if second in names(first) else None


def missing_option(command: str, option: str) -> NotThereYet | None:
    """The same for an option of a command that rdock has, in its short or its long form."""
    where = f"rdock {command} {option}".replace("  ", " ")
    for short, long in options(command):
        if option in (short, long):
            for names, why in _SENSELESS.items():
                if long in names:
                    return NotThereYet(f"'{where}' is not there: {why}")
            also = f" ({long})" if option == short else ""
            return NotThereYet(f"'{where}'{also} is not there yet")
    return None


def names(group: str) -> list[str]:
    """The commands of a group; those of no group stand alone."""
    return _COMMANDS[group].split()


def options(command: str) -> list[tuple[str, str]]:
    """Short form, or nothing, and long form of each of a command's options."""
    words = [word.rpartition(",") for word in _OPTIONS.get(command, "").split()]
    return [(short, long) for short, _, long in words]
