#!/usr/bin/env python3
"""Other services run where the primary is: they follow it at a switchover and a failover, stay when
tandemd or PostgreSQL is restarted, are started again when they die, and one that cannot be kept
running hands over."""

from netbed import *
from cluster import *

# An OCF agent. The service is a file in the host's /run; "down" beside it makes its start fail.
AGENT = """#!/bin/sh
runs=/run/service.$OCF_RESOURCE_INSTANCE
echo "$(hostname) $OCF_RESOURCE_INSTANCE $1 $OCF_RESKEY_what" >>{log}
case $1 in
	start) [ ! -e $runs.down ] || exit 1; touch $runs ;;
	stop) rm -f $runs ;;
	monitor) [ -e $runs ] || exit 7 ;;
	*) exit 3 ;;
esac
"""

bed = Bed(enter())
log = os.path.join(bed.work, "agent.log")
agent = os.path.join(bed.work, "ocf", "resource.d", "test", "service")
os.makedirs(os.path.dirname(agent))
with open(agent, "w", encoding="utf-8") as f:
    f.write(AGENT.format(log=log))
os.chmod(agent, 0o755)
os.environ["OCF_ROOT"] = os.path.join(bed.work, "ocf")
MODEL = "[resource {0}]\nagent = ocf:test:service\noptions = what={0}\nmonitor_interval = 500ms\nrestart_attempts = 1\n"
cluster = Cluster(bed, sections=MODEL.format("first") + MODEL.format("second") + "on_failure = failover\n")
alpha, beta = cluster.alpha, cluster.beta


def runs(node, *names):
    """Exactly these run there, and tandemctl says so."""
    there = node.host.run(["ls", "/run"]).stdout.split()
    said = {r["name"]: r["text"] for r in node.status().get("resources", [])}
    return (sorted(names) == [n[8:] for n in there if n.startswith("service.") and not n.endswith(".down")]
            and all(said.get(n) == "running" for n in names))


def actions(node):
    """What its agent was told to do, in order."""
    words = [line.split() for line in read(log).split("\n")[:-1]]
    return [f"{name} {action}" for host, name, action, what in words if host == node.name and action != "monitor"]


cluster.begin()
ok(cluster.wait(lambda: runs(alpha, "first", "second"), "they run", 20) and runs(beta),
   "the services run on the primary and not on the standby")
ok(actions(alpha) == ["first start", "second start"] and actions(beta) == [], "started in the order of the file")

alpha.daemon.end()
alpha.start()
ok(cluster.wait_in_sync(alpha) and cluster.writes(), "tandemd is restarted")
os.kill(alpha.postmaster(), signal.SIGKILL)
ok(cluster.writes(), "the postmaster dies and is started again in place")
ok(runs(alpha, "first", "second") and actions(alpha) == ["first start", "second start"], "the services are left alone")

alpha.host.run(["rm", "/run/service.first"])
ok(cluster.wait(lambda: "first start" in actions(alpha)[2:] and runs(alpha, "first", "second"), "it runs again", 20),
   "a service dies: it is started again")
ok(actions(alpha)[2:] == ["first stop", "first start"], "stopped for certain, then started, and the other one not")

ok(cluster.wait_in_sync(alpha), "in sync")
begin = now()
alpha.ctl("switchover")
ok(cluster.wait_primary(beta) and cluster.writes(), "a switchover")
ok(cluster.wait(lambda: runs(beta, "first", "second") and runs(alpha), "they have moved", 20), "the services move with it")
ok(actions(alpha)[4:] == ["second stop", "first stop"], "stopped in the reverse order")
ok(actions(beta) == ["first start", "second start"], "started in order")

ok(cluster.wait_in_sync(beta), "in sync again by itself")
begin = now()
beta.host.run(["touch", "/run/service.second.down"])
beta.host.run(["rm", "/run/service.second"])
ok(cluster.wait_primary(alpha) and cluster.writes(), "one that shall hand over cannot be kept running: handed over")
cluster.gap(begin, 3, "handed over")
ok(cluster.wait(lambda: runs(alpha, "first", "second"), "they run", 20), "the services run there")
ok(cluster.wait(lambda: runs(beta), "none is left", 20), "and no more where they were")
beta.host.run(["rm", "/run/service.second.down"])

ok(cluster.wait_in_sync(alpha), "in sync again by itself")
alpha.crash()
ok(cluster.wait_primary(beta) and cluster.writes(), "the primary's host dies")
ok(cluster.wait(lambda: runs(beta, "first", "second"), "they run", 20), "the services run on the other one")
alpha.boot()
ok(cluster.wait_in_sync(beta) and runs(alpha), "it boots: standby in sync, without services")
cluster.finish()
done()
