/*
 * memory.c
 *		tandemd stays small: what only its start needed is let go.
 *
 * Starting runs through much of the libraries that libpq brings along (TLS, Kerberos, LDAP), most of
 * which is never used again.  Their program text is clean and comes back from the page cache when
 * it is needed after all; giving it back is safe at any time.  Data is not touched: it may have been
 * relocated.
 */
#include <link.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "manager.h"

#define AFTER_START UINT64_C(5000000)   /* us */
#define AGAIN       UINT64_C(300000000) /* after a failover or a seed there is more again */

static int
drop_text(struct dl_phdr_info *object, size_t size, void *user)
{
	uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);

	(void) size;
	(void) user;
	for (int i = 0; i < object->dlpi_phnum; i++)
	{
		const ElfW(Phdr) *p = &object->dlpi_phdr[i];
		uintptr_t from = (object->dlpi_addr + p->p_vaddr + page - 1) & ~(page - 1);
		uintptr_t to = (object->dlpi_addr + p->p_vaddr + p->p_memsz) & ~(page - 1);

		if (p->p_type == PT_LOAD && (p->p_flags & (PF_X | PF_W)) == PF_X && from < to)
			(void) madvise((void *) from, to - from, MADV_DONTNEED);
	}
	return 0;
}

static int
started(sd_event_source *source, uint64_t usec, void *user)
{
	(void) user;
	dl_iterate_phdr(drop_text, NULL);
	(void) sd_event_source_set_time(source, usec + AGAIN);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

void
manager_save_memory(Manager *m)
{
	(void) sd_event_add_time_relative(m->event, NULL, CLOCK_BOOTTIME, AFTER_START, 1000000, started,
									  NULL);
}
