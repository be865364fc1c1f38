# Sourced by the scripts, with $root naming the checkout: Python, virtual environments, system packages.
# All that is said here goes to standard error, since standard output belongs to the program.

say() {
    printf '%s\n' "rdock: $*" >&2
}

# -- system packages -----------------------------------------------------------------------------

# Whether packages may be installed: as root, or by sudo without a password.
may_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" -ne 0 ] || return 0
    command -v sudo >/dev/null && sudo -n true 2>/dev/null
}

# RUNLEVEL keeps a package's service from being started where there is no systemd.
apt() {
    as_root=
    [ "$(id -u)" -eq 0 ] || as_root='sudo -n'
    $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# Install packages quietly; the lists are fetched only if they turn out to be missing or old.
install_packages() {
    say "installing $*"
    log=$(mktemp)
    apt install -y --no-install-recommends "$@" >"$log" 2>&1 ||
        { apt update >"$log" 2>&1 && apt install -y --no-install-recommends "$@" >"$log" 2>&1; } ||
        { tail -n 5 "$log" >&2; rm -f "$log"; return 1; }
    rm -f "$log"
}

# Ordinary users have no sbin folders in their PATH, though helpers may lie there.
has_program() {
    for directory in /usr/local/bin /usr/bin /bin /usr/local/sbin /usr/sbin /sbin; do
        [ ! -x "$directory/$1" ] || return 0
    done
    command -v "$1" >/dev/null
}

has_library() {
    for file in /lib/"$1" /lib/*/"$1" /usr/lib/"$1" /usr/lib/*/"$1" /lib64/"$1" /usr/lib64/"$1"; do
        [ ! -e "$file" ] || return 0
    done
    return 1
}

# The packages of rdock's helpers that are missing, one a line, with how much they matter.
missing_helpers() {
    has_program newuidmap || echo 'uidmap (required): without it containers have one user id only'
    has_library libseccomp.so.2 || echo 'libseccomp2 (required): without it there is no filter of system calls'
    has_program slirp4netns || echo 'slirp4netns (optional): without it there is only --network host or none'
    has_program fuse-overlayfs || echo 'fuse-overlayfs (optional): the storage driver of that name'
    has_venv || echo 'python3-venv (optional): brings Python packages that only some commands need'
}

install_helpers() {
    missing=$(missing_helpers)
    [ -n "$missing" ] || return 0
    if may_install; then
        # shellcheck disable=SC2046  # one word per package is meant
        install_packages $(packages_of "$missing") || :
        missing=$(missing_helpers)
        [ -n "$missing" ] || return 0
    fi
    say "missing: sudo apt-get install $(packages_of "$missing")"
    echo "$missing" | while read -r line; do
        say "    $line"
    done
}

packages_of() {
    echo "$1" | cut -d' ' -f1 | tr '\n' ' ' | sed 's/ $//'
}

# Install whichever of the given Debian packages are not installed; where that is not allowed, say which.
need_packages() {
    absent=
    for package in "$@"; do
        [ -n "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -x installed)" ] ||
            absent="$absent $package"
    done
    [ -n "$absent" ] || return 0
    if may_install; then
        # shellcheck disable=SC2086
        install_packages $absent
    else
        say "missing: sudo apt-get install$absent"
    fi
}

# -- Python --------------------------------------------------------------------------------------

# Print the interpreter to use. The system's comes first: one in somebody's home is out of others' reach.
find_python() {
    for candidate in ${RDOCK_PYTHON:+"$RDOCK_PYTHON"} /usr/bin/python3 /usr/local/bin/python3 /usr/bin/python3.1[1-9] \
        "$(command -v python3 || :)"; do
        if [ -x "$candidate" ] && "$candidate" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

need_python() {
    python=$(find_python) || {
        if may_install; then
            install_packages python3 python3-venv || :
        fi
        python=$(find_python) || {
            say 'missing: Python 3.11 or newer: sudo apt-get install python3 python3-venv'
            exit 125
        }
    }
}

has_venv() {
    "$python" -I -c 'import ensurepip, venv' 2>/dev/null
}

# The Debian packages that PyInstaller needs: to read and strip libraries, and the interpreter as a library.
build_packages() {
    need_python
    echo binutils "libpython$("$python" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
}

# Print the requirements of setup.cfg, one a line: those of the package, then those of the named extras.
requirements() {
    "$python" -I -c '
import configparser, sys
setup = configparser.ConfigParser()
setup.read(sys.argv[1])
print(setup["options"]["install_requires"].strip())
for extra in sys.argv[2:]:
    print(setup["options.extras_require"][extra].strip())
' "$root/setup.cfg" "$@"
}

# make_environment DIRECTORY [EXTRA…]: a virtual environment with the requirements of setup.cfg.
#
# The stamp is written last and in one step: its lines are the interpreter, the packages' directory (relative, so
# that the checkout may be moved; empty if there is none) and a checksum of what was asked. A directory without one
# is the remains of a set-up that was killed, and is made anew. Sets $python and $site. Of two that start at once
# the second waits, on a lock that the kernel takes back from a process that dies.
make_environment() {
    environment=$1
    shift
    need_python
    wanted=$({ "$python" -VV; requirements "$@"; } | cksum)
    site=$(sed -n 2p "$environment/stamp" 2>/dev/null) || :
    ! is_complete || [ "$environment/stamp" -nt "$root/setup.cfg" ] || [ "$root/setup.cfg" -nt "$environment/stamp" ] ||
        return 0
    site=
    mkdir -p "$environment" 2>/dev/null || {
        say "cannot make $environment: going on without Python packages"
        return 0
    }
    exec 9<"$environment"
    flock 9
    if is_complete; then
        site=$(sed -n 2p "$environment/stamp")
    else
        fill_environment "$@" 9<&-
    fi
    printf '%s\n' "$python" "$site" "$wanted" >"$environment/stamp.new"
    touch -r "$root/setup.cfg" "$environment/stamp.new"
    mv -f "$environment/stamp.new" "$environment/stamp"
    exec 9<&-
}

# Whether the environment has what was asked; its stamp may still have another time than setup.cfg.
is_complete() {
    [ ! -e "$environment/retry" ] && [ "$(sed -n 3p "$environment/stamp" 2>/dev/null)" = "$wanted" ]
}

fill_environment() {
    say "making the Python environment"
    [ -e "$environment/stamp" ] || find "$environment" -mindepth 1 -delete
    rm -f "$environment/stamp" "$environment/retry"
    requirements "$@" >"$environment/requirements"
    if ! has_venv; then
        case ${missing:-} in
        *python3-venv*) ;; # tried, and said, already
        *) need_packages python3-venv || : ;;
        esac
    fi
    if has_venv && "$python" -I -m venv "$environment" >&2 &&
        "$environment/bin/python" -m pip -qq --disable-pip-version-check --retries 2 \
            install -r "$environment/requirements" >&2; then
        site=$("$environment/bin/python" -c 'import os, sys, sysconfig
print(os.path.relpath(sysconfig.get_path("purelib"), sys.prefix))')
    else
        say 'missing: Python packages, which only some commands need: tried again in an hour, or now after'
        say "    rm -r $environment"
        touch -d '+1 hour' "$environment/retry"
    fi
}

# What scripts/rdock does on its first use.
set_up_run() {
    need_python
    install_helpers
    make_environment "$1"
}

# Both environments: rdock's own, which scripts/rdock uses, and beside it one with the tools of development.
# Sets $venv and, in it, leaves the second as `dev`.
make_development_environment() {
    umask 022
    venv=$root/.venv
    [ -w "$root" ] || venv=${XDG_CACHE_HOME:-$HOME/.cache}/rdock/venv-development
    make_environment "$venv"
    make_environment "$venv/dev" test build
    [ -n "$site" ] || exit 125
}
