# A pair of pg_tandem in two virtual machines: what the tests here have in common.
#
# Both data directories are made on this computer, where that takes seconds, and then lie on
# the disks of the machines: a is the primary, b its standby. The machines have soft-RoCE, so
# that the link can use RDMA.
# shellcheck shell=bash
# shellcheck source=test/vm/machines.sh
. "$(dirname "${BASH_SOURCE[0]}")/machines.sh"

set -u
number=0
failures=0
bindir=$("${PG_CONFIG:-pg_config}" --bindir)
ledger=$(command -v ledger)
as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups env "PATH=$bindir:$PATH")

die() {
	echo "not ok - $*"
	exit 1
}

# ok SENTENCE COMMAND ...: a TAP line.
ok() {
	local sentence=$1

	shift
	number=$((number + 1))
	if "$@"; then
		echo "ok $number - $sentence"
	else
		echo "not ok $number - $sentence"
		failures=$((failures + 1))
	fi
}

note() {
	sed 's/^/# /' <<<"$*"
}

# Ends the test where there can be no machines. KEEP=DIRECTORY keeps what they wrote.
prepare_tests() {
	local why

	why=$(why_no_machines)
	if [ -n "$why" ]; then
		echo "ok 1 - virtual machines # skip $why"
		echo "1..1"
		exit 0
	fi
	find_kernel
	machines=$(mktemp -d "${TMPDIR:-/tmp}/vm.XXXXXX")
	chmod 755 "$machines"
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	prepare_machines
}

# Machines, with soft-RoCE and a server in each, in sync by RDMA. SETTINGS are the primary's.
begin_tests() {
	prepare_tests
	make_directories "$@"
	ok "two machines are up, each with soft-RoCE and a server" start_pair
	[ "$failures" -eq 0 ] || { show && exit 1; }
	ok "the pair is in sync" in_sync
	ok "the WAL goes by RDMA" transport_is rdma
	note "$(sql a "SELECT transport_reason, rdma_memory FROM tandem.links")"
}

clean_up() {
	end_machines
	if [ -n "${KEEP:-}" ]; then
		rm -f "$machines"/disk-* "$machines/vmlinux" "$machines/initrd"
		rm -rf "$KEEP"
		cp -r "$machines" "$KEEP"
	fi
	rm -rf "$machines"
}

end_tests() {
	echo "1..$number"
	echo "# $SECONDS s"
	[ "$failures" -eq 0 ]
}

# ---------------------------------------------------------------- directories

# make_directories [SETTINGS]: the two data directories, in $machines/data-a and -b.
make_directories() {
	local a=$machines/data-a/pg b=$machines/data-b/pg

	mkdir -p "$machines/data-a" "$machines/data-b"
	chown postgres: "$machines" "$machines/data-a" "$machines/data-b"
	(
		cd "$machines"
		mkdir -p "$machines/shared"
		"${as_postgres[@]}" initdb -N -A trust -E UTF8 --locale=C -D "$a"
		cat >>"$a/postgresql.conf" <<-CONF
			listen_addresses = '192.168.77.1, 192.168.77.2'
			unix_socket_directories = '/tmp'
			shared_preload_libraries = 'pg_tandem'
			synchronous_standby_names = 'tandem'
			tandem.listen_addresses = '0.0.0.0'
			tandem.node_name = 'a'
			tandem.tls = off
			max_connections = 30
			shared_buffers = 32MB
			max_wal_size = 256MB
			wal_retrieve_retry_interval = 100ms
			wal_keep_size = 128MB
			checkpoint_timeout = 30min
			log_line_prefix = '%m [%b] '
			$*
		CONF
		echo "host all,replication all 192.168.77.0/24 trust" >>"$a/pg_hba.conf"
		local options=(-o "-c listen_addresses= -c unix_socket_directories=$machines -c fsync=off \
			-c tandem.listen_addresses=127.0.0.1 -c tandem.port=$machine_port -p 5432")
		"${as_postgres[@]}" pg_ctl -w -s -D "$a" -l "$machines/data-a/log" "${options[@]}" start
		export PGHOST=$machines PGPORT=5432 PGUSER=postgres PGOPTIONS="-c synchronous_commit=local"
		psql -X -q -d postgres -c "CREATE EXTENSION pg_tandem" \
			-c "SELECT pg_create_physical_replication_slot('b')" >/dev/null
		"$bindir/pgbench" -q -i -s 2 postgres
		"$ledger" init --conninfo dbname=postgres
		"${as_postgres[@]}" pg_basebackup -D "$b" -R -S b -c fast -h "$machines" -d "host=$machines application_name=b"
		"${as_postgres[@]}" pg_ctl -w -s -D "$a" -m fast stop
		sed -i "/primary_conninfo/d" "$b/postgresql.auto.conf"
		{
			echo "primary_conninfo = 'host=192.168.77.1 user=postgres application_name=b'"
			echo "tandem.node_name = 'b'"
		} >>"$b/postgresql.auto.conf"
	) >"$machines/directories.log" 2>&1 || {
		cat "$machines/directories.log"
		die "could not make the data directories"
	}
}

