/*
 * ini_lines.c
 *		A configuration file as a list of its settings.  tandemd and tandemctl link it.
 */
#include "ini_lines.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LINE 4096

/* What reading needs; inih hands it to both callbacks. */
typedef struct Reader
{
	IniLines *lines;
	const char *path;
	FILE *file;
	int line; /* the one inih has now */
	char *error;
	size_t error_size;
	bool failed;
} Reader;

static void fail(Reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The first error is kept, and ends the reading. */
static void
fail(Reader *r, const char *format, ...)
{
	va_list args;
	int n;

	if (r->failed)
		return;
	r->failed = true;
	n = snprintf(r->error, r->error_size, "%s:%d: ", r->path, r->line);
	va_start(args, format);
	if (n >= 0 && (size_t) n < r->error_size)
		vsnprintf(r->error + n, r->error_size - n, format, args);
	va_end(args);
}

static bool
add(Reader *r, const char *section, const char *name, const char *key, const char *value)
{
	IniLines *l = r->lines;
	const IniLine *earlier = ini_lines_find(l, section, name, key);
	IniLine *bigger;
	IniLine *new;

	if (earlier != NULL)
	{
		if (key == NULL)
			fail(r, "[%s%s%s]: is there already, in line %d", section, *name ? " " : "", name,
				 earlier->line);
		else
			fail(r, "%s%s%s.%s: is set already, in line %d", section, *name ? " " : "", name, key,
				 earlier->line);
		return false;
	}
	bigger = realloc(l->line, (l->n + 1) * sizeof(IniLine));
	if (bigger == NULL)
	{
		fail(r, "out of memory");
		return false;
	}
	l->line = bigger;
	new = &l->line[l->n];
	new->line = r->line;
	new->section = strdup(section);
	new->name = strdup(name);
	new->key = key != NULL ? strdup(key) : NULL;
	new->value = value != NULL ? strdup(value) : NULL;
	l->n++;
	if (new->section == NULL || new->name == NULL || (key != NULL && new->key == NULL) ||
		(value != NULL && new->value == NULL))
	{
		fail(r, "out of memory");
		return false;
	}
	return true;
}

/* "node n1" into "node" and "n1"; blanks between do not matter. */
static void
split(const char *text, char *section, char *name)
{
	size_t n = strcspn(text, " \t");

	memcpy(section, text, n);
	section[n] = '\0';
	text += n;
	text += strspn(text, " \t");
	strcpy(name, text);
	n = strlen(name);
	while (n > 0 && isspace((unsigned char) name[n - 1]))
		name[--n] = '\0';
}

/* A line "[...]": inih tells of a section only with its first key, and ignores what follows it. */
static bool
section_line(Reader *r, const char *line)
{
	char text[MAX_LINE];
	char section[MAX_LINE];
	char name[MAX_LINE];
	const char *end = strchr(line, ']');
	const char *rest;

	if (end == NULL)
	{
		fail(r, "a section ends with \"]\"");
		return false;
	}
	rest = end + 1 + strspn(end + 1, " \t\r\n");
	if (*rest != '\0')
	{
		fail(r, "nothing may follow the \"]\" of a section");
		return false;
	}
	line += 1 + strspn(line + 1, " \t");
	if (line >= end)
	{
		fail(r, "a section needs a name");
		return false;
	}
	memcpy(text, line, end - line);
	text[end - line] = '\0';
	split(text, section, name);
	return add(r, section, name, NULL, NULL);
}

/*
 * inih's reader, like fgets().  Blanks before the text go: inih would take an indented line for
 * more of the line before.
 */
static char *
read_line(char *buf, int size, void *user)
{
	Reader *r = user;
	size_t n;
	size_t blanks;

	if (r->failed || fgets(buf, size, r->file) == NULL)
		return NULL;
	r->line++;
	n = strlen(buf);
	if (n == 0 || (buf[n - 1] != '\n' && !feof(r->file)))
	{
		fail(r, n == 0 ? "contains a byte 0" : "line is too long");
		return NULL;
	}
	blanks = strspn(buf, " \t");
	memmove(buf, buf + blanks, n - blanks + 1);
	if (buf[0] == '[' && !section_line(r, buf))
		return NULL;
	if (buf[0] == '=' || buf[0] == ':')
	{
		fail(r, "a setting needs a name before the \"=\"");
		return NULL;
	}
	return buf;
}

/* inih's handler: 1 = go on. */
static int
setting(void *user, const char *text, const char *key, const char *value)
{
	Reader *r = user;
	char section[MAX_LINE];
	char name[MAX_LINE];

	if (r->failed)
		return 0;
	if (text[0] == '\0')
	{
		fail(r, "%s: is in no section", key);
		return 0;
	}
	/* inih cuts long names of sections: ours are those of the section's own line */
	snprintf(section, sizeof(section), "%s", r->lines->line[r->lines->n - 1].section);
	snprintf(name, sizeof(name), "%s", r->lines->line[r->lines->n - 1].name);
	if (value[0] == '\0')
		fail(r, "%s%s%s.%s: has no value; leave it out for the default", section, *name ? " " : "",
			 name, key);
	for (const char *p = value; *p != '\0' && !r->failed; p++)
	{
		if (isspace((unsigned char) p[0]) && (p[1] == ';' || p[1] == '#'))
			fail(r, "%s%s%s.%s: a comment stands in a line of its own", section, *name ? " " : "",
				 name, key);
	}
	return !r->failed && add(r, section, name, key, value);
}

bool
ini_lines_read(IniLines *lines, const char *path, char *error, size_t error_size)
{
	Reader r = {.lines = lines, .path = path, .error = error, .error_size = error_size};
	int result;

	memset(lines, 0, sizeof(*lines));
	r.file = fopen(path, "re");
	if (r.file == NULL)
	{
		snprintf(error, error_size, "could not open file \"%s\": %s", path, strerror(errno));
		return false;
	}
	ini_use_stack = false;
	ini_initial_alloc = MAX_LINE;
	ini_max_line = MAX_LINE;
	ini_allow_multiline = false;
	ini_allow_inline_comments = false;
	ini_stop_on_first_error = true;
	result = ini_parse_stream(read_line, &r, setting, &r);
	if (ferror(r.file))
		fail(&r, "could not read: %s", strerror(errno));
	if (result == -2)
		fail(&r, "out of memory");
	if (result > 0)
		fail(&r, "is neither a [section] nor a setting (KEY = VALUE)");
	fclose(r.file);
	return !r.failed;
}

void
ini_lines_free(IniLines *lines)
{
	for (int i = 0; i < lines->n; i++)
	{
		free(lines->line[i].section);
		free(lines->line[i].name);
		free(lines->line[i].key);
		free(lines->line[i].value);
	}
	free(lines->line);
	memset(lines, 0, sizeof(*lines));
}

const IniLine *
ini_lines_find(const IniLines *lines, const char *section, const char *name, const char *key)
{
	for (int i = 0; i < lines->n; i++)
	{
		const IniLine *l = &lines->line[i];

		if (strcmp(l->section, section) == 0 && strcmp(l->name, name) == 0 &&
			(key == NULL ? l->key == NULL : l->key != NULL && strcmp(l->key, key) == 0))
			return l;
	}
	return NULL;
}
