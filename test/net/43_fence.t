#!/usr/bin/env python3
"""Two nodes with fence agents and no witness: a silent peer is powered off, and then, once that is
confirmed, done without. With an agent that fails nobody takes over. The same with profile dr, where
the time for a confirmation comes first, and a primary that was off has to hear the other one."""

import threading

from netbed import *
from cluster import *

AGENT = """#!/bin/sh
# As a fence agent: nodename and action on standard input; the switch is in the test program.
cd {power} || exit 1
me=$(hostname).$$
rm -f "$me.answer" # to a process of this number before the host booted
cat >"$me.in"
node=$(sed -n 's/^nodename=//p' "$me.in") action=$(sed -n 's/^action=//p' "$me.in")
mv "$me.in" "$me.$node.$action.ask"
for i in $(seq 200); do
	[ ! -e "$me.answer" ] || exit "$(cat "$me.answer")"
	sleep 0.05
done
echo "no answer from the power switch" >&2
exit 1
"""

bed = Bed(enter())
power = os.path.join(bed.work, "power")
os.mkdir(power)
agent = os.path.join(power, "fence_test")
with open(agent, "w", encoding="utf-8") as f:
    f.write(AGENT.format(power=power))
os.chmod(agent, 0o755)
cluster = Cluster(bed, SHORT + "peer_timeout = 1s\n", witness=False,
                  of_node=f"fence = {agent}\nfence_options = plug={{name}}\n")
alpha, beta = cluster.alpha, cluster.beta

unreachable = set()  # hosts that cannot reach the power switch
asked = []  # (time, who, whom, action, answer)


def switch():
    """The power switch: looks for requests until the program ends."""
    while True:
        for name in sorted(os.listdir(power)):
            if not name.endswith(".ask"):
                continue
            who, number, whom, action = name.split(".")[:4]
            host = bed.hosts[whom]
            answer = 1
            if who not in unreachable:
                if action == "off":
                    host.off()
                answer = 0 if action == "off" or host.up() else 2
            asked.append((now(), who, whom, action, answer))
            os.unlink(os.path.join(power, name))
            with open(os.path.join(power, "answer.new"), "w", encoding="ascii") as file:
                file.write(f"{answer}\n")
            os.rename(os.path.join(power, "answer.new"), os.path.join(power, f"{who}.{number}.answer"))
        time.sleep(0.02)


threading.Thread(target=switch, daemon=True).start()
cluster.begin()
ok(alpha.status()["failover"]["possible"], "a failover is possible")

# The primary's host is cut off, and lives.
unreachable.add("alpha")
begin = now()
alpha.host.unplug()
ok(cluster.wait_primary(beta) and cluster.writes(), "the primary is cut off: the standby takes over")
ok(not alpha.host.up(), "not before the primary's host is powered off")
ok([a[1:] for a in asked if a[1] == "beta"] == [("beta", "alpha", "off", 0), ("beta", "alpha", "status", 2)],
   f"its fence agent was told off, then asked: {[a[1:] for a in asked]}")
cluster.gap(begin, 3 + 2.5, "powered off")
unreachable.clear()
asked.clear()
alpha.boot()
ok(cluster.wait_in_sync(beta), "it boots: standby in sync by itself")
ok(cluster.writes(), "the clients write")

# The standby's host dies.
begin = now()
alpha.crash()
ok(cluster.wait_alone(beta) and cluster.writes(), "the standby's host dies: the primary goes on alone")
ok(("beta", "alpha", "status", 2) in [a[1:] for a in asked], "once its fence agent says that it is off")
cluster.gap(begin, 1 + 3, "the standby's host dies")
alpha.boot()
ok(cluster.wait_in_sync(beta), "it boots: in sync again by itself")

# The power switch does not answer.
unreachable.add("alpha")
begin = now()
beta.crash()
ok(cluster.wait(lambda: "not confirmed off" in alpha.events(), "the agent fails", 20),
   "the primary's host dies and the power switch fails: it is told")
