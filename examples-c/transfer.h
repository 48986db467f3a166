/* Moving many blobs at once. */
#ifndef TRANSFER_H
#define TRANSFER_H

#include <registry_transport.h>

#include "layout.h"

struct blob {
    struct descriptor d;
    char *path; /* its file */
    rt_op *op;  /* its own, so that it can be watched and cancelled */
    int done;   /* nothing is left to do for it */
};

/* Blobs, none of them twice. Zeroed is empty. */
struct blobs {
    struct blob *at;
    size_t count, room;
};

/* Adds the blob that descriptor describes, with its place in the layout in directory; *added is NULL if the list has it
 * already. The descriptor must outlive the list. Returns 0, or -1 after telling why. */
int blobs_add(struct blobs *list, const json *descriptor, const char *directory, struct blob **added);
int64_t blobs_size(const struct blobs *list);
void blobs_free(struct blobs *list);

/* Moves one blob, in one direction or the other. Runs on several threads at once. */
typedef rt_status move_blob(const rt_transport *t, const struct blob *b, rt_error **err);

/* Moves what is not done with up to jobs threads. Unless quiet it tells of each blob, or if bar is not 0 and this is a
 * terminal, draws a progress bar. Ends early when one fails or the user presses Ctrl-C. Returns 0, or -1 after telling
 * why. */
int transfer(const rt_transport *t, struct blobs *blobs, move_blob *move, int jobs, int quiet, int bar);

#endif
