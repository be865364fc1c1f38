"""What Docker's command line has, by name, so that a missing piece is told from a slip of the finger.

Imported only when a command or an option is not known. Plain tables of names: what rdock has of them is
told by its own help texts. What rdock will never have, and why, is in refusals.py.
"""

from __future__ import annotations

from rdock.cli import main, refusals
from rdock.errors import NotThereYet, RdockError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Commands and groups of commands, and those within the groups.
_COMMANDS = {
    "": """
        attach build builder buildx checkpoint commit compose config container context cp create diff events exec
        export history image images import info inspect kill load login logout logs manifest network node pause plugin
        port ps pull push rename restart rm rmi run save search secret service stack start stats stop swarm system tag
        top trust unpause update version volume wait""",
    "builder": "build prune",
    "container": """
        attach commit cp create diff exec export inspect kill list logs ls pause port prune ps remove rename restart rm
        run start stats stop top unpause update wait""",
    "context": "create export import inspect list ls remove rm show update use",
    "image": "build history import inspect list load ls prune pull push remove rm save tag",
    "manifest": "annotate create inspect push rm",
    "network": "connect create disconnect inspect list ls prune remove rm",
    "system": "df events info prune",
    "volume": "create inspect list ls prune remove rm update",
}

# Options that Docker understands by another name and does not show.
HIDDEN_SPELLINGS = {
    "--dns-opt": "--dns-option",
    "--net": "--network",
    "--net-alias": "--network-alias",
    "--time": "--timeout",
}

# Switches that ask for what is so anyway: images are never checked against Docker's Notary servers.
HARMLESS = ("--disable-content-trust",)

# What Docker has of `run`, and of `create`, which has all but these.
_OF_RUN_ONLY = ("--detach", "--detach-keys", "--sig-proxy")

# By command, in its shortest spelling; those of no command stand before it.
_OPTIONS = {
    "": """
        --config -c,--context -D,--debug -H,--host -l,--log-level --tls --tlscacert --tlscert --tlskey --tlsverify
        -v,--version""",
    "attach": "--detach-keys --no-stdin --sig-proxy",
    "build": """
        --add-host --build-arg --cache-from --cgroup-parent --compress --cpu-period --cpu-quota -c,--cpu-shares
        --cpuset-cpus --cpuset-mems --disable-content-trust -f,--file --force-rm --iidfile --isolation --label
        -m,--memory --memory-swap --network --no-cache --platform --pull -q,--quiet --rm --security-opt --shm-size
        --squash -t,--tag --target --ulimit""",
    "builder prune": "-a,--all --filter -f,--force --keep-storage",
    "commit": "-a,--author -c,--change -m,--message -p,--pause",
    "container inspect": "-f,--format -s,--size",
    "container prune": "--filter -f,--force",
    "context create": "--description --docker --from",
    "context export": "",
    "context import": "",
    "context inspect": "-f,--format",
    "context ls": "--format -q,--quiet",
    "context rm": "-f,--force",
    "context show": "",
    "context update": "--description --docker",
    "context use": "",
    "cp": "-a,--archive -L,--follow-link -q,--quiet",
    "diff": "",
    "events": "-f,--filter --format --since --until",
    "exec": """
        -d,--detach --detach-keys -e,--env --env-file -i,--interactive --privileged -t,--tty -u,--user -w,--workdir""",
    "export": "-o,--output",
    "history": "--format -H,--human --no-trunc --platform -q,--quiet",
    "image inspect": "-f,--format --platform",
    "image prune": "-a,--all --filter -f,--force",
    "images": "-a,--all --digests -f,--filter --format --no-trunc -q,--quiet --tree",
    "import": "-c,--change -m,--message --platform",
    "info": "-f,--format",
    "inspect": "-f,--format -s,--size --type",
    "kill": "-s,--signal",
    "load": "-i,--input --platform -q,--quiet",
    "login": "-p,--password --password-stdin -u,--username",
    "logout": "",
    "logs": "--details -f,--follow --since -n,--tail -t,--timestamps --until",
    "manifest annotate": "--arch --os --os-features --os-version --variant",
    "manifest create": "-a,--amend --insecure",
    "manifest inspect": "--insecure -v,--verbose",
    "manifest push": "--insecure -p,--purge",
    "manifest rm": "",
    "network connect": "--alias --driver-opt --gw-priority --ip --ip6 --link --link-local-ip",
    "network create": """
        --attachable --aux-address --config-from --config-only -d,--driver --gateway --ingress --internal --ip-range
        --ipam-driver --ipam-opt --ipv4 --ipv6 --label -o,--opt --scope --subnet""",
    "network disconnect": "-f,--force",
    "network inspect": "-f,--format -v,--verbose",
    "network ls": "-f,--filter --format --no-trunc -q,--quiet",
    "network prune": "--filter -f,--force",
    "network rm": "-f,--force",
    "pause": "",
    "port": "",
    "ps": "-a,--all -f,--filter --format -n,--last -l,--latest --no-trunc -q,--quiet -s,--size",
    "pull": "-a,--all-tags --disable-content-trust --platform -q,--quiet",
    "push": "-a,--all-tags --disable-content-trust --platform -q,--quiet",
    "rename": "",
    "restart": "-s,--signal --time -t,--timeout",
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
    "save": "-o,--output --platform",
    "search": "-f,--filter --format --limit --no-trunc",
    "start": "-a,--attach --checkpoint --checkpoint-dir --detach-keys -i,--interactive",
    "stats": "-a,--all --format --no-stream --no-trunc",
    "stop": "-s,--signal --time -t,--timeout",
    "system df": "--format -v,--verbose",
    "system prune": "-a,--all --filter -f,--force --volumes",
    "tag": "",
    "top": "",
    "unpause": "",
    "update": """
        --blkio-weight --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c,--cpu-shares --cpus --cpuset-cpus
        --cpuset-mems --kernel-memory -m,--memory --memory-reservation --memory-swap --pids-limit --restart""",
    "version": "-f,--format",
    "volume create": """
        --availability -d,--driver --group --label --limit-bytes -o,--opt --required-bytes --scope --secret --sharing
        --topology-preferred --topology-required --type""",
    "volume inspect": "-f,--format",
    "volume ls": "--cluster -f,--filter --format -q,--quiet",
    "volume prune": "-a,--all --filter -f,--force",
    "volume rm": "-f,--force",
    "volume update": "--availability",
    "wait": "",
}