# --------------------------------------------------------------------- the pair

# In both machines: loads the drivers, makes soft-RoCE, starts the server.
roce="modprobe -a ib_uverbs rdma_rxe && rdma link add rxe0 type rxe netdev eth0"
pg_ctl="setpriv --reuid=postgres --regid=postgres --init-groups $bindir/pg_ctl -D /data/pg -l /data/log"

start_pair() {
	start_machine a "$machines/data-a"
	start_machine b "$machines/data-b"
	for name in a b; do
		begin "$name" "$roce; ulimit -l unlimited; chown postgres: /data; $pg_ctl -w -s start"
	done
	finish a && finish b
}

# sql NAME QUERY: its answer, or nothing. What it writes waits for nobody.
sql() {
	on "$1" "PGOPTIONS='-c synchronous_commit=local' $bindir/psql -X -A -t -h /tmp -U postgres -d postgres -c \"$2\" 2>&1"
}

# until_sql SECONDS NAME QUERY: until it answers t. The query is repeated in the machine.
until_sql() {
	on "$2" "end=\$((SECONDS + $1))
		while [ \$SECONDS -lt \$end ]; do
			answer=\$(PGOPTIONS='-c synchronous_commit=local' $bindir/psql -X -A -t -h /tmp -U postgres -d postgres -c \"$3\" 2>&1)
			[ \"\$answer\" = t ] && exit 0
			sleep 0.2
		done
		echo \"\$answer\"
		exit 1" >"$machines/answer" && return 0
	note "$2: $3: $(tail -n 5 "$machines/answer")"
	show
	return 1
}

# What the two say, for whoever has to find out what went wrong.
show() {
	local name

	for name in a b; do
		machine_runs "$name" || continue
		note "$name: $(sql "$name" "SELECT l.* FROM (SELECT name, transport, transport_reason, state, \
			connects, last_error, rdma_completions, rdma_fallbacks, rdma_last_fallback \
			FROM tandem.links) l")"
		note "$name: $(sql "$name" "SELECT state, transport, transport_reason, last_error, rdma_completions FROM tandem.receiver")"
		note "$name: $(tail -n 3 "$machines/$name/console")"
		note "$name: $(on "$name" "tail -n 15 /data/log; dmesg | tail -n 3")"
	done
}

transport_is() {
	until_sql "${2:-60}" a "SELECT count(*) = 1 FROM tandem.links WHERE state = 'streaming' AND transport = '$1'" &&
		until_sql 20 b "SELECT count(*) = 1 FROM tandem.receiver WHERE state = 'streaming' AND transport = '$1'"
}

in_sync() {
	until_sql "${1:-60}" a "SELECT state = 'in sync' FROM tandem.status"
}

# start_load: synchronous inserts on a; what was acknowledged is in $machines/shared,
# outside of both machines.
start_load() {
	on a "$ledger run --conninfo 'host=/tmp user=postgres dbname=postgres' --clients 4 --sync-commit on \
		--file /shared/ledger >/data/ledger.log 2>&1 & echo \$! >/data/ledger.pid" >/dev/null
}

acknowledged() {
	if [ -f "$machines/shared/ledger" ]; then
		wc -l <"$machines/shared/ledger"
	else
		echo 0
	fi
}

# goes_on COUNT [SECONDS]: so many more commits are acknowledged.
goes_on() {
	local goal=$(($(acknowledged) + $1)) end=$((SECONDS + ${2:-60}))

	until [ "$(acknowledged)" -ge "$goal" ]; do
		[ "$SECONDS" -lt "$end" ] || { show && return 1; }
		sleep 0.2
	done
}

stop_load() {
	on a "kill \$(cat /data/ledger.pid); while kill -0 \$(cat /data/ledger.pid); do sleep 0.2; done" \
		>/dev/null 2>&1
	return 0
}

# On NAME: every acknowledged commit is there.
none_lost() {
	local said

	if said=$(on "$1" "$ledger check --conninfo 'host=/tmp user=postgres dbname=postgres' --file /shared/ledger"); then
		note "$said"
	else
		note "$said"
		return 1
	fi
}

# Both have the same rows. The standby has to have replayed what the primary has flushed.
same_data() {
	local lsn query="SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM \$t t" a b

	lsn=$(sql a "SELECT pg_current_wal_flush_lsn()")
	until_sql 60 b "SELECT pg_last_wal_replay_lsn() >= '$lsn'" || return 1
	for table in pgbench_accounts pgbench_tellers pgbench_branches pgbench_history ledger; do
		a=$(sql a "${query//\$t/$table}")
		b=$(sql b "${query//\$t/$table}")
		if [ "$a" != "$b" ] || [ ${#a} -gt 40 ]; then
			note "$table: $a and $b"
			return 1
		fi
	done
}
