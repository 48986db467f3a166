/* Which entry of a multi-platform index is ours. */
#ifndef PLATFORM_H
#define PLATFORM_H

#include "json.h"

struct platform {
    char os[32], arch[32], variant[32]; /* in the words of Go and of the image specification */
};

/* The machine this runs on. */
void platform_here(struct platform *out);
/* Takes "os/arch[/variant]" apart. Returns 0, or -1 after telling that it is none. */
int platform_parse(const char *text, struct platform *out);
/* The descriptor in index that fits, or NULL after telling which platforms there are. */
const json *platform_select(const json *index, const struct platform *want);

#endif
