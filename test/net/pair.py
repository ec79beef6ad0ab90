"""Two PostgreSQL servers on a test bed, and the clients that write to them.

Node is a host with a PostgreSQL server. Its configuration lies beside the data directory, as
Debian has it, so that a copy of the data directory does not make it another node. Load is
test/client/ledger, which keeps a list of the commits that were acknowledged to it.
"""

import os

from netbed import PATIENCE, TOP, BedError, poll, read, run, say

PG_CONFIG = os.environ.get("PG_CONFIG", "/usr/lib/postgresql/15/bin/pg_config")
BIN = os.path.dirname(PG_CONFIG) + "/"
LEDGER = os.path.join(TOP, "test", "client", "ledger")

SETTINGS = """
data_directory = '{data}'
hba_file = '{etc}/pg_hba.conf'
ident_file = '{etc}/pg_ident.conf'
listen_addresses = '*'
port = 5432
unix_socket_directories = '/run/postgresql'
cluster_name = '{name}'
max_connections = 100
shared_buffers = 32MB
wal_keep_size = 0
max_wal_size = 1GB
checkpoint_timeout = 1h
wal_log_hints = on
wal_retrieve_retry_interval = 100ms
log_line_prefix = '%m [%p] %b '
log_min_messages = log
logging_collector = off
shared_preload_libraries = 'pg_tandem'
synchronous_standby_names = 'tandem'
tandem.node_name = '{name}'
"""

HBA = """
local all all trust
local replication all trust
host all all 10.77.0.0/16 trust
host all all fd77::/16 trust
host replication all 10.77.0.0/16 trust
host replication all fd77::/16 trust
"""