_NOT_OF_CREATE = ("-d,--detach", "--detach-keys", "--sig-proxy")
_OPTIONS["create"] = " ".join(word for word in _OPTIONS["run"].split() if word not in _NOT_OF_CREATE)


def missing_command(words: Sequence[str]) -> RdockError | None:
    """What to say about a command of Docker that rdock lacks; None if Docker has none of this name either."""
    first, second = [*words, "", ""][:2]
    if first not in names(""):
        return None
    error: RdockError | None = refusals.of_command(first, second)
    if error is None and second in names(first):
        error = NotThereYet(f"'rdock {first} {second}' is not there yet")
    elif error is None and first not in main.groups():
        error = NotThereYet(f"'rdock {first}' is not there yet")
    if error is not None:
        error.exit_code = 1  # as that of an unknown command is
    return error


def missing_option(command: str, option: str) -> RdockError | None:
    """The same for an option of a command that rdock has, in its short or its long form."""
    where = f"rdock {command} {option}".replace("  ", " ")
    for short, long in options(command):
        if option in (short, long):
            also = f" ({long})" if option == short else ""
            refused = refusals.of_option(command, long, f"'{where}'{also}")
            return refused or NotThereYet(f"'{where}'{also} is not there yet")
    return None


def is_harmless(command: str, option: str) -> bool:
    """Whether Docker has this switch, and to have it on changes nothing here."""
    return option in HARMLESS and any(option == long for _, long in options(command))


def names(group: str) -> list[str]:
    """The commands of a group; those of no group, and the groups, stand alone."""
    return _COMMANDS.get(group, "").split()


def commands() -> list[str]:
    """Every command of Docker's of which the options are known, in its shortest spelling."""
    return sorted({*filter(None, _OPTIONS), "create"})


def options(command: str) -> list[tuple[str, str]]:
    """Short form, or nothing, and long form of each of a command's options."""
    words = [word.rpartition(",") for word in _OPTIONS.get("run" if command == "create" else command, "").split()]
    left_out = _OF_RUN_ONLY if command == "create" else ()
    return [(short, long) for short, _, long in words if long not in left_out]