ok(stays(lambda: not alpha.is_primary(), 3), "the standby does not take over, for longer than a lease")
asked.clear()
unreachable.clear()
ok(cluster.wait_primary(alpha) and cluster.writes(), "the power switch is repaired: the standby takes over")
ok([a[3:] for a in asked][:2] == [("off", 0), ("status", 2)], f"after it was asked again: {[a[1:] for a in asked]}")
beta.boot()
ok(cluster.wait_in_sync(alpha), "in sync again by itself")
cluster.finish()

# The same two as DR: the time for a confirmation first, then the power switch.  The lease is longer:
# that of a primary that is alone ends unless the agent has answered, which on a busy machine may take
# longer than the rest of a short one.
LEASE = 5
text = read(cluster.conf).replace("lease = 3s\n", f"lease = {LEASE}s\n").replace("[failover]\n", """[failover]
profile = dr
confirm_timeout = 2s
confirm_default = failover
""")
with open(cluster.conf, "w", encoding="utf-8") as f:
    f.write(text)
for node in cluster.nodes:
    with open(os.path.join(node.etc, "postgresql.conf"), "a", encoding="utf-8") as f:
        f.write("tandem.async_links = 'alpha,beta'\n")
    node.psql("SELECT pg_reload_conf()")
    node.daemon.end()
for node in cluster.nodes:
    node.start()
ok(cluster.wait_alone(alpha), "DR: alpha is primary, and waits for nobody")
lsn = alpha.psql("SELECT pg_current_wal_flush_lsn()")
ok(beta.wait(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'"), "beta has everything")
unreachable.add("beta")
asked.clear()
begin = now()
alpha.crash()
ok(poll(lambda: "when the fence agent says that the primary's host is off" in beta.ctl("status", check=False).stdout, 30),
   "DR: the primary's host dies: the countdown tells that the fence agent will be asked")
ok(poll(lambda: ("beta", "alpha", "off", 1) in [a[1:] for a in asked], 20) and asked[0][0] - begin > 2,
   f"it is asked after confirm_timeout ({asked[0][0] - begin:.1f} s)" if asked else "it is asked")
ok(not beta.is_primary(), "the power switch fails: nobody takes over")
asked.clear()
unreachable.clear()
ok(cluster.wait_primary(beta), "it is repaired: the other site takes over by itself")
ok([a[1:] for a in asked][:2] == [("beta", "alpha", "off", 0), ("beta", "alpha", "status", 2)],
   "once the fence agent says that the primary's host is off")
ok(beta.status()["record"]["lossy"] is True, "the record says that commits may be lost")

# Now the one that took over is off, when the old primary boots: it knows of nobody else in the
# record, but not who took over meanwhile.
beta.psql("CREATE TABLE taken_over (t int)")
beta.crash()
asked.clear()
alpha.boot()
ok(cluster.wait(lambda: "may have been primary since" in str(alpha.status().get("failover")), "alpha is up"),
   "the old primary boots while the new one is off: the status tells why it waits")
ok(stays(lambda: not alpha.is_primary(), LEASE) and asked == [], "it waits, and powers nobody off")
beta.boot()
ok(cluster.wait_primary(beta) and beta.ask("SELECT count(*) FROM taken_over") == "0",
   "the new one boots: it is primary, with all that it had acknowledged")

# A primary that is alone needs the other voter's vote, too.
lsn = beta.psql("SELECT pg_current_wal_flush_lsn()")
ok(alpha.wait(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'"), "the old one follows it")
asked.clear()
begin, pid = now(), beta.postmaster()
alpha.crash()
ok(poll(lambda: ("beta", "alpha", "status", 2) in [a[1:] for a in asked], 20), "the other site's host dies: it is fenced")
lives = stays(lambda: beta.postmaster() == pid, max(begin + LEASE + 1 - now(), 1))
state = beta.state()
if not ok(lives and state == "alone", "the primary does not stop, while its lease lasts or after"):
    say(f"postmaster {pid}, then {beta.postmaster()}; state {state}; asked after the crash began: "
        + ", ".join(f"{action} {answer} {at - begin:.2f} s" for at, _, _, action, answer in asked))
    cluster.tell()
done()