class Node:
    """A host with a PostgreSQL server that nobody but the test starts and stops."""

    def __init__(self, bed, name, number, settings=""):
        self.name = name
        self.host = bed.host(name, number)
        self.data = os.path.join(self.host.disk, "data")
        self.etc = os.path.join(self.host.disk, "etc")
        self.log = os.path.join(self.host.disk, "postgresql.log")
        os.mkdir(self.etc)
        for file, text in (
            ("postgresql.conf", SETTINGS.format(name=name, data=self.data, etc=self.etc) + settings),
            ("pg_hba.conf", HBA),
            ("pg_ident.conf", ""),
        ):
            with open(os.path.join(self.etc, file), "w", encoding="utf-8") as f:
                f.write(text)
        run(["chown", "-R", "postgres:", self.host.disk])
        # tandemd's state_directory is to be here: root's, but for what user postgres makes.
        run(["chown", "root:postgres", self.host.disk, os.path.join(self.host.disk, "init.log")])
        os.chmod(self.host.disk, 0o1775)

    def command(self, *argv, **options):
        """A program of PostgreSQL's, as user postgres on this host."""
        return self.host.run([BIN + argv[0], *argv[1:]], user="postgres", cwd="/", **options)

    # The server.

    def initdb(self):
        self.command("initdb", "-A", "trust", "-E", "UTF8", "--locale=C", "-D", self.data)

    def basebackup(self, primary):
        self.command("pg_basebackup", "-R", "--checkpoint=fast", "--no-sync", "-C", "--slot", self.name,
                     "-D", self.data, "-d", f"host={primary.host.address('back')} user=postgres")

    def pg_ctl(self, *argv, **options):
        return self.command("pg_ctl", "-w", "-s", "-D", self.data, "-l", self.log,
                            "-o", f"-c config_file={self.etc}/postgresql.conf", *argv, **options)

    def postmaster(self):
        """The postmaster's process as the test sees it, or None."""
        pid = read(os.path.join(self.data, "postmaster.pid")).split("\n")[0]
        return self.host.processes().get(int(pid)) if pid else None

    def postgres_processes(self):
        """All processes of the server, by their current directory."""
        found = []
        for pid in self.host.processes().values():
            try:
                if os.readlink(f"/proc/{pid}/cwd") == self.data:
                    found.append(pid)
            except OSError:
                pass  # it has ended
        return found

    def signal(self, number, pids=None):
        """To all processes of the server, or those given."""
        for pid in self.postgres_processes() if pids is None else pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    # Questions to it.

    def psql(self, sql, check=True, local=True, timeout=20):
        """What a query gives, tuples only. A commit made here does not wait, with local."""
        options = "-c synchronous_commit=local" if local else ""
        result = self.command(
            "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "/run/postgresql", "-d", "postgres", "-c", sql,
            check=check, timeout=timeout, env={**os.environ, "PGOPTIONS": options, "PGCONNECT_TIMEOUT": "5"})
        return result.stdout.strip() if result.returncode == 0 else None

    def ask(self, sql):
        """The same, or None if there is no answer."""
        try:
            return self.psql(sql, check=False, timeout=5) if self.host.up() else None
        except BedError:
            return None  # it hangs

    def wait(self, sql, seconds=PATIENCE):
        """Until the query gives "t"."""
        if poll(lambda: self.ask(sql) == "t", seconds, 0.1):
            return True
        say(f"waited in vain on {self.name} for: {sql}")
        for view in ("status", "links", "receiver", "events"):
            say(f"tandem.{view}: {self.ask(f'SELECT * FROM tandem.{view}')}")
        return False

    def wait_state(self, state, seconds=PATIENCE):
        return self.wait(f"SELECT state = '{state}' FROM tandem.status", seconds)

    def is_primary(self):
        return self.ask("SELECT NOT pg_is_in_recovery()") == "t"

    def held(self):
        """How many sessions wait for synchronous replication."""
        return int(self.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") or 0)


class Load:
    """Inserts by the program ledger, from a host, until told to end.

    Which commits were acknowledged, and when, is known from outside of the database. Times are
    seconds of time.monotonic(). With timeout (ms) a client gives up what is not answered in time.
    """

    count = 0

    def __init__(self, host, address, clients=2, rate=None, timeout=None, options="", user="app"):
        if not os.access(LEDGER, os.X_OK):
            raise BedError(f"there is no {LEDGER}: run make in test/client")
        Load.count += 1
        self.host = host
        self.file = os.path.join(host.disk, f"ledger.{Load.count}")
        self.log = self.file + ".log"
        conninfo = f"host={address} user={user} dbname=postgres {options}"
        argv = [LEDGER, "run", "--conninfo", conninfo, "--file", self.file, "--times", self.file + ".times",
                "--clients", str(clients), "--first", str(100 * Load.count)]
        if rate:
            argv += ["--rate", str(rate)]
        if timeout:
            argv += ["--timeout", str(timeout)]
        self.process = host.start(argv, self.log)

    def acks(self):
        """(sent, acknowledged) of each commit, in the order of the acknowledgements."""
        found = []
        for line in read(self.file + ".times").split("\n")[:-1]:
            sent, acked = line.split()[2:]
            found.append((int(sent) / 1e6, int(acked) / 1e6))
        return found

    def acknowledged(self):
        return read(self.file).count("\n")

    def wait_for(self, more, seconds=PATIENCE):
        """Until that many more commits have been acknowledged."""
        wanted = self.acknowledged() + more
        if poll(lambda: self.acknowledged() >= wanted, seconds):
            return True
        say(f"the load does not go on: {self.acknowledged()} of {wanted}; {read(self.log)}")
        return False

    def longest_gap(self, since=0, until=float("inf")):
        """The longest time without an acknowledgement, in seconds, that ended after since."""
        longest = 0
        last = None
        for _, acked in self.acks():
            if last is not None and since <= acked and last <= until:
                longest = max(longest, acked - last)
            last = acked
        return longest

    def stop(self):
        """Ends it; true if it went well."""
        good = self.process.end() == 0
        say(read(self.log))
        return good

    def check(self, *nodes):
        """True if each node has every commit that was acknowledged."""
        good = True
        for node in nodes:
            result = node.host.run(
                [LEDGER, "check", "--conninfo", "host=/run/postgresql user=postgres dbname=postgres",
                 "--file", self.file], check=False)
            say(f"on {node.name}: {result.stdout}")
            good = good and result.returncode == 0
        return good


def make_table(node):
    """The clients' table; theirs is an ordinary role."""
    node.psql("CREATE ROLE app LOGIN; CREATE TABLE ledger (client int, seq bigint, PRIMARY KEY (client, seq)); "
              "ALTER TABLE ledger OWNER TO app", local=False)
