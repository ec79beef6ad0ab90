#!/usr/bin/env python3
"""tandemd of the primary is killed and does not come back: the address is gone when the lease is,
PostgreSQL is stopped by its own extension, and the standby takes over. At no instant do two hosts
have the address. When tandemd comes back the node is standby by itself."""

import threading

from netbed import *
from cluster import *

LEASE = 3

bed = Bed(enter())
cluster = Cluster(bed)
alpha, beta = cluster.alpha, cluster.beta
cluster.begin()
ok(alpha.has_vip() and alpha.has_vip(6), "alpha has the virtual addresses")


def lifetimes(node):
    """Seconds that the kernel keeps each of them, if they are not renewed."""
    words = node.host.run(["ip", "address", "show", "dev", "front"]).stdout.split("\n")
    found = []
    for line, after in zip(words, words[1:]):
        if VIP[4] + "/" in line or VIP[6] + "/" in line:
            found.append(after.split()[1])
    return found


ok(len(lifetimes(alpha)) == 2 and all(t.endswith("sec") and int(t[:-3]) <= LEASE for t in lifetimes(alpha)),
   f"the kernel keeps them for a lease at most: {', '.join(lifetimes(alpha))}")

# Both hosts' addresses, each looked at as often as possible.
seen = {alpha.name: [], beta.name: []}
over = threading.Event()


def look(node):
    while not over.is_set():
        before = now()
        try:
            seen[node.name].append((before, node.has_vip() or node.has_vip(6), now()))
        except BedError:
            pass


lookers = [threading.Thread(target=look, args=(n,)) for n in (alpha, beta)]
for looker in lookers:
    looker.start()

begin = now()
alpha.daemon.kill(signal.SIGKILL)
gone = poll(lambda: not alpha.has_vip() and not alpha.has_vip(6), LEASE + 2)
ok(gone and now() - begin <= LEASE + 0.5,
   f"tandemd is killed: the addresses are gone {now() - begin:.1f} s later, a lease is {LEASE} s")
ok(cluster.wait(lambda: not alpha.postgres_processes(), "PostgreSQL has ended"),
   "PostgreSQL is stopped, although nobody is there to do it")
ok(cluster.wait_primary(beta) and cluster.writes(), "beta takes over, and the clients write")
cluster.gap(begin, LEASE + 2.5, "tandemd is killed for good")
over.set()
for looker in lookers:
    looker.join()
last = max((end for _, had, end in seen[alpha.name] if had), default=0)
first = min((start for start, had, _ in seen[beta.name] if had), default=0)
ok(first > last > begin, f"at no instant had both the address: beta has it {first - last:.2f} s after alpha had")
ok(not alpha.has_vip() and beta.has_vip() and beta.has_vip(6), "beta has both")

alpha.start()
ok(cluster.wait_in_sync(beta), "tandemd starts again: alpha is standby in sync by itself")
ok(cluster.writes(), "the clients write")
cluster.finish()
done()
