/*
 * ini_lines.h
 *		A configuration file as a list of its settings, each with its line.
 *
 * libinih does the parsing; this adds what an administrator needs to find an error (line numbers,
 * which Debian's libinih does not give) and refuses what inih would silently change: a section or
 * key that is there twice, an overlong line, a comment behind a value, an empty value.
 */
#ifndef TANDEM_INI_LINES_H
#define TANDEM_INI_LINES_H

#include <stdbool.h>
#include <stddef.h>

typedef struct IniLine
{
	int line;
	char *section; /* "node" of [node n1] */
	char *name;    /* "n1", else "" */
	char *key;     /* NULL: the line of the section itself */
	char *value;
} IniLine;

typedef struct IniLines
{
	int n;
	IniLine *line;
} IniLines;

/* False with "FILE:LINE: what is wrong" in error; free it in both cases. */
extern bool ini_lines_read(IniLines *lines, const char *path, char *error, size_t error_size);
extern void ini_lines_free(IniLines *lines);
/* The line of a section (key NULL) or setting, or NULL. */
extern const IniLine *
ini_lines_find(const IniLines *lines, const char *section, const char *name, const char *key);

#endif /* TANDEM_INI_LINES_H */
