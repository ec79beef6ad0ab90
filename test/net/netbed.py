#!/usr/bin/env python3
"""A test bed of network namespaces: hosts with disks, a switch between them, and faults.

A program that uses it calls enter() first. That makes a temporary directory and starts the
program again in namespaces of its own (network, process, mount, IPC), whose network is the
switch. Nothing of the machine's own network is touched, no name is used up, and when the
program ends, in whatever way, the kernel ends everything that ran in there: the process that
made the directory removes it, too.

A Host is a further set of namespaces, with a process number 1 of its own. So a host can be
lost as a machine is: crash() takes its cables away and kills process 1, and with it the kernel
kills all others at once; no connection is closed in good order. What is left is its disk, the
directory Host.disk. boot() starts the host again, with another boot id, an empty /run and a
clock that counts from its boot: CLOCK_BOOTTIME is different on every host, CLOCK_MONOTONIC is
the same on all (so that a test can compare times).

There are two networks: "front", where clients are, and "back", between the nodes with a
database. A host has the address 10.77.1.N and fd77:1::N on the first one, 10.77.2.N and
fd77:2::N on the second one.

Python's standard library is all this needs, and iproute2, nftables, util-linux.
"""

import ctypes
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
NETWORKS = {"front": 1, "back": 2}
PATIENCE = 60  # seconds, for what should take a moment


class BedError(Exception):
    pass


def poll(condition, seconds=PATIENCE, interval=0.02):
    """Waits until condition() is true; returns what it returned, or None when time is over."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= end:
            return None
        time.sleep(interval)


def stays(condition, seconds):
    """True if condition() is true all that time: for what must not happen."""
    return poll(lambda: not condition(), seconds) is None


def run(argv, check=True, **options):
    """Runs a command; its output is in the result, both streams in one."""
    options.setdefault("timeout", PATIENCE)
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    try:
        result = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                                **options)
    except subprocess.TimeoutExpired as e:
        said = e.output or b""
        raise BedError(f"{' '.join(argv)}: no end after {e.timeout} s\n"
                       f"{said if isinstance(said, str) else said.decode(errors='replace')}") from None
    if check and result.returncode != 0:
        raise BedError(f"{' '.join(argv)}: exit status {result.returncode}\n{result.stdout}")
    return result


# ---------- the namespaces of the program ----------


def end_with_parent():
    """In a new child: it gets SIGKILL when its parent ends, however that happens."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def enter():
    """Returns, in the namespaces, the temporary directory. Outside it does not return."""
    if "NETBED" in os.environ:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda n, frame: sys.exit(128 + n))
        return os.environ["NETBED"]

    if os.geteuid() != 0:
        print("1..0 # skip must be run as root: it makes network namespaces")
        sys.exit(0)
    # Below /tmp: the path of a socket must be short, and user postgres must reach it.
    work = os.path.realpath(tempfile.mkdtemp(prefix="tandem-net."))
    os.chmod(work, 0o755)
    child = None

    def end(number, frame):
        if child is not None:
            child.send_signal(signal.SIGKILL)
        raise KeyboardInterrupt

    try:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, end)
        child = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--ipc", "--fork", "--kill-child",
             "--mount-proc", sys.executable, *sys.argv],
            env={**os.environ, "NETBED": work}, preexec_fn=end_with_parent)
        status = child.wait()
    except KeyboardInterrupt:
        status = 130
        if child is not None:
            child.wait()
    finally:
        if os.environ.get("NETBED_KEEP"):
            print(f"# kept: {work}")
        else:
            # The kernel is ending the processes, which may still write.
            poll(lambda: shutil.rmtree(work, ignore_errors=True) or not os.path.exists(work), 10, 0.1)
    sys.exit(status if status >= 0 else 128 - status)


def host_init():
    """Process 1 of a host: sets up what is its own, then takes care of orphans."""
    name, boot_id = sys.argv[2:4]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    for argv in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "proc", "proc", "/proc"],
        ["mount", "-t", "sysfs", "sysfs", "/sys"],
        ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"],
        ["mount", "-t", "tmpfs", "tmpfs", "/dev/shm"],
        ["hostname", name],
        ["ip", "link", "set", "lo", "up"],
    ):
        run(argv)
    with open("/run/boot_id", "w", encoding="ascii") as f:
        f.write(boot_id + "\n")
    os.chmod("/run/boot_id", 0o444)
    run(["mount", "--bind", "/run/boot_id", "/proc/sys/kernel/random/boot_id"])
    postgres = pwd.getpwnam("postgres")
    os.mkdir("/run/postgresql", 0o755)
    os.chown("/run/postgresql", postgres.pw_uid, postgres.pw_gid)
    print("up", flush=True)
    while True:
        signal.sigwait([signal.SIGCHLD])
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            pass


