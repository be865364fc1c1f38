"""What `-v` and `--mount` take: tables of texts with what they mean, or with what Docker says against them."""

from __future__ import annotations

from typing import Any

import pytest

from rdock.container import mount_points
from rdock.errors import RdockError
from rdock.volume import mount_syntax, points
from rdock.volume.points import MountPoint

HERE = "/home/me"
CONFIG = 'invalid mount config for type "{}": '


# -- -v --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/a:/b", MountPoint("bind", "/b", "/a", propagation="rprivate", options={"Create": True})),
        ("/a:/b:ro", MountPoint("bind", "/b", "/a", mode="ro", rw=False, propagation="rprivate",
                                options={"Create": True})),
        ("./x:/b", MountPoint("bind", "/b", "/home/me/x", propagation="rprivate", options={"Create": True})),
        ("..:/b", MountPoint("bind", "/b", "/home", propagation="rprivate", options={"Create": True})),
        (".:/b", MountPoint("bind", "/b", "/home/me", propagation="rprivate", options={"Create": True})),
        ("//a/../c//:/b/./d/", MountPoint("bind", "/b/d", "/c", propagation="rprivate", options={"Create": True})),
        ("/a b,c=ü:/d e,f", MountPoint("bind", "/d e,f", "/a b,c=ü", propagation="rprivate",
                                       options={"Create": True})),
        ("/a:/b:rw,rslave,z", MountPoint("bind", "/b", "/a", mode="rw,rslave,z", propagation="rslave",
                                         options={"Create": True})),
        ("/a:/b:U", MountPoint("bind", "/b", "/a", mode="U", propagation="rprivate",
                               options={"Chown": True, "Create": True})),
        ("/a:/b:cached", MountPoint("bind", "/b", "/a", mode="cached", propagation="rprivate",
                                    options={"Create": True})),
        ("/a:/b:O", MountPoint("bind", "/b", "/a", mode="O", propagation="rprivate",
                               options={"Create": True, "Overlay": True, "UpperDir": "", "WorkDir": ""})),
        ("/a:/b:O,upperdir=/u,workdir=/w", MountPoint(
            "bind", "/b", "/a", mode="O,upperdir=/u,workdir=/w", propagation="rprivate",
            options={"Create": True, "Overlay": True, "UpperDir": "/u", "WorkDir": "/w"})),
        ("data:/b", MountPoint("volume", "/b", name="data", driver="local")),
        ("data:/b:ro,nocopy", MountPoint("volume", "/b", name="data", driver="local", mode="ro,nocopy", rw=False,
                                         options={"NoCopy": True})),
        ("my.data-1_2:/b:Z", MountPoint("volume", "/b", name="my.data-1_2", driver="local", mode="Z")),
    ],
)  # fmt: skip
def test_volume(text: str, wanted: MountPoint) -> None:
    bind, target = mount_syntax.parse_volume(text, HERE)
    assert target == "" and points.from_bind(bind) == wanted


def test_anonymous_volume() -> None:
    assert mount_syntax.parse_volume("/data", HERE) == ("", "/data")
    assert mount_syntax.parse_volume("/data/../x//y/", HERE) == ("", "/x/y")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "invalid empty volume spec"),
        (":", "invalid spec: :: empty section between colons"),
        ("/a:", "invalid spec: /a:: empty section between colons"),
        (":/a", "invalid spec: :/a: empty section between colons"),
        ("/a::ro", "invalid spec: /a::ro: empty section between colons"),
        ("/a:/b:ro:x", "invalid spec: /a:/b:ro:x: too many colons"),
        ("/a:/b:rx", "invalid mode: rx"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:z,Z", "invalid mode: z,Z"),
        ("/a:/b:shared,slave", "invalid mode: shared,slave"),
        ("/a:/b:cached,delegated", "invalid mode: cached,delegated"),
        ("/a:/b:ro,", "invalid mode: ro,"),
        ("/a:/b:RO", "invalid mode: RO"),
        ("/a:/b:upperdir=/x", "invalid mode: upperdir=/x"),
        ("/a:/b:O,upperdir=/x", "upperdir and workdir of an overlay go together"),
        ("/a:/b:O,upperdir=x,workdir=/y", "'x' must be absolute"),
        ("/a:/b:nocopy", "nocopy is for volumes"),
        ("data:/b:rslave", "propagation is for binds"),
        ("data:/b:O", "an overlay is for binds"),
        ("/a:ro", "invalid volume specification: '/a:ro'"),
        ("/a:b", "invalid volume specification: '/a:b': invalid mount path: 'b' mount path must be absolute"),
        ("x:y", "invalid mount path: 'y' mount path must be absolute"),
        ("relative", "invalid mount path: 'relative' mount path must be absolute"),
        ("/", "invalid specification: destination can't be '/'"),
        ("/a:/", "invalid volume specification: '/a:/': invalid specification: destination can't be '/'"),
        ("/a:/..", "destination can't be '/'"),
        ("/a:/x/../.", "destination can't be '/'"),
        ("/a:/proc", "cannot be mounted because it is inside /proc"),
        ("/a:/proc/self/../1", "cannot be mounted because it is inside /proc"),
        ("/proc/x", "cannot be mounted because it is inside /proc"),
        ("/a:/x/../proc/sys", "cannot be mounted because it is inside /proc"),
        ("/a:/sys", "cannot be mounted because it is inside /sys"),
        ("a/b:/x", 'create a/b: "a/b" includes invalid characters for a local volume name'),
        ("-a:/x", '"-a" includes invalid characters'),
        ("ü1:/x", '"ü1" includes invalid characters'),
        ("a b:/x", '"a b" includes invalid characters'),
        ("x:/x", "create x: volume name is too short, names should be at least two alphanumeric characters"),
        ("~/x:/x", "the shell has not expanded the ~"),
    ],
)  # fmt: skip
def test_volume_is_refused(text: str, says: str) -> None:
    with pytest.raises(RdockError) as refusal:
        mount_syntax.parse_volume(text, HERE)
    assert says in refusal.value.message


