"""Two nodes and a witness, as hosts of a test bed, with tandemd on each, and what is asked of them.

Cluster makes them: alpha and beta with PostgreSQL, gamma the witness, and a host with the clients.
alpha is initialised with "tandemctl init --primary", beta is seeded. PostgreSQL belongs to tandemd
from then on: no test starts, stops or promotes it.

Two things are looked at from outside in every story:

- Clients that write. One set goes through the virtual address, as an application does, and gives
  up what is not answered in time: its gaps are the time without service. One more client for each
  node is connected to that node's own address, and never gives up while the host answers. All keep
  a list of the commits that were acknowledged (test/client/ledger), with times.
- Cluster.finish() compares these lists with the tables on both nodes: nothing that was acknowledged
  may be missing. And it puts the acknowledgements of the two nodes in the order of their times:
  whoever acknowledges must be the one primary of that time. That two nodes acknowledge in turn,
  without a change of primary in between, is a failure.
"""

import json
import os
import signal
import time

from netbed import PATIENCE, TOP, BedError, ok, poll, read, run, say
from pair import Load, Node, make_table

TANDEMD = os.path.join(TOP, "watchdog", "build", "tandemd")
TANDEMCTL = os.path.join(TOP, "watchdog", "build", "tandemctl")
VIP = {4: "10.77.1.100", 6: "fd77:1::100"}

SETTINGS = """
tandem.lease_required = on
tandem.watchdog_directory = '/run/pg_tandem'
tandem.link_timeout = 2s
tandem.reconnect_interval = 200ms
wal_receiver_timeout = 5s
"""

CONF = """
[tandemd]
cluster = net
key_file = {key}

{nodes}
[failover]
{failover}

{data}
{vip}
"""

# The node's own clients notice a host that is gone, and wait for one that only does not answer.
PATIENT = "keepalives_idle=1 keepalives_interval=1 keepalives_count=3 tcp_user_timeout=3000 connect_timeout=3"

# Shorter than the default, so that a story does not take longer than it must; valid by SAFETY's
# formula, with some room for a busy machine.
SHORT = "lease = 3s\nstop_budget = 600ms\n"

# Two stories run at a time, on two cores that may have other work: so much later anything may come.
# How long it takes on a quiet machine is bench/failover's to say.
BUSY = 3


class Member(Node):
    """A node: PostgreSQL and the tandemd beside it."""

    def __init__(self, cluster, name, number, settings=""):
        super().__init__(cluster.bed, name, number, settings)
        self.cluster = cluster
        self.daemon = None

    def start(self):
        """Start tandemd, as the host's init does at boot."""
        self.daemon = self.host.start([TANDEMD, "-c", self.cluster.conf, "-n", self.name], "tandemd.log")

    def boot(self):
        self.host.boot()
        self.start()

    def crash(self):
        self.host.crash()
        self.daemon = None

    def ctl(self, *argv, check=True, timeout=PATIENCE):
        return self.host.run([TANDEMCTL, "-c", self.cluster.conf, "-n", self.name, *argv], check=check,
                             timeout=timeout)

    def status(self):
        """What "tandemctl status --json" says, or {} if there is no answer."""
        if not self.host.up():
            return {}
        try:
            return json.loads(self.ctl("status", "--json", check=False).stdout)
        except ValueError:
            return {}

    def state(self):
        return self.status().get("state")

    def events(self):
        return self.ctl("events", check=False).stdout if self.host.up() else ""

    def has_vip(self, family=4):
        return self.host.up() and self.host.has_address(VIP[family])

    def log_tail(self, lines=40):
        for file in ("tandemd.log", "postgresql.log"):
            say(f"--- {self.name}: the end of {file}")
            said = [line for line in read(os.path.join(self.host.disk, file)).split("\n")
                    if "waiting for WAL to become available" not in line]
            say("\n".join(said[-lines:]))


