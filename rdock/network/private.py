"""A network of one container's own behind a program of its own: slirp4netns (uplink.py) or pasta (pasta.py).

HostConfig.NetworkMode is which, with the user's options: `slirp4netns:mtu=1400`, `pasta:-T,5201`.
"""

from __future__ import annotations

import os

from rdock.errors import InvalidParameter
from rdock.network import endpoint, slirp_options, subnet, uplink
from rdock.network.subnet import Subnet
from rdock.network.uplink import Uplink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rdock.network.endpoint import Bindings
    from rdock.network.pasta import Pasta
    from rdock.network.pasta_options import PastaOptions


def check(mode: str) -> None:
    """Raise InvalidParameter or Unsupported, in one line, for options that cannot be."""
    name, colon, options = mode.partition(":")
    if colon and not options:
        raise InvalidParameter(f'invalid network mode "{mode}": options are to follow')
    if name == "pasta":
        from rdock.network import pasta_options

        pasta_options.parse(options)
    else:
        slirp_options.parse(options)


def make(mode: str, directory: str) -> Private:
    """That of a network mode; the program's files lie in `directory`."""
    name, _, options = mode.partition(":")
    if name == "pasta":
        from rdock.network import pasta_options

        return _Pasta(directory, pasta_options.parse(options))
    return _Slirp(directory, slirp_options.parse(options))


class Private:
    """One of them: what a run tells of it before it is there, and its program while it is there."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.addresses: list[str] = []
        """The container's."""
        self.nameserver = ""
        """Empty: those that the host asks."""
        self.host_address = ""
        """Where the container reaches the host's loopback; empty: nowhere."""
        self._is_let_go = False

    @property
    def pid(self) -> int:
        """Of its program; 0: there is none."""
        raise NotImplementedError

    def prepare(self, published: Bindings) -> Bindings:
        """Find out the addresses, and the published ports as far as they can be known now. Raises RdockError."""
        raise NotImplementedError

    def connect(self, fds: dict[str, int], bindings: Bindings) -> Bindings:
        """Start the program for a namespace, `network`, that is owned by `user`: the bindings in force.

        Raises RdockError.
        """
        raise NotImplementedError

    def place(self, pid: int) -> str:
        """Its addresses, for the container's record (Subnet.text), by process 1; empty: there are none."""
        raise NotImplementedError

    def forget(self) -> bool:
        """Close what there is of a program that has ended; False if that is as it should be."""
        raise NotImplementedError

    def disconnect(self, *, wait: bool) -> None:
        """Let the program end; with `wait` its ports are free afterwards."""
        raise NotImplementedError

    def heritage(self) -> list[int]:
        """The two descriptors by which another monitor goes on with the program, or none."""
        raise NotImplementedError

    def inherit(self, pid: int, alive: int, log: int) -> None:
        """Go on with the program of another monitor."""
        raise NotImplementedError


class _Slirp(Private):
    def __init__(self, directory: str, options: slirp_options.SlirpOptions) -> None:
        super().__init__(directory)
        self._options = options
        self._subnet = Subnet.parse(options.cidr) if options.cidr else subnet.choose()
        self._uplink: Uplink | None = None

    @property
    def pid(self) -> int:
        return self._uplink.pid if self._uplink else 0

    def prepare(self, published: Bindings) -> Bindings:
        self.addresses = [self._subnet.address, *([uplink.ADDRESS6] if self._options.enable_ipv6 else [])]
        self.nameserver = self._subnet.resolver
        self.host_address = self._subnet.gateway if self._options.allow_host_loopback else ""
        return published

    def connect(self, fds: dict[str, int], bindings: Bindings) -> Bindings:
        self._uplink = uplink.start(fds["user"], fds["network"], self.directory, self._subnet, self._options)
        uplink.await_ready(self._uplink)
        wanted = endpoint.from_bindings(bindings)
        return uplink.publish(self._uplink, wanted) if wanted else {}

    def place(self, pid: int) -> str:
        return self._subnet.text if self._uplink else ""

    def forget(self) -> bool:
        if self._uplink is None or self._is_let_go:
            return False
        os.close(self._uplink.alive)
        os.close(self._uplink.log)
        self._uplink = None
        return True

    def disconnect(self, *, wait: bool) -> None:
        if self._uplink is not None and not self._is_let_go:
            self._is_let_go = True
            uplink.let_go(self._uplink)
        if self._uplink is not None and wait:
            uplink.reap(self._uplink)
            self._uplink = None

    def heritage(self) -> list[int]:
        return [self._uplink.alive, self._uplink.log] if self._uplink else []

    def inherit(self, pid: int, alive: int, log: int) -> None:
        self._uplink = Uplink(pid, alive, -1, self.directory, log)


class _Pasta(Private):
    def __init__(self, directory: str, options: PastaOptions) -> None:
        super().__init__(directory)
        self._options = options
        self._pasta: Pasta | None = None

    @property
    def pid(self) -> int:
        return self._pasta.pid if self._pasta else 0

    def prepare(self, published: Bindings) -> Bindings:
        from rdock.network import pasta

        pasta.find()
        self.addresses = pasta.addresses(self._options)
        self.nameserver = pasta.nameserver(self._options)
        self.host_address = pasta.host_address(self._options)
        return pasta.bind(self.directory, published)

    def connect(self, fds: dict[str, int], bindings: Bindings) -> Bindings:
        from rdock.network import pasta

        self._pasta = pasta.start(fds["user"], fds["network"], self.directory, self._options, bindings)
        return bindings

    def place(self, pid: int) -> str:
        from rdock.network import pasta

        found = pasta.place(pid) if self._pasta else None
        return found.text if found else ""

    def forget(self) -> bool:
        if self._pasta is None or self._is_let_go:
            return False
        os.close(self._pasta.alive)
        os.close(self._pasta.log)
        self._pasta = None
        return True

    def disconnect(self, *, wait: bool) -> None:
        from rdock.network import pasta

        if self._pasta is not None and not self._is_let_go:
            self._is_let_go = True
            pasta.let_go(self._pasta, self.directory)
        if self._pasta is not None and wait:
            pasta.reap(self._pasta)
            self._pasta = None

    def heritage(self) -> list[int]:
        return [self._pasta.alive, self._pasta.log] if self._pasta else []

    def inherit(self, pid: int, alive: int, log: int) -> None:
        from rdock.network.pasta import Pasta

        self._pasta = Pasta(pid, alive, log)