def test_relative_volume_without_a_directory() -> None:
    with pytest.raises(RdockError, match="getwd: no such file or directory"):
        mount_syntax.parse_volume("./x:/y", "")
    with pytest.raises(RdockError, match="use --mount"):
        mount_syntax.parse_volume("./x:/y", "/a:b")


# -- --mount ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("type=bind,source=/a,target=/b", {"Type": "bind", "Source": "/a", "Target": "/b"}),
        ("type=bind,src=/a,dst=/b", {"Type": "bind", "Source": "/a", "Target": "/b"}),
        ("type=bind,src=./a,destination=/b", {"Type": "bind", "Source": "/home/me/a", "Target": "/b"}),
        ("TYPE=BIND,Src=/A,DST=/B", {"Type": "bind", "Source": "/A", "Target": "/B"}),
        ("target=/b", {"Type": "volume", "Target": "/b"}),
        ("src=data,dst=/b,readonly", {"Type": "volume", "Source": "data", "Target": "/b", "ReadOnly": True}),
        ("src=data,dst=/b,ro=1", {"Type": "volume", "Source": "data", "Target": "/b", "ReadOnly": True}),
        ("src=data,dst=/b,readonly=false", {"Type": "volume", "Source": "data", "Target": "/b", "ReadOnly": False}),
        ('type=bind,"src=/a,b",dst=/b', {"Type": "bind", "Source": "/a,b", "Target": "/b"}),
        ('type=bind,"src=/a""b",dst=/b', {"Type": "bind", "Source": '/a"b', "Target": "/b"}),
        ("type=bind,src=/a:b,dst=/c:d", {"Type": "bind", "Source": "/a:b", "Target": "/c:d"}),
        ("type=bind,src=/a b,dst=/ü", {"Type": "bind", "Source": "/a b", "Target": "/ü"}),
        ("type=bind,src=/a=b,dst=/b", {"Type": "bind", "Source": "/a=b", "Target": "/b"}),
        ("type=bind,src=/a,dst=/b,consistency=cached",
         {"Type": "bind", "Source": "/a", "Target": "/b", "Consistency": "cached"}),
        ("type=bind,src=/a,dst=/b,bind-propagation=rslave,bind-nonrecursive",
         {"Type": "bind", "Source": "/a", "Target": "/b",
          "BindOptions": {"Propagation": "rslave", "NonRecursive": True}}),
        ("type=bind,src=/a,dst=/b,bind-recursive=disabled",
         {"Type": "bind", "Source": "/a", "Target": "/b", "BindOptions": {"NonRecursive": True}}),
        ("type=bind,src=/a,dst=/b,bind-recursive=enabled",
         {"Type": "bind", "Source": "/a", "Target": "/b", "BindOptions": {}}),
        ("type=bind,src=/a,dst=/b,ro,bind-recursive=writable",
         {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True,
          "BindOptions": {"ReadOnlyNonRecursive": True}}),
        ("type=bind,src=/a,dst=/b,ro,bind-recursive=readonly,bind-propagation=rprivate",
         {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True,
          "BindOptions": {"ReadOnlyForceRecursive": True, "Propagation": "rprivate"}}),
        ("src=data,dst=/b,volume-nocopy=true,volume-label=a=b=c,volume-label=d,volume-driver=local,"
         "volume-opt=type=tmpfs,volume-opt=device=tmpfs",
         {"Type": "volume", "Source": "data", "Target": "/b",
          "VolumeOptions": {"NoCopy": True, "Labels": {"a": "b=c", "d": ""},
                            "DriverConfig": {"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs"}}}}),
        ("src=data,dst=/b,volume-subpath=x/y",
         {"Type": "volume", "Source": "data", "Target": "/b", "VolumeOptions": {"Subpath": "x/y"}}),
        ('src=data,dst=/b,"volume-opt=o=a,b"',
         {"Type": "volume", "Source": "data", "Target": "/b",
          "VolumeOptions": {"DriverConfig": {"Options": {"o": "a,b"}}}}),
        ("type=image,src=busybox,dst=/b,image-subpath=etc",
         {"Type": "image", "Source": "busybox", "Target": "/b", "ImageOptions": {"Subpath": "etc"}}),
        ("type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=1770",
         {"Type": "tmpfs", "Target": "/b", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770}}),
        ("type=devpts,dst=/b", {"Type": "devpts", "Target": "/b"}),
    ],
)  # fmt: skip
def test_mount(text: str, wanted: dict[str, Any]) -> None:
    assert mount_syntax.parse_mount(text, HERE) == wanted