# ---------- hosts ----------


class Process:
    """A program that runs in a host in the background."""

    def __init__(self, host, argv, log, **options):
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(
                host.enter_argv(argv, options.pop("user", None)), stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, **options)
        children = f"/proc/{self.popen.pid}/task/{self.popen.pid}/children"
        self.pid = int(poll(lambda: self.ended() or read(children).strip(), 10) or 0)

    def ended(self):
        return self.popen.poll() is not None

    def kill(self, number):
        if not self.ended():
            os.kill(self.pid, number)

    def end(self, number=signal.SIGTERM, seconds=10):
        """Signals it and waits; its exit status, or None if it does not end."""
        self.kill(number)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


def read(path):
    """What is in a file, or nothing if it is gone."""
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


class Host:
    def __init__(self, bed, name, number, networks):
        self.bed = bed
        self.name = name
        self.number = number
        self.networks = networks
        self.disk = os.path.join(bed.work, name)
        self.init = None  # unshare's Popen
        self.pid = None  # of the host's process 1, as the test sees it
        self.boots = 0
        os.mkdir(self.disk, 0o755)

    def address(self, network="front", family=4):
        n = NETWORKS[network]
        return f"10.77.{n}.{self.number}" if family == 4 else f"fd77:{n}::{self.number}"

    # Life and death.

    def boot(self):
        assert self.init is None
        self.boots += 1
        log = open(os.path.join(self.disk, "init.log"), "ab")
        # A clock of its own, far from the others': a time that is compared with another
        # host's shows up at once.
        self.init = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--time",
             "--boottime", str(10000 * self.number + 1000 * self.boots), "--fork", "--kill-child",
             sys.executable, "-I", __file__, "--init", self.name, str(uuid.uuid4())],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd="/")
        log.close()
        if self.init.stdout.readline() != b"up\n":
            raise BedError(f"{self.name} does not come up: {read(self.disk + '/init.log')}")
        self.pid = int(read(f"/proc/{self.init.pid}/task/{self.init.pid}/children"))
        for network in self.networks:
            port = self.port(network)
            run(["ip", "link", "add", port, "type", "veth", "peer", "name", network, "netns", str(self.pid)])
            run(["ip", "link", "set", port, "master", network, "up"])
            self.run(["ip", "-batch", "-"], input=(
                f"link set {network} up\n"
                f"address add {self.address(network)}/24 dev {network}\n"
                f"address add {self.address(network, 6)}/64 dev {network} nodad\n"))
        self.bed.apply_faults()

    def crash(self):
        """The host is lost: its network first, so that no connection is closed in good order."""
        self.unplug()
        self.off()

    def off(self):
        """Kills all processes at once; connections are closed by the kernel."""
        if self.init is not None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.init.wait()
            self.init.stdout.close()
            self.init = None
            self.pid = None
            # Now, and not when the kernel gets round to it: the next boot makes them again.
            for network in self.networks:
                run(["ip", "link", "del", self.port(network)], check=False)  # it may be gone already

    def up(self):
        return self.init is not None

    # Programs.

    def enter_argv(self, argv, user=None):
        enter_host = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-T", "--"]
        if user is not None:
            enter_host += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"]
        return enter_host + argv

    def run(self, argv, user=None, **options):
        return run(self.enter_argv(argv, user), **options)

    def start(self, argv, log, **options):
        """In the background; log is a file on the host's disk."""
        return Process(self, argv, os.path.join(self.disk, log), **options)

    def processes(self):
        """The processes of this host: {number in the host: number here}."""
        found = {}
        if not self.up():
            return found
        mine = os.readlink(f"/proc/{self.pid}/ns/pid")
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == mine:
                    for line in read(f"/proc/{entry}/status").splitlines():
                        if line.startswith("NSpid:"):
                            found[int(line.split()[-1])] = int(entry)
            except OSError:
                pass  # it has ended
        return found

    # Faults of the network. A cut is made in the switch, so nobody is told anything.

    def port(self, network):
        return f"{self.name}-{network}"

    def unplug(self, *networks):
        for network in networks or self.networks:
            run(["ip", "link", "set", self.port(network), "down"])

    def plug(self, *networks):
        for network in networks or self.networks:
            run(["ip", "link", "set", self.port(network), "up"])

    def has_address(self, address):
        return f" {address}/" in self.run(["ip", "address"]).stdout


