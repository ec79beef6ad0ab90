#!/usr/bin/env python3
"""The test bed itself: networks, faults, and the loss of a host."""

from netbed import *

ECHO = """
import socket, sys, threading
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", 7000))
def answer():
    while True:
        data, peer = udp.recvfrom(100)
        udp.sendto(data, peer)
threading.Thread(target=answer, daemon=True).start()
tcp = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
kept = []
while True:
    kept.append(tcp.accept())
"""

ASK = """
import socket, sys
address, kind = sys.argv[1:]
try:
    if kind == "tcp":
        socket.create_connection((address, 7000), timeout=0.7)
    else:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.settimeout(0.7)
        s.connect((address, 7000))
        s.send(b"?")
        s.recv(100)
    print("yes")
except socket.timeout:
    print("silence")
except OSError as e:
    print(e.strerror)
"""


def ask(sender, receiver, network="front", family=4, kind="udp"):
    return sender.run([sys.executable, "-c", ASK, receiver.address(network, family), kind]).stdout.strip()


bed = Bed(enter())
alpha = bed.host("alpha", 1)
beta = bed.host("beta", 2)
gamma = bed.host("gamma", 3, ["front"])
for host in bed.hosts.values():
    host.start([sys.executable, "-c", ECHO], "echo.log")
poll(lambda: all(ask(h, h) == "yes" for h in bed.hosts.values()), 10)

ok(all(ask(alpha, beta, n, f, k) == "yes" for n in NETWORKS for f in (4, 6) for k in ("udp", "tcp")),
   "hosts reach each other on both networks")
ok(alpha.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout
   != beta.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout, "each host has a boot id of its own")

bed.drop(alpha, beta, "back")
ok(ask(alpha, beta, "back") == "silence" and ask(alpha, beta) == "yes",
   "a cut on one network leaves the other one alone")
bed.restore()
bed.drop(alpha, beta)
ok(ask(alpha, beta) == "silence" and ask(beta, alpha, kind="tcp") == "silence"
   and ask(alpha, gamma) == "yes", "what is dropped in one direction is not told to anybody")
bed.restore()
bed.reject(alpha, beta)
ok(ask(alpha, beta) == "Connection refused" and ask(alpha, beta, "back", 6, "tcp") == "Connection refused",
   "what is rejected is told to the sender at once")
bed.restore()
alpha.unplug("front")
ok(ask(alpha, gamma) in ("silence", "No route to host") and ask(alpha, beta, "back") == "yes",
   "a cable can be pulled out")
alpha.plug()
ok(poll(lambda: ask(alpha, gamma) == "yes", 10) and ask(alpha, beta, kind="tcp") == "yes",
   "all faults can be undone")

before = alpha.processes()
boot_id = alpha.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout
alpha.crash()
ok(not any(os.path.exists(f"/proc/{pid}") for pid in before.values()), "with a host every process is gone")
ok(ask(beta, alpha, kind="tcp") in ("silence", "No route to host"), "and its address is")
alpha.boot()
ok(ask(alpha, beta) == "yes" and len(alpha.processes()) < len(before), "it boots, with nothing running")
ok(alpha.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout != boot_id, "and with another boot id")
done()