@pytest.mark.parametrize(
    ("size", "wanted"),
    [("10", 10), ("1k", 1024), ("1K", 1024), ("1kb", 1024), ("1KiB", 1024), ("1.5g", 3 << 29), ("2 m", 2 << 20),
     ("7b", 7)],
)  # fmt: skip
def test_sizes(size: str, wanted: int) -> None:
    mount = mount_syntax.parse_mount(f"type=tmpfs,dst=/b,tmpfs-size={size}", HERE)
    assert mount["TmpfsOptions"]["SizeBytes"] == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "value is empty"),
        ("type=bind", "target is required"),
        ("type=bind,src=/a", "target is required"),
        ("type", "invalid field 'type' must be a key=value pair"),
        ("type=bind,,dst=/b", "invalid field '' must be a key=value pair"),
        ("type=bind,src=/a,dst=/b,", "invalid field '' must be a key=value pair"),
        ("type=bind,src=,dst=/b", "invalid value for 'src': value is empty"),
        ("type=bind,src=/a,dst=/b,nosuch=1", "unexpected key 'nosuch' in 'nosuch=1'"),
        ("type=bind,src=/a,dst=/b,nosuch", "invalid field 'nosuch' must be a key=value pair"),
        ("type=bind, src=/a,dst=/b", "invalid option ' src' in ' src=/a': option should not have whitespace"),
        ("type=bind,src=/a,dst=/b,readonly=maybe", "invalid value for readonly: maybe"),
        ("type=bind,src=/a,dst=/b,bind-nonrecursive=2", "invalid value for bind-nonrecursive: 2"),
        ("dst=/b,volume-nocopy=yes", "invalid value for volume-nocopy: yes"),
        ("type=tmpfs,dst=/b,tmpfs-size=big", "invalid value for tmpfs-size: big"),
        ("type=tmpfs,dst=/b,tmpfs-size=-1", "invalid value for tmpfs-size: -1"),
        ("type=tmpfs,dst=/b,tmpfs-size=9999999p", "invalid value for tmpfs-size: 9999999p"),
        ("type=tmpfs,dst=/b,tmpfs-size=1.2.3m", "invalid value for tmpfs-size: 1.2.3m"),
        ("type=tmpfs,dst=/b,tmpfs-mode=888", "invalid value for tmpfs-mode: 888"),
        ("type=tmpfs,dst=/b,tmpfs-mode=rwx", "invalid value for tmpfs-mode: rwx"),
        ("type=tmpfs,dst=/b,tmpfs-mode=77777", "invalid value for tmpfs-mode: 77777"),
        ("type=bind,src=/a,dst=/b,bind-recursive=perhaps",
         'invalid value for bind-recursive: perhaps (must be "enabled", "disabled", "writable", or "readonly")'),
        ("type=bind,src=/a,dst=/b,bind-recursive=writable",
         "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction"),
        ("type=bind,src=/a,dst=/b,ro,bind-recursive=readonly",
         "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"),
        ("type=bind,src=/a,dst=/b,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
        ("type=tmpfs,dst=/b,bind-propagation=slave", "cannot mix 'bind-*' options with mount type 'tmpfs'"),
        ("src=data,dst=/b,tmpfs-size=1m", "cannot mix 'tmpfs-*' options with mount type 'volume'"),
        ("src=data,dst=/b,image-subpath=x", "cannot mix 'image-*' options with mount type 'volume'"),
        ("type=nosuch,dst=/b", CONFIG.format("nosuch") + "mount type unknown"),
        ("type=npipe,src=/a,dst=/b", CONFIG.format("npipe") + "mount type unknown"),
        ("type=bind,dst=/b", CONFIG.format("bind") + "field Source must not be empty"),
        ("type=image,dst=/b", CONFIG.format("image") + "field Source must not be empty"),
        ("type=tmpfs,src=/a,dst=/b", CONFIG.format("tmpfs") + "field Source must not be specified"),
        ("type=bind,src=a,dst=/b", CONFIG.format("bind") + "invalid mount path: 'a' mount path must be absolute"),
        ("type=bind,src=/a,dst=b", CONFIG.format("bind") + "invalid mount path: 'b' mount path must be absolute"),
        ("type=bind,src=/a,dst=/", CONFIG.format("bind") + "invalid specification: destination can't be '/'"),
        ("type=tmpfs,dst=/proc/x", "cannot be mounted because it is inside /proc"),
        ("type=bind,src=/a,dst=/b,bind-propagation=up", CONFIG.format("bind") + "invalid propagation mode: up"),
        # CVE-2024-9407: nothing else can come along with it.
        ('type=bind,src=/a,dst=/b,"bind-propagation=shared,rw"', "invalid propagation mode: shared,rw"),
        ("type=bind,src=/a,dst=/b,consistency=no", "invalid consistency: no"),
        ("dst=/b,ro", CONFIG.format("volume") + "must not set ReadOnly mode when using anonymous volumes"),
        ("dst=/b,volume-subpath=x", CONFIG.format("volume") + "must not set Subpath when using anonymous volumes"),
        ("src=data,dst=/b,volume-subpath=../x", "subpath must be a relative path within the volume"),
        ("src=data,dst=/b,volume-subpath=/x", "subpath must be a relative path within the volume"),
        ("src=a/b,dst=/b", '"a/b" includes invalid characters for a local volume name'),
        ("src=x,dst=/b", "volume name is too short"),
        ('type=bind,src="/a",dst=/b', 'parse error on line 1, column 15: bare " in non-quoted field'),
        ('type=bind,"src=/a,dst=/b', 'parse error on line 1, column 25: extraneous or missing " in quoted-field'),
        ('type=bind,"src=/a"x,dst=/b', 'parse error on line 1, column 18: extraneous or missing " in quoted-field'),
        ("type=bind\nsrc=/a", "a line break cannot be in it"),
    ],
)  # fmt: skip
def test_mount_is_refused(text: str, says: str) -> None:
    with pytest.raises(RdockError) as refusal:
        mount_syntax.parse_mount(text, HERE)
    assert says in refusal.value.message


