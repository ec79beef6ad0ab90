/*-------------------------------------------------------------------------
 *
 * got.c
 *	  Replace a function that the main program calls.
 *
 * A dynamically linked program calls imported functions through its global
 * offset table (GOT), one entry for each.  The dynamic linker fills an entry
 * at start (a "fully bound" program: -z now) or at the first call (lazily
 * bound), as told by relocations of the types JUMP_SLOT (DT_JMPREL, calls) and
 * GLOB_DAT (DT_RELA, addresses taken, and calls with -fno-plt).  We look the
 * entries up in these tables and put another address in.  Nothing else in the
 * process changes; other libraries have tables of their own.
 *
 * Two traps.  The old content of an entry must not be taken as the real
 * function: before a lazily bound program's first call it is the resolver's
 * stub, and the resolver would then overwrite our entry.  (got_real() asks
 * the dynamic linker instead.)  And an entry's page is made
 * read-only again only where the linker had made it so, that is if it lies
 * wholly within PT_GNU_RELRO: a lazily bound program's table must stay
 * writable, or the next resolution crashes the process.
 *
 * Knows nothing of PostgreSQL.
 *
 *-------------------------------------------------------------------------
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "got.h"

#if defined(__x86_64__)
#define IS_FUNCTION_ENTRY(type) ((type) == R_X86_64_JUMP_SLOT || (type) == R_X86_64_GLOB_DAT)
#elif defined(__aarch64__)
#define IS_FUNCTION_ENTRY(type) ((type) == R_AARCH64_JUMP_SLOT || (type) == R_AARCH64_GLOB_DAT)
#else
/* elsewhere nothing is found, and WAL is captured at flush */
#define IS_FUNCTION_ENTRY(type) false
#endif

typedef struct Search
{
	const char *name;
	void *replacement;
	int replaced; /* -1: failed */
} Search;

/* The tables of one object that its dynamic section points to. */
typedef struct Tables
{
	const char *strings;
	const ElfW(Sym) * symbols;
	const ElfW(Rela) * rela[2];
	size_t rela_size[2]; /* bytes */
} Tables;

/* Most C libraries have made these addresses absolute, some have not. */
static const void *
table_address(const struct dl_phdr_info *object, ElfW(Addr) value)
{
	return (const void *) (value < object->dlpi_addr ? value + object->dlpi_addr : value);
}

static void
find_tables(const struct dl_phdr_info *object, const ElfW(Dyn) * dynamic, Tables *tables)
{
	for (; dynamic->d_tag != DT_NULL; dynamic++)
	{
		switch (dynamic->d_tag)
		{
			case DT_STRTAB:
				tables->strings = table_address(object, dynamic->d_un.d_ptr);
				break;
			case DT_SYMTAB:
				tables->symbols = table_address(object, dynamic->d_un.d_ptr);
				break;
			case DT_JMPREL:
				tables->rela[0] = table_address(object, dynamic->d_un.d_ptr);
				break;
			case DT_PLTRELSZ:
				tables->rela_size[0] = dynamic->d_un.d_val;
				break;
			case DT_RELA:
				tables->rela[1] = table_address(object, dynamic->d_un.d_ptr);
				break;
			case DT_RELASZ:
				tables->rela_size[1] = dynamic->d_un.d_val;
				break;
		}
	}
}

/* Did the linker make the page read-only after it had filled the entries? */
static bool
page_is_relro(const struct dl_phdr_info *object, uintptr_t page, uintptr_t page_size)
{
	for (int i = 0; i < object->dlpi_phnum; i++)
	{
		const ElfW(Phdr) *header = &object->dlpi_phdr[i];
		uintptr_t start = object->dlpi_addr + header->p_vaddr;
		uintptr_t end = start + header->p_memsz;

		/* as the dynamic linker does: whole pages only */
		if (header->p_type == PT_GNU_RELRO && page >= (start & ~(page_size - 1)) &&
			page + page_size <= (end & ~(page_size - 1)))
			return true;
	}
	return false;
}

static bool
replace_entry(const struct dl_phdr_info *object, void **entry, void *replacement)
{
	uintptr_t page_size = sysconf(_SC_PAGESIZE);
	uintptr_t page = (uintptr_t) entry & ~(page_size - 1);

	if (mprotect((void *) page, page_size, PROT_READ | PROT_WRITE) != 0)
		return false;
	*entry = replacement;
	if (page_is_relro(object, page, page_size))
		(void) mprotect((void *) page, page_size, PROT_READ);
	return true;
}

/* Called for the main program first; returning 1 ends the iteration there. */
static int
search_object(struct dl_phdr_info *object, size_t size, void *arg)
{
	Search *search = arg;
	Tables tables = {0};

	(void) size;
	for (int i = 0; i < object->dlpi_phnum; i++)
	{
		const ElfW(Phdr) *header = &object->dlpi_phdr[i];

		if (header->p_type == PT_DYNAMIC)
			find_tables(object, (const ElfW(Dyn) *) (object->dlpi_addr + header->p_vaddr), &tables);
	}
	if (tables.strings == NULL || tables.symbols == NULL)
		return 1;
	for (int t = 0; t < 2; t++)
	{
		size_t count = tables.rela[t] != NULL ? tables.rela_size[t] / sizeof(ElfW(Rela)) : 0;

		for (size_t i = 0; i < count; i++)
		{
			const ElfW(Rela) *rela = &tables.rela[t][i];
			const ElfW(Sym) *symbol = &tables.symbols[ELF64_R_SYM(rela->r_info)];

			if (!IS_FUNCTION_ENTRY(ELF64_R_TYPE(rela->r_info)) ||
				strcmp(tables.strings + symbol->st_name, search->name) != 0)
				continue;
			if (!replace_entry(object, (void **) (object->dlpi_addr + rela->r_offset),
							   search->replacement))
			{
				search->replaced = -1;
				return 1;
			}
			search->replaced++;
		}
	}
	return 1;
}

int
got_replace(const char *name, void *replacement)
{
	Search search = {name, replacement, 0};

	(void) dl_iterate_phdr(search_object, &search);
	return search.replaced;
}

/*
 * Not dlsym(RTLD_NEXT): for a library that was loaded by dlopen() that looks
 * only behind it, among its own dependencies, and so past LD_PRELOAD.  The
 * ordinary search begins with the main program, which may give the address of
 * its own stub for the function; that leads to the entry we have replaced.
 */
void *
got_real(const char *name)
{
	void *function = dlsym(RTLD_DEFAULT, name);
	Dl_info program;
	Dl_info found;

	if (function != NULL && dladdr((void *) getauxval(AT_ENTRY), &program) != 0 &&
		dladdr(function, &found) != 0 && found.dli_fbase == program.dli_fbase)
		function = dlsym(RTLD_NEXT, name);
	return function;
}
