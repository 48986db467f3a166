/* Fetching many blobs at once. */
#ifndef FETCH_H
#define FETCH_H

#include <registry_transport.h>

#include "layout.h"

struct blob {
    struct descriptor d;
    char *path; /* where it goes */
    rt_op *op;  /* its own, so that it can be watched and cancelled */
    int here;   /* is in its place already; set when it was fetched, too */
};

/* Fetches what is not here with up to jobs threads. Unless quiet it tells of each blob, or if bar is not 0 and this
 * is a terminal, draws a progress bar. Ends early when one fails or the user presses Ctrl-C. Returns 0, or -1 after
 * telling why. */
int fetch_blobs(const rt_transport *t, struct blob *blobs, size_t count, int jobs, int quiet, int bar);

#endif
