"""Two network namespaces and the line between them: this process and its children are in the
near one, and what is started with space=Line.far is in the far one.

The namespaces have no name: they end with the processes in them, and the far one with this
process, which holds it open. The line is scripts/wan's.
"""

import ctypes
import json
import os
import subprocess

from lib import TOP, BenchError

CLONE_NEWNET = 0x40000000
NEAR = "10.78.0.1"


class Setting:
    """A line as it is asked for, and what it is called."""

    def __init__(self, name, text, rate, **options):
        self.name = name
        self.text = text
        self.rate = rate  # Mbit/s
        self.options = options  # of scripts/wan


# The published ones. The delay is that of each direction, so the round trip takes twice as long: the
# harder one of two ways to read them.
SETTINGS = {
    "near": Setting("near", "100 Mbit/s, 1 ms, 0.01 % loss", 100, delay="1ms", loss="0.01%"),
    "far": Setting("far", "100 Mbit/s, 15 +- 3 ms, 0.1 % loss", 100, delay="15ms", jitter="3ms", loss="0.1%"),
}


def new_namespace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise BenchError(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Line:
    def __init__(self):
        if os.geteuid() != 0:
            raise BenchError("must be run as root: it makes network namespaces")
        new_namespace()
        self.descriptor = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.far = f"/proc/{os.getpid()}/fd/{self.descriptor}"
        new_namespace()
        self.process = None
        self.method = None

    def begin(self, setting):
        """There is a line like that; the one before it is gone."""
        self.end()
        argv = [os.path.join(TOP, "scripts", "wan"), "--control", "--rate", f"{setting.rate}Mbit"]
        for key, value in setting.options.items():
            argv += [f"--{key}", value]
        self.process = subprocess.Popen([*argv, str(os.getpid()), self.far], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, start_new_session=True)
        said = self.process.stdout.readline().split()
        if said[:1] != ["ready"]:
            raise BenchError("there is no line")
        self.method = said[1]

    def command(self, word):
        """cut, restore or stats. Returns, of both directions, what came out of it until now."""
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline()
        if not said:
            raise BenchError("the line has ended")
        return json.loads(said)

    def sent(self):
        """Bytes of IP packets that have come out at the far end."""
        return self.command("stats")[0]["bytes"]

    def end(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
            self.process = None