class Witness(Member):
    def __init__(self, cluster, name, number):  # pylint: disable=super-init-not-called
        self.cluster = cluster
        self.name = name
        self.host = cluster.bed.host(name, number, ["front"])
        self.daemon = None

    def log_tail(self, lines=10):
        say(f"--- {self.name}: the end of tandemd.log")
        say("\n".join(read(os.path.join(self.host.disk, "tandemd.log")).split("\n")[-lines:]))


class Cluster:
    def __init__(self, bed, failover=SHORT, settings="", sections="", witness=True, vip=True, tls=False,
                 of_node=""):
        self.bed = bed
        for program in (TANDEMD, TANDEMCTL):
            if not os.access(program, os.X_OK):
                raise BedError(f"there is no {program}: run make in watchdog")
        self.conf = os.path.join(bed.work, "tandem.conf")
        self.key = os.path.join(bed.work, "tandem.key")
        settings = SETTINGS + ("" if tls else "tandem.tls = off\n") + settings
        self.alpha = Member(self, "alpha", 1, settings)
        self.beta = Member(self, "beta", 2, settings)
        self.nodes = [self.alpha, self.beta]
        self.gamma = Witness(self, "gamma", 3) if witness else None
        self.members = self.nodes + ([self.gamma] if witness else [])
        self.client = bed.host("client", 10, ["front"])
        self.load = None
        self.direct = {}
        self.order = ["alpha"]  # who was primary, one after the other
        self.write_conf(failover, sections, vip, of_node)

    def write_conf(self, failover, sections, vip, of_node):
        """of_node: what else stands in the section of each node, in which {name} is its name."""
        nodes = ""
        data = ""
        for node in self.nodes:
            addresses = ", ".join(node.host.address(n) for n in node.host.networks)
            nodes += (f"[node {node.name}]\naddress = {addresses}\n"
                      f"conninfo = host={node.host.address('back')} port=5432\n"
                      + of_node.format(name=node.name) + "\n")
            data += (f"[tandemd {node.name}]\nstate_directory = {node.host.disk}/state\n"
                     f"[postgres {node.name}]\ndata_directory = {node.data}\n"
                     f"config_file = {node.etc}/postgresql.conf\nsocket_directory = /run/postgresql\n"
                     f"log_file = {node.log}\n\n")
        if self.gamma:
            nodes += f"[node gamma]\nrole = witness\naddress = {self.gamma.host.address()}\n\n"
            data += f"[tandemd gamma]\nstate_directory = {self.gamma.host.disk}/state\n"
        addresses = f"[vip]\naddress = {VIP[4]}/24 dev front, {VIP[6]}/64 dev front\n" if vip else ""
        with open(self.key, "w", encoding="ascii") as f:
            f.write(os.urandom(32).hex() + "\n")
        os.chmod(self.key, 0o600)
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(CONF.format(key=self.key, nodes=nodes, failover=failover, data=data,
                                vip=addresses + sections))

    # The beginning.

    def make(self):
        """A primary that is alone, and a table for the ledger."""
        self.alpha.initdb()
        self.alpha.ctl("init", "--primary")
        self.beta.ctl("init")
        if self.gamma:
            self.gamma.ctl("init")
        for member in self.members:
            member.start()
        if not self.wait(lambda: self.alpha.state() == "alone", "alpha is primary"):
            raise BedError("alpha does not become primary")
        if not poll(lambda: self.alpha.ask("CREATE EXTENSION IF NOT EXISTS pg_tandem") is not None):
            raise BedError("alpha takes no commands")
        make_table(self.alpha)

    def seed(self):
        """beta gets its copy, and is in sync."""
        self.beta.ctl("seed", "--timeout", "120", timeout=130)
        return self.wait_in_sync(self.alpha)

    def begin(self, rate=100, timeout=500):
        """All of the above, and clients that write."""
        self.make()
        ok(self.seed(), "alpha is primary, beta is seeded, and the two are in sync")
        self.write(rate, timeout)
        ok(self.load.wait_for(50), "clients write through the virtual address")

    def write(self, rate=100, timeout=500):
        self.load = Load(self.client, VIP[4], rate=rate, timeout=timeout)
        for node in self.nodes:
            self.direct[node.name] = Load(self.client, node.host.address(), clients=1, rate=20,
                                          options=PATIENT)

    # Questions.

    def wait(self, condition, what, seconds=PATIENCE):
        """Until it is so; if in vain, say all that is known."""
        if poll(condition, seconds, 0.1):
            return True
        say(f"waited in vain, {seconds} s: {what}")
        self.tell()
        return False

    def tell(self):
        for member in self.members:
            status = member.status()
            say(f"{member.name}: state {status.get('state')}, primary {status.get('primary')}, "
                f"record {status.get('record')}, failover {status.get('failover')}")
            if member is not self.gamma:
                say(f"{member.name}: {status.get('postgres')} vip {status.get('vip')}")
            member.log_tail()

    def wait_in_sync(self, primary, seconds=PATIENCE):
        return self.wait(lambda: primary.state() == "in sync", f"{primary.name} is in sync", seconds)

    def wait_alone(self, primary, seconds=PATIENCE):
        return self.wait(lambda: primary.state() == "alone", f"{primary.name} is alone", seconds)

    def wait_primary(self, node, seconds=PATIENCE):
        """Until it is primary and open; it is then the next one in the order of primaries."""
        good = self.wait(lambda: node.status().get("postgres", {}).get("open") is True
                         and node.status().get("primary") == node.name, f"{node.name} is primary", seconds)
        self.became_primary(node)
        return good

    def became_primary(self, node):
        if self.order[-1] != node.name:
            self.order.append(node.name)

    def other(self, node):
        return self.beta if node is self.alpha else self.alpha

    def writes(self, more=50, seconds=PATIENCE):
        """Until the client of the virtual address has written that much more."""
        if self.load.wait_for(more, seconds):
            return True
        self.tell()
        return False

    def gap(self, since, limit, what):
        """The longest time without service since then, as the client saw it."""
        gap = self.load.longest_gap(since)
        limit += BUSY
        if ok(gap <= limit, f"{what}: {gap:.2f} s without service, at most {limit:.2f} s"):
            return True
        self.tell()
        return False

    # The end.

    def acknowledged_in_turn(self):
        """The nodes in the order in which they acknowledged, one entry for each change."""
        acks = sorted((acked, sent, name) for name, load in self.direct.items() for sent, acked in load.acks())
        turns = []
        for acked, sent, name in acks:
            if not turns or turns[-1][0] != name:
                turns.append([name, acked, acked, 0])
            turns[-1][2] = acked
            turns[-1][3] += 1
        return turns

    def finish(self, nodes=None):
        """Ends the clients and checks the lists; nodes are those that have all, by default both."""
        nodes = self.nodes if nodes is None else nodes
        primary = self.nodes[[n.name for n in self.nodes].index(self.order[-1])]
        loads = [self.load, *self.direct.values()]
        ok(all(load.stop() for load in loads), "the clients end")
        lsn = primary.psql("SELECT pg_current_wal_flush_lsn()", local=False)
        for node in nodes:
            if node is not primary:
                ok(node.wait(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'"), f"{node.name} has replayed all")
        good = all([load.check(*nodes) for load in loads if load.acknowledged() > 0])
        total = sum(load.acknowledged() for load in loads)
        ok(good, f"of {total} acknowledged commits none is lost, on {' and '.join(n.name for n in nodes)}")
        turns = self.acknowledged_in_turn()
        if not ok([t[0] for t in turns] == self.order,
                  f"never two nodes acknowledged: {', '.join(self.order)} in turn"):
            for name, first, last, number in turns:
                say(f"{name}: {number} from {first:.3f} to {last:.3f}")
            self.tell()

    def pause(self, pids):
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

    def resume(self, pids):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass


def now():
    return time.monotonic()