class Bed:
    """The switch and everything on it."""

    def __init__(self, work):
        self.work = work
        self.hosts = {}
        self.drops = set()  # (network, from, to)
        self.rejects = set()  # (from, to)
        for network in NETWORKS:
            run(["ip", "link", "add", network, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"])
            run(["ip", "link", "set", network, "up"])

    def end(self):
        """All hosts are switched off and the switch is gone; another bed may be made."""
        for host in self.hosts.values():
            host.off()
        self.hosts.clear()
        self.restore()
        for network in NETWORKS:
            run(["ip", "link", "del", network])

    def host(self, name, number, networks=("front", "back")):
        host = Host(self, name, number, networks)
        self.hosts[name] = host
        host.boot()
        return host

    # From one host to another nothing passes, and nobody is told.
    def drop(self, sender, receiver, network=None):
        self.drops |= {(n, sender.name, receiver.name) for n in self.common(sender, receiver, network)}
        self.apply_faults()

    # The same in both directions.
    def cut(self, one, other, network=None):
        self.drop(one, other, network)
        self.drop(other, one, network)

    # What comes from the sender is refused by the receiver, as by a firewall that says so.
    def reject(self, sender, receiver):
        self.rejects.add((sender.name, receiver.name))
        self.apply_faults()

    def restore(self):
        """Ends all cuts."""
        self.drops.clear()
        self.rejects.clear()
        self.apply_faults()

    @staticmethod
    def common(one, other, network):
        return [network] if network else [n for n in one.networks if n in other.networks]

    def apply_faults(self):
        rules = "".join(
            f'    iifname "{a}-{n}" oifname "{b}-{n}" drop\n' for n, a, b in sorted(self.drops))
        run(["nft", "-f", "-"], input=(
            "table bridge switch\ndelete table bridge switch\ntable bridge switch {\n"
            "  chain pass {\n    type filter hook forward priority 0;\n" + rules + "  }\n}\n"))
        for host in self.hosts.values():
            if not host.up():
                continue
            rules = ""
            for sender, receiver in sorted(self.rejects):
                if receiver == host.name:
                    for n in self.hosts[sender].networks:
                        ip, ip6 = (self.hosts[sender].address(n, f) for f in (4, 6))
                        rules += (
                            f"    ip saddr {ip} meta l4proto tcp reject with tcp reset\n"
                            f"    ip saddr {ip} reject with icmp type port-unreachable\n"
                            f"    ip6 saddr {ip6} meta l4proto tcp reject with tcp reset\n"
                            f"    ip6 saddr {ip6} reject with icmpv6 type port-unreachable\n")
            host.run(["nft", "-f", "-"], input=(
                "table inet faults\ndelete table inet faults\ntable inet faults {\n"
                "  chain input {\n    type filter hook input priority 0;\n" + rules + "  }\n}\n"))


class Wan:
    """A line between two hosts, by scripts/wan, as long as both are up: 10.78.0.1 and 10.78.0.2."""

    def __init__(self, one, other, method="auto", **options):
        argv = [os.path.join(TOP, "scripts", "wan"), "--control", "--method", method]
        for key, value in options.items():
            argv += [f"--{key}", value]
        self.process = subprocess.Popen([*argv, str(one.pid), str(other.pid)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said = self.process.stdout.readline().strip() or self.process.stderr.read().strip()

    def command(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self, how):
        how(self.process)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


# ---------- TAP ----------

_tests = 0
_failed = 0


def say(text):
    for line in str(text).splitlines():
        print(f"# {line}", flush=True)


def ok(condition, sentence):
    global _tests, _failed
    _tests += 1
    if not condition:
        _failed += 1
    print(f"{'ok' if condition else 'not ok'} {_tests} - {sentence}", flush=True)
    return bool(condition)


def skip(sentence, why):
    global _tests
    _tests += 1
    print(f"ok {_tests} - {sentence} # skip {why}", flush=True)


def done():
    """The end of a test program that has run to its end."""
    print(f"1..{_tests}", flush=True)
    sys.exit(1 if _failed or not _tests else 0)


if __name__ == "__main__" and sys.argv[1:2] == ["--init"]:
    host_init()