def test_what_is_made_of_mounts() -> None:
    def point(text: str) -> MountPoint:
        return points.from_mount(mount_syntax.parse_mount(text, HERE))

    assert point("type=bind,src=/a/../c,dst=/b/,ro") == MountPoint("bind", "/b", "/c", rw=False, propagation="rprivate")
    assert point("src=data,dst=/b,volume-label=a=b,volume-subpath=./x//y") == MountPoint(
        "volume", "/b", name="data", driver="local", options={"Subpath": "x/y", "Labels": {"a": "b"}}
    )
    assert point("type=image,src=i,dst=/b") == MountPoint("image", "/b", "i", rw=False)
    assert point("type=tmpfs,dst=/b,tmpfs-size=8") == MountPoint("tmpfs", "/b", options={"SizeBytes": 8})


# -- --volumes-from --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"), [("a", ("a", False)), ("a:ro", ("a", True)), ("a:rw", ("a", False)), ("a:ro,z", ("a", True))]
)
def test_volumes_from(text: str, wanted: tuple[str, bool]) -> None:
    assert mount_points.parse_volumes_from(text) == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "volumes-from specification cannot be an empty string"),
        (":ro", "malformed volumes-from specification: :ro"),
        ("a:", "invalid mode: "),
        ("a:nocopy", "invalid mode: nocopy"),
        ("a:ro,rw", "invalid mode: ro,rw"),
    ],
)
def test_volumes_from_is_refused(text: str, says: str) -> None:
    with pytest.raises(RdockError, match=says):
        mount_points.parse_volumes_from(text)
