# pg_tandem: build with PGXS.  PG_CONFIG chooses the PostgreSQL installation.

MODULE_big = pg_tandem
EXTENSION = pg_tandem
DATA = extension/pg_tandem--0.1.sql
DOCS =

OBJS = \
	extension/accept.o \
	extension/backlog.o \
	extension/capture.o \
	extension/event.o \
	extension/exposure.o \
	extension/gate.o \
	extension/got.o \
	extension/handshake.o \
	extension/hostcrash.o \
	extension/incarnation.o \
	extension/lag.o \
	extension/lease.o \
	extension/linkopts.o \
	extension/listen.o \
	extension/offer.o \
	extension/pg_tandem.o \
	extension/priority.o \
	extension/rcvanswer.o \
	extension/rcvoffer.o \
	extension/rcvflush.o \
	extension/rcvring.o \
	extension/rcvtail.o \
	extension/rcvwal.o \
	extension/rdma.o \
	extension/receiver.o \
	extension/sender.o \
	extension/sendring.o \
	extension/slot.o \
	extension/sqlfuncs.o \
	extension/uplink.o \
	extension/walfile.o \
	extension/walk.o \
	extension/watchdog.o \
	link/auth.o \
	link/compress.o \
	link/conn.o \
	link/frame.o \
	link/options.o \
	link/ring.o \
	link/strip.o \
	link/switch.o \
	link/tcp.o \
	link/tls.o \
	link/tune.o \
	watchdog/copy_file.o \
	watchdog/gate_rule.o \
	watchdog/lease_file.o \
	watchdog/link_rule.o

REGRESS = settings surface

PG_CONFIG ?= pg_config

# RDMA needs libibverbs; without it links use TCP only.  WITH_RDMA=no leaves it out.
WITH_RDMA ?= $(shell cc -E -include infiniband/verbs.h -x c /dev/null >/dev/null 2>&1 && echo yes)
ifeq ($(WITH_RDMA),yes)
OBJS += link/rdma.o
RDMA_LIBS = -libverbs
else
OBJS += link/rdma_none.o
endif

# The server's headers are not ours to mend: as system headers they do not warn.
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server) \
	-isystem $(shell $(PG_CONFIG) --includedir) -I$(srcdir) -I. -I$(srcdir)/extension
PG_CFLAGS = -Wall -Wextra -Werror -Wno-declaration-after-statement
SHLIB_LINK = -lpq -lssl -lcrypto -llz4 -lzstd -ldl $(RDMA_LIBS)

# No bitcode: nothing here is worth inlining into a query.
override with_llvm = no

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(OBJS): $(wildcard extension/*.h link/*.h watchdog/*.h)

# The remaining tests: scripts/test says how each part is run.
.PHONY: check-unit format
check-unit:
	$(MAKE) -C test/unit check

format:
	clang-format -i extension/*.[ch] link/*.[ch] watchdog/*.[ch]
